"""What an exported file says of itself: as data in the file, for loaders, and as a model card beside it, for people (Mitchell et al. 2019)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unetpp.measured import DepthRow, Notes, tabulate
from unetpp.plan import Plan
from unetpp.version import __version__

FORMAT = 1
LICENCE_TITLE = "## Licence"
NOT_STATED = "Not stated: it depends on that of the images and masks. Say it here before you pass the file on."


def describe(plan: Plan, depth: int, int8: bool) -> dict[str, Any]:
    """All that a loader needs: channels and how to normalise them, the grid, tiles, classes and the values that stand for them."""
    data = plan.data.model_dump(
        mode="json", include={"dims", "channels", "normalization", "spacing_mm", "classes", "label_values", "instances"}
    )
    return {
        "format": FORMAT,
        "unetpp": __version__,
        "name": plan.name,
        **data,
        "tile": plan.predict.tile,
        "overlap": plan.predict.overlap,
        "depth": depth,
        "int8": int8,
    }


def model_card(out: Path, plan: Plan, notes: Notes, depth: int, comparison: str, licence: str) -> str:
    """Markdown.

    Args:
        out: the exported file.
        notes: of the model file that it was made from.
        comparison: how it was compared with the network.
        licence: what is said of it.
    """
    data = plan.data
    classes = ", ".join(f"{value} = {name}" for value, name in zip(data.label_values, data.classes, strict=True))
    spacing = " x ".join(f"{mm:g}" for mm in data.spacing_mm) + " mm" if data.spacing_mm else "that of each file"
    lines = [
        f"# {plan.name}: {plan.model.topology} at depth {depth}",
        "",
        f"`{out.name}` gives each {'pixel' if data.dims == 2 else 'voxel'} of a {data.dims}D image the probability of each class. Made by unetpp {__version__}.",
        "",
        f"- Classes: {classes}",
        f"- Channels: {', '.join(data.channels)}; grid of the network: {spacing}",
        f"- Trained on: {plan.name}{_fold(notes)}",
        f"- {comparison}",
        "",
        "## Scores",
        "",
        *_scores(notes, depth),
        "",
        "## Limits",
        "",
        "The scores are those of images of the same data set, some of which did choose the best weights. Nothing is known of other scanners, stains, resolutions or patients until",
        "it is measured. Not a medical device.",
        "",
        LICENCE_TITLE,
        "",
        licence,
    ]
    return "\n".join(lines) + "\n"


def stated_licence(card: Path) -> str:
    """What an earlier card says of the licence: it may be the user's words."""
    try:
        return card.read_text(encoding="utf-8").partition(f"\n{LICENCE_TITLE}\n")[2].strip() or NOT_STATED
    except (OSError, UnicodeDecodeError):
        return NOT_STATED


def _fold(notes: Notes) -> str:
    return "" if notes.fold is None else f", fold {notes.fold}, seed {notes.seed}"


def _scores(notes: Notes, depth: int) -> list[str]:
    if not notes.depths:
        return ["None were recorded in the model file."]
    rows = [(f"**{name}** (this depth)" if name == str(depth) else name, row) for name, row in notes.rows.items()]
    head, *lines = tabulate("depth", DepthRow, rows, notes.distance_unit)
    return [
        "Of the network before its export, at every depth that the training gave: means over the validation cases of the fold, with the 95 % interval of the Dice.",
        "",
        *(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines)),
        "",
        f"Times: {notes.conditions or 'not recorded'}.",
    ]
