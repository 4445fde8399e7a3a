"""Pruning: a smaller, independent model file with the predictions of one depth (Zhou et al. 2018, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from unetpp.deploy.finetune import finetune
from unetpp.errors import ModelFileError, UsageError
from unetpp.files import write_atomically
from unetpp.measure.choose_depth import choose_depth
from unetpp.measured import DepthRow, FineTuning, Notes, read_metrics
from unetpp.model.file import load_model, save_model
from unetpp.model.network import UNetPlusPlus
from unetpp.model.pruned_plan import prune_plan
from unetpp.plan import Plan
from unetpp.results import Pruned
from unetpp.run_folder import METRICS_FILE
from unetpp.runtime.device import choose_device
from unetpp.sizes import find_size
from unetpp.train.trainer import Status

TOLERANCE = 1e-5
"""Largest relative difference between the outputs of the pruned and the full network that is due to rounding."""


def prune_file(
    model: Path,
    out: Path,
    depth: int | None = None,
    max_drop: float | None = None,
    minutes: float | None = None,
    device: str = "auto",
    show: Callable[[Status], None] = lambda status: None,
) -> Pruned:
    """Write the part of a model that one depth needs, after comparing the written file with the full network.

    Args:
        model: a .safetensors of this package.
        out: the smaller model file to write.
        depth: the depth to keep.
        max_drop: instead of `depth`: keep the smallest depth that loses at most so many points (hundredths) of
            validation Dice against the deepest, by the 95 % interval over cases.
        minutes: fine-tune the smaller network for so long, on the cached cases of the run of `model`; None: do not.
        device: device to fine-tune on: auto, cpu, cuda or cuda:K.
        show: called now and then with the status of fine-tuning.

    Returns:
        The depth, why it was chosen, and sizes before and after.

    Raises:
        UsageError: not exactly one of `depth` and `max_drop`, no such depth, no scores to choose a depth by, or no
            cases to train on.
        ModelFileError: the file cannot be used, or the written one differs from it.
        WriteError: it could not be written; a file that was at `out` before is intact.
    """
    network, header = load_model(model)
    depth, reason = _choose_depth(model, network, header.notes, depth, max_drop)
    smaller, plan, finetuning = network.prune(depth), plan_at_depth(header.plan, depth), None
    if minutes is not None:
        smaller, finetuning = finetune(smaller, plan, model, minutes, choose_device(device), show)
    changed = finetuning is not None and finetuning.dice > finetuning.dice_before
    notes = _prune_notes(header.notes, network.depth, depth, finetuning if changed else None)
    with write_atomically(out) as temporary:
        save_model(temporary, smaller.state_dict(), plan, notes)
        reference, at = (smaller.eval(), None) if changed else (network, depth)
        difference = _compare(reference, temporary, at, header.plan)
    after, before = (sum(weight.numel() for weight in each.parameters()) for each in (smaller, network))
    finetuned = None if finetuning is None else str(finetuning)
    return Pruned(out, depth, after, before, reason, difference, finetuned, is_whole=depth == network.depth)


def plan_at_depth(plan: Plan, depth: int) -> Plan:
    """Make the plan of the network pruned at a depth."""
    weights, size = plan.train.head_weights, find_size(depth, plan.model.depth)
    first = depth - size.depth  # of the weights of its shell
    values = plan.model_dump()
    values["model"] = prune_plan(plan.model, depth).model_dump()
    values["predict"]["depth"] = size.depth
    values["train"]["head_weights"] = weights if weights == "equal" else weights[first:depth]
    values["train"]["growth"] = ()
    values["reasons"]["model.depth"] = f"pruned from depth {plan.model.depth}"
    return Plan.from_dict(values)


def _choose_depth(
    model: Path, network: UNetPlusPlus, notes: Notes, depth: int | None, max_drop: float | None
) -> tuple[int, str]:
    if (depth is None) == (max_drop is None):
        action = "Name the depth to keep, or how many points of Dice may be lost."
        raise UsageError(
            "`depth`, `max_drop`", "neither" if depth is None else "both", "one of them", action, setting="depth"
        )
    if max_drop is not None:
        if max_drop < 0:
            raise UsageError("max_drop", f"{max_drop:g}", "0 or more points of Dice", "Change it.")
        rows, partial = _validation_rows(model, network, notes)
        depth, reason = choose_depth(rows, max_drop)
        return depth, f"{reason}; {partial}: `unetpp report` on the run scores the rest" if partial else reason
    if depth not in network.head_depths:
        heads = f"one of {list(network.head_depths)}, the depths at which {model} has a head"
        raise UsageError("depth", str(depth), heads, "Change it.")
    return int(depth or 0), "as requested"


def _validation_rows(model: Path, network: UNetPlusPlus, notes: Notes) -> tuple[dict[int, DepthRow], str]:
    """Find the validation scores of each depth, and say if they are not of all cases.

    They are in metrics.json next to the model, else in the notes of the model.
    """
    for table in (read_metrics(model.with_name(METRICS_FILE)), notes):
        found = {depth: row for depth, row in table.depths.items() if row.dice is not None} if table else {}
        if table and set(network.head_depths) <= set(found):
            return {depth: found[depth] for depth in network.head_depths}, table.describe_scored()
    got = f"{model}, without validation scores of every depth in it or in {METRICS_FILE} next to it"
    raise UsageError("max_drop", got, "scores to choose by", "Choose with `depth`.")


def _prune_notes(notes: Notes, depth_before: int, depth: int, finetuning: FineTuning | None) -> Notes:
    row = notes.depths.get(depth)
    values = notes.model_dump(exclude_unset=True, exclude={"depths", "mean_of_heads", "auto"})  # of several heads
    if finetuning:
        costs = row.costs() if row else DepthRow()  # other scores belong to the original weights
        row, values["finetuning"] = DepthRow(dice=finetuning.dice).merge(costs), finetuning
    if row and "dice" in values:
        values["dice"] = row.dice
    return Notes(**{**values, "pruned_from_depth": depth_before, "depths": {depth: row} if row else {}})


def _compare(network: UNetPlusPlus, written: Path, depth: int | None, plan: Plan) -> float:
    """Largest difference between the logits of a written model and a network at a depth. Raises ModelFileError."""
    smaller, _ = load_model(written)
    sizes = [min(size, 64) - 1 for size in plan.predict.tile]  # odd sizes exercise padding and cropping
    image = torch.randn(1, plan.model.in_channels, *sizes, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, got = network(image, depth=depth), smaller(image)
    difference = float((expected - got).abs().max())
    if not difference <= TOLERANCE * max(1.0, float(expected.abs().max())):
        got = f"a pruned network whose output differs by {difference:g} from that in memory"
        raise ModelFileError(written, got, "the same output", "Please report this.")
    return difference
