"""Descriptions of an exported file: JSON for loaders, and a model card for people (Mitchell et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unetpp.deploy.export.graph import Exportable
from unetpp.dial import add_sizes, label_row, list_remarks, list_rows
from unetpp.infer.predictor import average_depths
from unetpp.measure.verdict import join_verdicts
from unetpp.measured import DepthRow, tabulate
from unetpp.model_notes import ExportNotes, Notes, Verdict, explain_no_expected_dice
from unetpp.plan import Plan
from unetpp.run_folder import FoldName
from unetpp.size_names import SizeNames
from unetpp.version import __version__
from unetpp.words import list_numbers

FORMAT = 1
LICENSE_TITLE = "## Licence"
NOT_STATED = "Not stated: it depends on that of the images and masks. State it here before you share the file."
CARD = """\
# {name}: {topology} at {sizes}

`{file}` gives each {element} of a {dims}D image the probability of each class. Made by unetpp {version}.

- Classes: {classes}
- Channels: {channels}; size of a {element} for the network: {spacing}
- Trained on: {origin}{folds}
{remarks}

## Scores

{scores}

## Limits

The scores are those of images of the same data set, some of which were used to choose the best weights. Results on
other scanners, stains, resolutions or patients are unknown until they are measured. Not a medical device.

{license_title}

