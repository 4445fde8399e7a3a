"""What an exported file says of itself: as data in the file, for loaders, and as a model card beside it, for people (Mitchell et al. 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

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


def model_card(out: Path, plan: Plan, notes: Mapping[str, Any], depth: int, comparison: str, licence: str) -> str:
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


def _fold(notes: Mapping[str, Any]) -> str:
    return f", fold {notes['fold']}, seed {notes.get('seed')}" if "fold" in notes else ""


def _scores(notes: Mapping[str, Any], depth: int) -> list[str]:
    depths: Mapping[str, Mapping[str, Any]] = notes.get("depths", {})
    if not depths:
        return ["None were recorded in the model file."]
    lines = [
        "Of the network before its export, at every depth that the training gave: means over the validation cases of the fold, with the 95 % interval of the Dice.",
        "",
    ]
    lines += ["| depth | Dice | interval | IoU | ms for a tile | parameters |", "|---|---|---|---|---|---|"]
    for name, row in depths.items():
        low, high = row.get("dice_interval") or (None, None)
        this = f"**{name}** (this depth)" if name == str(depth) else name
        cells = (
            _number(row.get("dice"), 3),
            f"{_number(low, 3)} to {_number(high, 3)}",
            _number(row.get("iou"), 3),
            _number(row.get("latency_ms"), 1),
            row.get("parameters", "-"),
        )
        lines.append(f"| {this} | " + " | ".join(map(str, cells)) + " |")
    return [*lines, "", f"Times: {notes.get('conditions', 'not recorded')}."]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
