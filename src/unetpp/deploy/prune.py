"""Pruning: a smaller, independent model file with the predictions of one size (Zhou et al. 2018, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from unetpp.deploy.finetune import finetune
from unetpp.dial import add_sizes, name_sizes
from unetpp.errors import ModelFileError, UsageError
from unetpp.files import write_atomically
from unetpp.infer.doubts import describe_verdicts
from unetpp.infer.first_stage import require_one_stage
from unetpp.measure.choose_depth import choose_depth, describe_loss, describe_saving
from unetpp.measure.verdict import suggest_for_model
from unetpp.measured import DepthRow, DepthTable
from unetpp.model.file import load_model, save_model
from unetpp.model.header import ModelHeader
from unetpp.model.network import UNetPlusPlus
from unetpp.model.pruned_plan import prune_plan
from unetpp.model.weight_count import count_size_weights, count_weights
from unetpp.model_notes import FineTuning, Notes, has_unlearned, read_metrics
from unetpp.plan import Plan
from unetpp.results import Pruned
from unetpp.run_folder import METRICS_FILE
from unetpp.runtime.device import choose_device
from unetpp.size_names import SizeNames, choose_setting
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
    size: int | str | None = None,
) -> Pruned:
    """Write the part of a model that one size needs, after comparing the written file with the full network.

    Args:
        model: a .safetensors of this package.
        out: the smaller model file to write.
        depth: the depth to keep, of the whole width.
        max_drop: instead of `depth`: keep the smallest size that loses at most so many points (hundredths) of
            validation Dice against the largest, by the 95 % interval over cases.
        minutes: fine-tune the smaller network for so long, on the cached cases of the run of `model`; None: do not.
        device: device to fine-tune on: auto, cpu, cuda or cuda:K.
        show: called now and then with the status of fine-tuning.
        size: instead of `depth`: name of the size to keep.

    Returns:
        The size, why it was chosen, and numbers of parameters before and after.

    Raises:
        UsageError: not exactly one of `depth`, `size` and `max_drop`, no such size, no scores to choose one by, or no
            cases to train on.
        ModelFileError: the file cannot be used, or the written one differs from it.
        WriteError: it could not be written; a file that was at `out` before is intact.
    """
    network, header = load_model(model)
    require_one_stage(header.plan, model, "prune")
    sizes = name_sizes(header.notes, network.head_depths, header.plan.model)
    number, reason = _choose_size(model, sizes, header, (depth, size), max_drop)
    smaller, plan, finetuning = network.prune(number), plan_at_size(header.plan, number), None
    if minutes is not None:
        smaller, finetuning = finetune(smaller, plan, model, minutes, choose_device(device), show)
    changed = finetuning is not None and finetuning.dice > finetuning.dice_before
    notes = _prune_notes(header.notes, sizes, number, plan, finetuning if changed else None)
    before, after = count_weights(network), count_weights(smaller) if changed else count_size_weights(network, number)
    with write_atomically(out) as temporary:
        save_model(temporary, smaller.state_dict(), plan, notes, after)
        reference, at = (smaller.eval(), None) if changed else (network, number)
        difference = _compare(reference, temporary, at, header.plan)
    return Pruned(
        out,
        smaller.depth,
        after,
        before,
        reason,
        difference,
        None if finetuning is None else str(finetuning),
        number == sizes.numbers[-1],
        str(sizes.name(number)),
        describe_verdicts([notes.verdict]),
    )


def plan_at_size(plan: Plan, number: int) -> Plan:
    """Make the plan of the network pruned to a size, by its number: a network of one width."""
    weights, depth = plan.train.head_weights, find_size(number, plan.model.depth).depth
    first = number - depth  # of the weights of its shell
    values = plan.model_dump()
    values["model"] = prune_plan(plan.model, number).model_dump()
    values["predict"]["depth"] = depth
    values["train"]["head_weights"] = weights if weights == "equal" else weights[first:number]
    values["train"]["growth"] = ()
    values["reasons"]["model.depth"] = f"pruned from depth {plan.model.depth}"
    if len(plan.model.shells) > 1:
        values["reasons"]["model.widths"] = f"pruned from a first width of {plan.model.widths[0]}"
        values["reasons"].pop("model.shells", None)
    return Plan.from_dict(values)


def _choose_size(
    model: Path,
    sizes: SizeNames,
    header: ModelHeader,
    wanted: tuple[int | None, int | str | None],
    max_drop: float | None,
) -> tuple[int, str]:
    """Choose the number of a size, by a depth or a size that the user names or by what it loses; say why."""
    scores = _find_scores(model, sizes, header)
    setting, chosen = choose_setting(*wanted), next((each for each in wanted if each is not None), None)
    if (chosen is None) == (max_drop is None):
        action = "Name what to keep, or how many points of Dice may be lost."
        raise UsageError(
            "`depth`, `size`, `max_drop`",
            "none of them" if chosen is None else "several of them",
            "one",
            action,
            setting="size",
        )
    if chosen is not None:
        number = sizes.require(chosen, setting, str(model))
        return number, _describe_choice("as requested", scores, number)
    allowed = max_drop or 0.0
    if allowed < 0:
        raise UsageError("max_drop", f"{allowed:g}", "0 or more points of Dice", "Change it.")
    if has_unlearned([header.notes]):
        next_step = suggest_for_model(model, header.notes.verdict)
        got = f"{model}, a network that has hardly learned: what its {sizes.noun}s lose says nothing"
        action = f"{f'Run `{next_step}`' if next_step else 'Train longer'}, or choose with `{sizes.noun}`."
        raise UsageError("max_drop", got, "scores to choose by", action)
    if scores is None:
        got = f"{model}, without validation scores of every {sizes.noun} in it or in {METRICS_FILE} next to it"
        raise UsageError("max_drop", got, "scores to choose by", f"Choose with `{sizes.noun}`.")
    number, reason = choose_depth(scores.depths, allowed)
    partial, saved = scores.describe_scored(), describe_saving(scores, number)
    reason += f"; {saved}" if saved else ""
    return number, f"{reason}; {partial}: `unetpp report` on the run scores the rest" if partial else reason


def _find_scores(model: Path, sizes: SizeNames, header: ModelHeader) -> DepthTable | None:
    """Find the validation scores of each size: in metrics.json next to the model, else in its notes."""
    for table in (read_metrics(model.with_name(METRICS_FILE)), header.notes):
        found = {depth: row for depth, row in table.depths.items() if row.dice is not None} if table else {}
        if table and set(sizes.numbers) <= set(found):
            rows = {number: found[number] for number in sizes.numbers}
            return add_sizes(DepthTable(depths=rows, scored=table.scored), header.plan.model)
    return None


def _describe_choice(why: str, scores: DepthTable | None, number: int) -> str:
    """Say why a size is kept, and what is lost and saved by it, as far as that is known."""
    if scores is None:
        return why
    texts = [why, describe_loss(scores, number), describe_saving(scores, number), scores.describe_scored()]
    return "; ".join(filter(None, texts))


def _prune_notes(notes: Notes, sizes: SizeNames, number: int, plan: Plan, finetuning: FineTuning | None) -> Notes:
    """Make the notes of a model that was pruned to a size: those of its only size, which is a depth.

    Args:
        notes: those of the whole network.
        sizes: its sizes.
        number: the one that was kept.
        plan: of the pruned network.
        finetuning: how its weights were changed; None: they are those of the whole network.
    """
    row, depth = notes.depths.get(number), find_size(number, sizes.depth).depth
    of_several = {"depths", "mean_of_heads", "auto", "recommended"}
    values = notes.model_dump(exclude_unset=True, exclude=of_several)
    if finetuning:
        costs = row.costs() if row else DepthRow()  # other scores belong to the original weights
        row, values["finetuning"] = DepthRow(dice=finetuning.dice).merge(costs), finetuning
    if row and "dice" in values:
        values["dice"] = row.dice
    if len(sizes.channels) > 1:
        values["pruned_from_size"] = sizes.name(sizes.numbers[-1])
    if notes.verdict and number != sizes.numbers[-1]:
        values["verdict"] = notes.verdict.of_part(f"{sizes.noun} {sizes.name(sizes.numbers[-1])}")
    pruned = Notes(**{**values, "pruned_from_depth": sizes.depth, "depths": {depth: row} if row else {}})
    return add_sizes(pruned, plan.model)


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