{license}
"""


def note_export(network: Exportable, plan: Plan, folds: Sequence[Notes], int8: bool) -> ExportNotes:
    """Note what an exported file says of its network: scores and calibration of each size.

    Args:
        network: what is exported.
        plan: plan of the model.
        folds: notes of the model file of each fold.
        int8: the file computes in 8-bit integers.
    """
    rows, first = average_depths(folds), folds[0]
    verdicts = {fold.fold or 0: fold.verdict for fold in folds if fold.verdict}
    doubtful = {fold: verdict for fold, verdict in verdicts.items() if not verdict.learned}
    recommended = first.recommended if len(folds) == 1 else None
    notes = ExportNotes(
        name=plan.name,
        folds=tuple(fold.fold or 0 for fold in folds) if len(folds) > 1 else (),
        parameters=network.parameter_count,
        int8=int8,
        verdict=_join_verdicts(doubtful or verdicts, network.sizes, plan),
        no_expected_dice=explain_no_expected_dice(folds),
        imported_from=first.imported_from,
        depths={number: rows.get(number, DepthRow()) for number in network.sizes.numbers},
        distance_unit=first.distance_unit,
        recommended=recommended if recommended and recommended.depth in network.sizes.numbers else None,
        network_depth=plan.model.depth,
        shell_channels=plan.model.shell_channels,
        words={word: number for word, number in network.sizes.words.items() if number in network.sizes.numbers},
    )
    return add_sizes(notes, plan.model)


def _join_verdicts(verdicts: Mapping[FoldName, Verdict], sizes: SizeNames, plan: Plan) -> Verdict | None:
    """Join the verdicts on the folds; they speak of the largest size, which need not be in the file."""
    if not verdicts:
        return None
    whole, joined = max(plan.model.list_sizes()), join_verdicts(verdicts)
    return joined if whole in sizes.numbers else joined.of_part(f"{sizes.noun} {sizes.name(whole)}")


def describe(plan: Plan, notes: ExportNotes) -> dict[str, Any]:
    """Describe an exported file for loaders: the data section of the plan, tile and sizes, in terms of JSON."""
    default = plan.predict.depth if plan.predict.depth in notes.depths else max(notes.depths)
    tiles = {"tile": list(plan.predict.tile), "overlap": plan.predict.overlap, "depth": default}
    return {"format": FORMAT, "unetpp": __version__, **plan.data.model_dump(mode="json"), **tiles, **notes.to_dict()}


def write_card(
    out: Path, plan: Plan, sizes: SizeNames, folds: Sequence[Notes], remarks: Sequence[str], license: str
) -> str:
    """Write a model card as Markdown.

    Args:
        out: the file.
        plan: plan of the model.
        sizes: those that are offered.
        folds: notes of the model file of each fold.
        remarks: how to use the file, how it compares with the network: sentences.
        license: text of the license.

    Returns:
        The text of the card.
    """
    data = plan.data
    return CARD.format(
        name=plan.name,
        topology=plan.model.topology,
        sizes=list_numbers(sizes.noun, sizes.list_names()),
        file=out.name,
        element="pixel" if data.dims == 2 else "voxel",
        dims=data.dims,
        version=__version__,
        classes=data.describe_classes(),
        channels=", ".join(data.channels),
        spacing=" x ".join(f"{mm:g}" for mm in data.spacing_mm) + " mm" if data.spacing_mm else "that of each file",
        origin=f"unknown ({origin})" if (origin := folds[0].imported_from) else plan.name,
        folds=_describe_folds(folds),
        remarks="\n".join(f"- {remark}" for remark in remarks),
        scores=(
            _tabulate_folds(folds, sizes) if len(folds) > 1 else _tabulate_sizes(add_sizes(folds[0], plan.model), sizes)
        ),
        license_title=LICENSE_TITLE,
        license=license,
    )


def read_license(card: Path) -> str:
    """Read the license from an earlier card, where the user may have stated it."""
    try:
        return card.read_text(encoding="utf-8").partition(f"\n{LICENSE_TITLE}\n")[2].strip() or NOT_STATED
    except (OSError, UnicodeDecodeError):
        return NOT_STATED


def _describe_folds(folds: Sequence[Notes]) -> str:
    if len(folds) > 1:
        return f"; the probabilities of {list_numbers('fold', [fold.fold for fold in folds])} are averaged"
    return "" if folds[0].fold is None else f", fold {folds[0].fold}, seed {folds[0].seed}"


def _tabulate_sizes(notes: Notes, sizes: SizeNames) -> str:
    if not notes.depths:
        return "None were recorded in the model file."
    mark = "in this file" if len(sizes.numbers) > 1 else f"this {sizes.noun}"
    exported = {label_row(notes, number) for number in sizes.numbers}
    rows = [(f"**{label}** ({mark})" if label in exported else label, row) for label, row in list_rows(notes)]
    title = (
        f"Of the network before its export, at every {sizes.noun}: means over the validation cases, which were not"
        " trained\non, with the 95 % interval of the Dice."
    )
    partial = notes.describe_scored()
    title += f" Preliminary: {partial}." if partial else ""
    table = _write_table(tabulate(sizes.noun, DepthRow, rows, notes.distance_unit, counts=notes.count_cases()))
    remarks = "".join(f"{text[:1].upper()}{text[1:]}.\n\n" for text in list_remarks(notes)).replace("*", "\\*")
    return f"{title}\n\n{table}\n\n{remarks}Times: {notes.conditions or 'not recorded'}."


def _tabulate_folds(folds: Sequence[Notes], sizes: SizeNames) -> str:
    number = sizes.numbers[-1]
    rows = [(str(fold.fold), fold.depths[number].scores()) for fold in folds if number in fold.depths]
    if not rows:
        return "None were recorded in the model files."
    rows.append(("all cases", average_depths(folds)[number].scores()))
    title = (
        f"Of each fold alone at {sizes.noun} {sizes.name(number)}, before the export: means over its validation cases,"
        " which it was not trained\non. The average of the folds is usually a little better; it was not measured."
    )
    partial = [f"of fold {fold.fold} {text}" for fold in folds if (text := fold.describe_scored())]
    title += f" Preliminary: {'; '.join(partial)}." if partial else ""
    return f"{title}\n\n{_write_table(tabulate('fold', DepthRow, rows, folds[0].distance_unit))}"


def _write_table(lines: Sequence[Sequence[str]]) -> str:
    head, *rest = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *rest))
