"""What `unetpp select` chose, as a source of an export: networks in the graph, the rest in the description of the file.

Threshold, temperature, mirrored copies and post-processing come after tiles are blended, as in every prediction: the
torch-free predictor applies them, so that its segmentations are those of the folder. A .pt2 has no such predictor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unetpp.deploy.export.graph import Exportable, MeanProbabilities, SizeProbabilities
from unetpp.dial import name_sizes
from unetpp.errors import UsageError
from unetpp.infer.first_stage import require_one_stage
from unetpp.infer.predictor import load_files
from unetpp.labels.coding_torch import make_tensor_coding
from unetpp.measured import DepthRow
from unetpp.model_notes import ExportNotes, Notes
from unetpp.plan import Plan
from unetpp.selection import Selection, read_selection
from unetpp.size_names import choose_setting


@dataclass(frozen=True, eq=False)
class Source:
    """What is exported."""

    network: Exportable
    plan: Plan
    notes: list[Notes]
    """Of each fold; of two runs those of the first."""
    selection: Selection | None = None
    choice: str = ""
    """Which size is exported where none is asked for, in words."""

    def list_remarks(self) -> list[str]:
        """Say on the model card what was selected."""
        if self.selection is None:
            return []
        found, dice = self.selection, self.selection.scores.dice
        score = "" if dice is None else f"; validation Dice of the whole {dice:.4f}"
        lines = [f"Selected: {found.describe_what()}{score}."]
        if extras := found.describe_extras(self.plan.data.classes):
            lines.append(f"In the description of the file, applied by `unetpp predict`: {'; '.join(extras)}.")
        if len(found.members) > 1:
            lines.append(f"The scores below are those of {found.members[0].run} alone.")
        return lines


def open_selected(
    model: Path, out: Path, depth: int | str | None, size: int | str | None, options: Sequence[object]
) -> Source:
    """Open a folder that `unetpp select` wrote.

    Args:
        model: the folder.
        out: file that is written.
        depth: must be None: the sizes were selected.
        size: the same.
        options: further options, which do not matter here.

    Raises:
        UsageError: a size is given, the format cannot hold the selection, or two runs differ in what they read.
        ModelFileError: it cannot be used.
    """
    selection = read_selection(model)
    if depth is not None or size is not None:
        setting, wanted = choose_setting(depth, size), depth if size is None else size
        raise UsageError(setting, f"{wanted} for {model}", selection.describe_what(), "Leave it out, or name a run.")
    _require_format(model, out, selection)
    parts, plans, notes = [], [], []
    for member in selection.members:
        networks, plan, found = load_files([model / file for file in member.files])
        require_one_stage(plan, model, "export")
        every = name_sizes(found[0], networks[0].head_depths, plan.model)
        sizes = replace(every, numbers=(member.size,), words={})
        parts.append(SizeProbabilities(networks, sizes, make_tensor_coding(plan.data)))
        plans.append(plan)
        notes.append(found)
    _require_one_input(model, plans)
    network = parts[0] if len(parts) == 1 else MeanProbabilities(parts)
    predict = plans[0].predict.model_copy(update={"depth": selection.members[0].size})
    return Source(network.eval(), plans[0].model_copy(update={"predict": predict}), notes[0], selection)


def _require_format(model: Path, out: Path, selection: Selection) -> None:
    """Raise UsageError for a .pt2 if there is more than networks: programs of torch.export know nothing of it."""
    extras = ["mirrored copies"] if selection.tta else []
    extras += ["a threshold"] if selection.threshold != 0.5 or selection.region_thresholds else []
    extras += ["post-processing"] if selection.steps else []
    extras += ["a temperature"] if selection.temperature.value != 1 else []
    if out.suffix == ".pt2" and extras:
        got = f"a .pt2 file, which holds networks alone, for {model} with {', '.join(extras)}"
        raise UsageError("out", got, ".onnx or .xml", "Choose one of them, or export a run.")


def _require_one_input(model: Path, plans: Sequence[Plan]) -> None:
    """Raise UsageError where two runs do not read the same input: a file has one."""
    first = plans[0]
    for plan in plans[1:]:
        mine, theirs = ((each.data, each.predict.tile, each.predict.overlap) for each in (first, plan))
        if mine != theirs:
            got = f"{model}, an average of two runs with another grid, normalization or tile"
            action = "Predict with the folder, or select one run: `unetpp select` with a smaller `max_ms`."
            raise UsageError("model", got, "runs that read the same tiles, as a file has one input", action)


def note_selection(selection: Selection | None, notes: ExportNotes) -> tuple[ExportNotes, dict[str, Any]]:
    """Note in an exported file what was selected: its scores, and what comes after the networks.

    Returns:
        The notes, and what is added to the description; neither changes without a selection.
    """
    if selection is None:
        return notes, {}
    (number,) = notes.depths
    row = DepthRow().merge(selection.calibration).merge(selection.scores)
    calibrated = selection.calibration.expected_dice_slope is not None
    changed = ExportNotes(depths={number: row}, **({"no_expected_dice": ""} if calibrated else {}))
    kept = selection.model_copy(
        update={
            "members": tuple(member.model_copy(update={"files": ()}) for member in selection.members),
            "candidates": (),
            "tried": (),
            "cases": (),
        }
    )
    return notes.merge(changed), {"selection": kept.to_dict()}
