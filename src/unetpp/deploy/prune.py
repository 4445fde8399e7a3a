"""Pruning: a smaller, independent model file that predicts what the full one predicts at a depth (Zhou et al. 2018, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from unetpp.deploy.finetune import finetune
from unetpp.errors import ModelFileError, UsageError
from unetpp.files import written_aside
from unetpp.measured import DepthRow, FineTuning, Notes, read_metrics
from unetpp.model.build import pruned_plan
from unetpp.model.file import load_model, save_model
from unetpp.model.network import UNetPlusPlus
from unetpp.plan import Plan
from unetpp.results import Pruned
from unetpp.run_folder import METRICS_FILE
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


def choose_depth(rows: Mapping[int, DepthRow], max_drop: float) -> tuple[int, str]:
    """The smallest depth that loses at most `max_drop` points (hundredths) of Dice against the deepest, and why.

    Where the loss has an interval over the validation cases, its upper end is what counts.

    Args:
        rows: depth -> its row of the depth table; those without a Dice are left out.
        max_drop: in points: 0.5 allows 0.905 where the deepest has 0.910.
    """
    dice = {depth: row.dice for depth, row in rows.items() if row.dice is not None}
    deepest = max(dice)
    means = {depth: 100 * (dice[deepest] - value) for depth, value in dice.items()}
    intervals = {depth: rows[depth].dice_lost_interval for depth in dice}
    worst = {
        depth: max(mean, 100 * interval[1]) if (interval := intervals[depth]) else mean for depth, mean in means.items()
    }
    depth = min(depth for depth in dice if depth == deepest or worst[depth] <= max_drop + 1e-7)
    reason = f"validation Dice {dice[depth]:.4f}"
    if depth != deepest:
        reason += f", {abs(means[depth]):.2f} points {'below' if means[depth] >= 0 else 'above'} depth {deepest}"
        reason += f" and by the 95 % interval over cases at most {worst[depth]:.2f}" if intervals[depth] else ""
    return depth, f"{reason}; {max_drop:g} points below were allowed"


def _wanted_depth(
    model: Path, network: UNetPlusPlus, notes: Notes, depth: int | None, max_drop: float | None
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


def _validation_rows(model: Path, network: UNetPlusPlus, notes: Notes) -> dict[int, DepthRow]:
    """Scores of each depth on the validation cases: of metrics.json beside the model, else of the model's own notes."""
    beside = model.parent / METRICS_FILE
    for table in (read_metrics(beside), notes):
        found = {depth: row for depth, row in table.depths.items() if row.dice is not None} if table else {}
        if set(network.head_depths) <= set(found):
            return {depth: found[depth] for depth in network.head_depths}
    got = f"{model}, which has no validation scores of every depth, and no {beside.name} beside it"
    raise UsageError("max_drop", got, "either", "Choose with `depth`.")


def _notes_at_depth(notes: Notes, depth_before: int, depth: int, finetuning: FineTuning | None) -> Notes:
    row = notes.depths.get(depth)
    of_several_heads = {"mean_of_heads", "auto"}
    kept = notes.model_dump(exclude_unset=True, exclude={*of_several_heads, "depths"})
    if finetuning:
        costs = row.costs() if row else DepthRow()  # other scores are of the weights before
        row, kept["finetuning"] = DepthRow(dice=finetuning.dice).merge(costs), finetuning
    if row and "dice" in kept:
        kept["dice"] = row.dice
    return Notes(**{**kept, "pruned_from_depth": depth_before, "depths": {depth: row} if row else {}})


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
