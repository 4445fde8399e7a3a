"""`last.ckpt`: all that a run needs to go on as if it had never stopped, as tensors and JSON (a .safetensors; no pickle)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from unetpp.errors import ModelFileError
from unetpp.model.file import read_tensors, write_tensors
from unetpp.model.header import read_safetensors_header
from unetpp.plan import Plan
from unetpp.train.optimizer import match_layouts

CHECKPOINT_VERSION = "1"


@dataclass
class Progress:
    """Where a training stands. Whatever else decides the next step is drawn anew from (seed, step)."""

    step: int = 0
    """Steps that are done."""
    elapsed_s: float = 0.0
    """Seconds of training, over all sessions."""
    budget_s: float | None = None
    """Length of the schedule in seconds, where a time was given."""
    validation_cases: int | None = None
    """How many cases are scored during training: the best weights are those that are best on the same cases."""
    best_dice: float = -1.0
    best_step: int = 0
    validations: int = 0
    without_gain: int = 0
    """Validations since the best one."""
    finished: str = ""
    """Why training ended; empty while it has not."""


def save_checkpoint(
    path: Path,
    plan: Plan,
    progress: Progress,
    network: nn.Module,
    average: nn.Module,
    optimizer: Optimizer,
    scaler: GradScaler,
) -> None:
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    metadata = {
        "unetpp_checkpoint": CHECKPOINT_VERSION,
        "plan": plan.to_json(),
        "progress": json.dumps(asdict(progress)),
        "scaler": json.dumps(scaler.state_dict()),
    }
    write_tensors(path, tensors, metadata)


def read_progress(path: Path) -> Progress | None:
    """Where a training stands, from the head of its checkpoint; None where there is none.

    Raises:
        ModelFileError: truncated, or of another version.
    """
    return Progress(**json.loads(_metadata(path)["progress"])) if path.exists() else None


def load_checkpoint(
    path: Path, plan: Plan, network: nn.Module, average: nn.Module, optimizer: Optimizer, scaler: GradScaler
) -> Progress:
    """Put everything back where it was and say where training stands.

    Raises:
        ModelFileError: truncated, of another version, or made with another plan.
    """
    metadata = _metadata(path)
    _require_same_plan(path, Plan.from_json(metadata["plan"], str(path)), plan)
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimizer": {}}
    for name, value in read_tensors(path).items():
        part, rest = name.split(".", 1)
        parts[part][rest] = value
    network.load_state_dict(parts["network"])
    average.load_state_dict(parts["average"])
    state: dict[int, dict[str, Any]] = {}
    for name, value in parts["optimizer"].items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    match_layouts(optimizer)  # the file's is another one, and its memory is mapped
    if scale := json.loads(metadata.get("scaler", "{}")):  # without one where the arithmetic is not float16
        scaler.load_state_dict(scale)
    return Progress(**json.loads(metadata["progress"]))


def _metadata(path: Path) -> dict[str, str]:
    metadata, _ = read_safetensors_header(path)
    if metadata.get("unetpp_checkpoint") != CHECKPOINT_VERSION:
        raise ModelFileError(
            f"{path}: got no checkpoint of this version of unetpp; expected version {CHECKPOINT_VERSION}. Train into another --out."
        )
    return metadata


def _require_same_plan(path: Path, began: Plan, now: Plan) -> None:
    """Half a run with one plan and half with another would be neither."""
    changed = began.differences(now)
    if changed:
        raise ModelFileError(
            f"{path}: got a plan that differs from the one this training began with in {', '.join(changed)}. Undo the change in plan.json, or train into another --out."
        )
