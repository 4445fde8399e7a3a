"""`last.ckpt`: the complete state of a training, as tensors and JSON (a .safetensors; no pickle)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from unetpp.errors import ModelFileError
from unetpp.json_files import parse_json
from unetpp.model.file import read_tensors, write_tensors
from unetpp.model.header import read_safetensors_header
from unetpp.plan import Plan
from unetpp.train.optimizer import match_memory_formats
from unetpp.train.step import TrainingStep

CHOOSE_SIZE = "Give `depth` or `size` to `unetpp predict` each time, or keep that size alone with `unetpp prune`."
"""What to do for another depth of prediction than that of a trained run, by which its scores are."""
CHECKPOINT_VERSION = "1"


@dataclass(config=ConfigDict(extra="forbid", allow_inf_nan=False))
class TrainingState:
    """Position of a training in its schedule. Everything else about the next step is drawn again from (seed, step)."""

    step: int = 0
    """Number of steps done."""
    elapsed_s: float = 0.0
    """Seconds of training, over all sessions."""
    budget_s: float | None = None
    """Length of the schedule in seconds; null: the plan's epochs."""
    validation_cases: int | None = None
    """Number of cases scored during training; the same after resuming, so that scores stay comparable."""
    best_dice: float = -1.0
    """Highest validation Dice of the deepest head."""
    best_step: int = 0
    """Number of steps after which `best_dice` was reached."""
    validations: int = 0
    """Number of validations done, skipped ones included."""
    without_gain: int = 0
    """Number of validations since the best one."""
    finished: str = ""
    """Why training ended; empty before that."""
    first_step: int = 0
    """Number of steps done before the schedule began: above 0 in a training that was extended."""
    first_s: float = 0.0
    """Seconds of training before the schedule began."""
    first_validation: int = 0
    """Number of validations done before the schedule began."""
    epochs: int | None = None
    """Length of the schedule in epochs, in a training that was extended by them; null: the plan's."""
    rate: float = 1.0
    """Learning rates as a fraction of the plan's."""
    phase: Annotated[int, Field(ge=0)] = 0
    """Number of the phase of growth, see `train.growth`."""
    phase_step: int = 0
    """Number of steps done before the phase began."""
    grown_at: float = 0.0
    """Completed fraction of the schedule when the phase began; 0: no shell has joined in this schedule."""

    def begin_phase(self, phase: int, fraction: float) -> None:
        """Begin a phase of growth: the best weights are chosen anew, and patience starts anew.

        Args:
            phase: its number.
            fraction: completed fraction of the schedule.
        """
        self.phase, self.phase_step, self.grown_at = phase, self.step, fraction
        self.best_dice, self.without_gain = -1.0, 0

    def extend(self, budget_s: float | None, epochs: int | None, rate: float) -> None:
        """Begin another schedule after the end of one: the best score stays, patience starts anew.

        Args:
            budget_s: its length in seconds; None: `epochs`.
            epochs: its length in epochs.
            rate: learning rates as a fraction of the plan's.
        """
        self.first_step, self.first_s, self.first_validation = self.step, self.elapsed_s, self.validations
        self.budget_s, self.epochs, self.rate = budget_s, epochs, rate
        self.without_gain, self.finished, self.grown_at = 0, "", 0.0


_STATE = TypeAdapter(TrainingState)


def save_checkpoint(
    path: Path, plan: Plan, state: TrainingState, step: TrainingStep, whole: nn.Module | None = None
) -> None:
    """Write the weights, their moving average, the optimizer's state and the position in the schedule.

    Args:
        path: of the checkpoint.
        plan: stored with it; `load_checkpoint` requires the same.
        state: position in the schedule.
        step: holds the network, its average, the optimizer and the gradient scaler.
        whole: the whole network, if the network of `step` is an inner part that will grow into it.

    Raises:
        WriteError: the file cannot be written; an earlier checkpoint at `path` is intact.
    """
    tensors = {f"network.{name}": value for name, value in step.network.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in step.average.state_dict().items()}
    if whole is not None and whole is not step.network:
        tensors |= {f"whole.{name}": value for name, value in whole.state_dict().items()}
    for index, values in step.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
    metadata = {
        "unetpp_checkpoint": CHECKPOINT_VERSION,
        "plan": plan.to_json(),
        "progress": json.dumps(asdict(state)),
        "scaler": json.dumps(step.scaler.state_dict()),
    }
    write_tensors(path, tensors, metadata)


def read_training_state(path: Path) -> TrainingState | None:
    """Read the position of a training from the header of its checkpoint; None if there is no checkpoint.

    Raises:
        ModelFileError: the file is truncated or of another version.
    """
    return _read_state(path, _read_metadata(path)) if path.exists() else None


def load_checkpoint(path: Path, plan: Plan, step: TrainingStep, whole: nn.Module | None = None) -> TrainingState:
    """Restore a training.

    Args:
        path: of the checkpoint.
        plan: has to be the one that training began with.
        step: its network, average, optimizer and gradient scaler are overwritten; of the phase in the checkpoint.
        whole: the whole network, which is overwritten too if that of `step` is an inner part.

    Returns:
        The position in the schedule.

    Raises:
        ModelFileError: the file is truncated, of another version, or made with another plan.
    """
    metadata = _read_metadata(path)
    _require_same_plan(path, Plan.from_json(metadata["plan"], str(path)), plan)
    position = _read_state(path, metadata)
    if position.phase > len(plan.train.growth):
        _raise_unusable(path, f"phase {position.phase} of {len(plan.train.growth)}")
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimizer": {}, "whole": {}}
    for name, value in read_tensors(path).items():
        part, rest = name.split(".", 1)
        parts[part][rest] = value
    step.network.load_state_dict(parts["network"])
    step.average.load_state_dict(parts["average"])
    if whole is not None and parts["whole"]:
        whole.load_state_dict(parts["whole"])
    state: dict[int, dict[str, Any]] = {}
    for name, value in parts["optimizer"].items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    step.optimizer.load_state_dict({"state": state, "param_groups": step.optimizer.state_dict()["param_groups"]})
    match_memory_formats(step.optimizer)  # tensors of a file are contiguous, and their memory is mapped
    if scale := parse_json(metadata.get("scaler", "{}")):  # empty unless the precision is float16
        step.scaler.load_state_dict(scale)
    return position


def _read_state(path: Path, metadata: Mapping[str, str]) -> TrainingState:
    try:
        return _STATE.validate_python(parse_json(metadata.get("progress", "")))
    except ValueError as error:
        _raise_unusable(path, error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error))


def _raise_unusable(path: Path, reason: str) -> NoReturn:
    got, action = f"a position in the schedule that cannot be used ({reason})", "Choose another `out`."
    raise ModelFileError(path, got, "that of a training of this version", action) from None


def _read_metadata(path: Path) -> dict[str, str]:
    metadata, _ = read_safetensors_header(path)
    if metadata.get("unetpp_checkpoint") != CHECKPOINT_VERSION:
        expected = f"version {CHECKPOINT_VERSION}"
        raise ModelFileError(path, "no checkpoint of this version of unetpp", expected, "Choose another `out`.")
    return metadata


def _require_same_plan(path: Path, began: Plan, now: Plan) -> None:
    """Refuse to continue a training with another plan."""
    if changed := began.differences(now):
        got, expected = f"a plan that differs in {', '.join(changed)}", "the plan that this training began with"
        action = "Undo the change in plan.json, or choose another `out`."
        raise ModelFileError(path, got, expected, f"{action} {CHOOSE_SIZE}" if "predict.depth" in changed else action)
