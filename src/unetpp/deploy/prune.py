"""Pruning: a smaller, independent model file that predicts what the full one predicts at a depth (Zhou et al. 2018, section 3.3)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from unetpp.deploy.finetune import FineTuning, finetune
from unetpp.errors import ModelFileError, UsageError
from unetpp.files import written_aside
from unetpp.measure.depth_table import COST_NAMES
from unetpp.model.build import pruned_plan
from unetpp.model.file import load_model, save_model
from unetpp.model.network import UNetPlusPlus
from unetpp.plan import Plan
from unetpp.results import Pruned
from unetpp.runtime.device import choose_device
from unetpp.train.trainer import Status

TOLERANCE = 1e-5
"""Largest relative difference between the outputs of the pruned and the full network that rounding explains."""


def prune_file(
    model: Path,
    out: Path,
    depth: int | None = None,
    max_drop: float | None = None,
    minutes: float | None = None,
    device: str = "auto",
    show: Callable[[Status], None] = lambda status: None,
) -> Pruned:
    """Write the part of a model that one depth needs; what was written is loaded and compared with the full network before this returns.

    Args:
        model: a .safetensors of this package.
        out: where the smaller one goes.
        depth: the depth to keep.
        max_drop: or, instead, the smallest depth that loses at most so many points (hundredths) of validation Dice against the deepest, by the 95 % interval
            over cases.
        minutes: of training of the smaller network, on the cases of the run that `model` lies in; None: it is as it is.
        device: to train on.
        show: called now and then while it trains.

    Raises:
        UsageError: not exactly one of `depth` and `max_drop`, no such depth, no scores to choose a depth by, or no cases to train on.
        ModelFileError: the file cannot be used, or what was written does not agree with it.
        WriteError: it could not be written; what was at `out` is intact.
    """
    network, header = load_model(model)
    depth, reason = _wanted_depth(model, network, header.notes, depth, max_drop)
    smaller, plan, finetuning = network.prune(depth), plan_at_depth(header.plan, depth), None
    if minutes is not None:
        smaller, finetuning = finetune(smaller, plan, model, minutes, choose_device(device), show)
    changed = finetuning is not None and finetuning.dice > finetuning.dice_before
    with written_aside(out) as aside:
        save_model(
            aside,
            smaller.state_dict(),
            plan,
            _notes_at_depth(header.notes, network.depth, depth, finetuning if changed else None),
        )
        difference = _compare(smaller.eval() if changed else network, aside, None if changed else depth, header.plan)
    told = None if finetuning is None else str(finetuning)
    return Pruned(out, depth, _count(smaller), _count(network), reason, difference, told)


def plan_at_depth(plan: Plan, depth: int) -> Plan:
    """The plan of the pruned network."""
    weights = plan.train.head_weights
    values = plan.model_dump()
    values["model"] = pruned_plan(plan.model, depth).model_dump()
    values["predict"]["depth"] = depth
    values["train"]["head_weights"] = weights if weights == "equal" else weights[:depth]
    values["reasons"]["model.depth"] = f"pruned from depth {plan.model.depth}"
    return Plan.from_dict(values)


def choose_depth(rows: Mapping[int, Mapping[str, Any]], max_drop: float) -> tuple[int, str]:
    """The smallest depth that loses at most `max_drop` points (hundredths) of Dice against the deepest, and why.

    Where the loss has an interval over the validation cases, its upper end is what counts.

    Args:
        rows: depth -> its row of the depth table: `dice` (0 to 1) and, where it is known, `dice_lost_interval`.
        max_drop: in points: 0.5 allows 0.905 where the deepest has 0.910.
    """
    deepest = max(rows)
    means = {depth: 100 * (rows[deepest]["dice"] - row["dice"]) for depth, row in rows.items()}
    worst = {
        depth: max(means[depth], 100 * interval[1]) if (interval := row.get("dice_lost_interval")) else means[depth]
        for depth, row in rows.items()
    }
    depth = min(depth for depth in rows if depth == deepest or worst[depth] <= max_drop + 1e-7)
    reason = f"validation Dice {rows[depth]['dice']:.4f}"
    if depth != deepest:
        reason += f", {abs(means[depth]):.2f} points {'below' if means[depth] >= 0 else 'above'} depth {deepest}"
        reason += (
            f" and by the 95 % interval over cases at most {worst[depth]:.2f}"
            if rows[depth].get("dice_lost_interval")
            else ""
        )
    return depth, f"{reason}; {max_drop:g} points below were allowed"


def _wanted_depth(
    model: Path, network: UNetPlusPlus, notes: Mapping[str, Any], depth: int | None, max_drop: float | None
) -> tuple[int, str]:
    if (depth is None) == (max_drop is None):
        raise UsageError(
            "`depth`, `max_drop`",
            "both or neither",
            "one of them",
            "Name the depth to keep, or how many points of Dice may be lost.",
            setting="depth",
        )
    if max_drop is not None:
        if max_drop < 0:
            raise UsageError("max_drop", f"{max_drop:g}", "0 or more points of Dice")
        return choose_depth(_validation_rows(model, network, notes), max_drop)
    if depth not in network.head_depths:
        heads = f"one of {list(network.head_depths)}, the depths at which {model} has a head"
        raise UsageError("depth", str(depth), heads)
    return int(depth or 0), "as asked for"


def _validation_rows(model: Path, network: UNetPlusPlus, notes: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    """Scores of each depth on the validation cases: of metrics.json beside the model, else of the model's own notes."""
    beside = model.parent / "metrics.json"
    for depths in (_read_depths(beside), notes.get("depths")):
        found = {int(depth): row for depth, row in (depths or {}).items() if isinstance(row.get("dice"), float)}
        if set(network.head_depths) <= set(found):
            return {depth: found[depth] for depth in network.head_depths}
    got = f"{model}, which has no validation scores of every depth, and no {beside.name} beside it"
    raise UsageError("max_drop", got, "either", "Choose with `depth`.")


def _read_depths(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8")).get("depths")
    except (OSError, ValueError, AttributeError):
        return None


def _notes_at_depth(
    notes: Mapping[str, Any], depth_before: int, depth: int, finetuning: FineTuning | None
) -> dict[str, Any]:
    row = (notes.get("depths") or {}).get(str(depth))
    kept = {**notes, "pruned_from_depth": depth_before, "depths": {str(depth): row} if row else {}}
    for key in ("mean_of_heads", "auto"):  # of several heads
        kept.pop(key, None)
    if finetuning:
        kept["finetuning"] = asdict(finetuning)
        row = {"dice": finetuning.dice} | {
            key: value for key, value in (row or {}).items() if key in COST_NAMES
        }  # other scores are of the weights before
        kept["depths"] = {str(depth): row}
    if row and "dice" in kept:
        kept["dice"] = row.get("dice")
    return kept


def _compare(network: UNetPlusPlus, written: Path, depth: int | None, plan: Plan) -> float:
    smaller, _ = load_model(written)
    sizes = [min(size, 64) - 1 for size in plan.predict.tile]  # odd sizes: they also try the padding and cropping
    image = torch.randn(1, plan.model.in_channels, *sizes, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, got = network(image, depth=depth), smaller(image)
    difference = float((expected - got).abs().max())
    if not difference <= TOLERANCE * max(1.0, float(expected.abs().max())):
        got = f"a pruned network whose output differs by {difference:g} from that in memory"
        raise ModelFileError(written, got, "the same", "Please report this.")
    return difference


def _count(network: UNetPlusPlus) -> int:
    return sum(weight.numel() for weight in network.parameters())
