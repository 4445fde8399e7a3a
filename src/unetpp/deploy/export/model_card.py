"""Descriptions of an exported file: JSON for loaders, and a model card for people (Mitchell et al. 2019)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unetpp.measured import DepthRow, Notes, tabulate
from unetpp.plan import Plan
from unetpp.version import __version__

FORMAT = 1
LICENSE_TITLE = "## Licence"
NOT_STATED = "Not stated: it depends on that of the images and masks. State it here before you share the file."
CARD = """\
# {name}: {topology} at depth {depth}

`{file}` maps each {element} of a {dims}D image to the probability of each class. Made by unetpp {version}.

- Classes: {classes}
- Channels: {channels}; grid of the network: {spacing}
- Trained on: {name}{fold}
- {comparison}

## Scores

{scores}

## Limits

The scores are those of images of the same data set, some of which were used to choose the best weights. Results on
other scanners, stains, resolutions or patients are unknown until they are measured. Not a medical device.

{license_title}

{license}
"""


def describe(plan: Plan, depth: int, int8: bool) -> dict[str, Any]:
    """Describe an exported file for loaders.

    Args:
        plan: plan of the model.
        depth: depth of the exported head.
        int8: the file computes in 8-bit integers.

    Returns:
        Channels and their normalization, grid, tile, classes and label values, in terms of JSON.
    """
    data = plan.data.model_dump(
        mode="json", include={"dims", "channels", "normalization", "spacing_mm", "classes", "label_values", "labels"}
    )
    about = {"format": FORMAT, "unetpp": __version__, "name": plan.name}
    tiles = {"tile": plan.predict.tile, "overlap": plan.predict.overlap}
    return {**about, **data, **tiles, "depth": depth, "int8": int8}


def write_card(out: Path, plan: Plan, notes: Notes, depth: int, comparison: str, license: str) -> str:
    """Write a model card as Markdown.

    Args:
        out: the exported file.
        plan: plan of the model.
        notes: notes of the model file.
        depth: depth of the exported head.
        comparison: how the file compares with the network, a sentence.
        license: text of the license.

    Returns:
        The text of the card.
    """
    data = plan.data
    return CARD.format(
        name=plan.name,
        topology=plan.model.topology,
        depth=depth,
        file=out.name,
        element="pixel" if data.dims == 2 else "voxel",
        dims=data.dims,
        version=__version__,
        classes=", ".join(f"{value} = {name}" for value, name in zip(data.label_values, data.classes, strict=True)),
        channels=", ".join(data.channels),
        spacing=" x ".join(f"{mm:g}" for mm in data.spacing_mm) + " mm" if data.spacing_mm else "that of each file",
        fold="" if notes.fold is None else f", fold {notes.fold}, seed {notes.seed}",
        comparison=comparison,
        scores=_tabulate_scores(notes, depth),
        license_title=LICENSE_TITLE,
        license=license,
    )


def read_license(card: Path) -> str:
    """Read the license from an earlier card, where the user may have stated it."""
    try:
        return card.read_text(encoding="utf-8").partition(f"\n{LICENSE_TITLE}\n")[2].strip() or NOT_STATED
    except (OSError, UnicodeDecodeError):
        return NOT_STATED


def _tabulate_scores(notes: Notes, depth: int) -> str:
    if not notes.depths:
        return "None were recorded in the model file."
    rows = [(f"**{name}** (this depth)" if name == str(depth) else name, row) for name, row in notes.rows.items()]
    head, *lines = tabulate("depth", DepthRow, rows, notes.distance_unit)
    table = "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines))
    title = (
        "Scores of the network before its export, at every depth: means over the validation cases of the fold,\n"
        "with the 95 % interval of the Dice."
    )
    return f"{title}\n\n{table}\n\nTimes: {notes.conditions or 'not recorded'}."
