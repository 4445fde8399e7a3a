"""Pictures of a run for the page: validation cases as their segmentation grows, and labels that look wrong."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import BaseModel

from unetpp.infer.overlay import find_outlines
from unetpp.json_files import read_json
from unetpp.measure.label_doubts import find_label_doubts
from unetpp.measured import ScoredCase
from unetpp.model_notes import read_metrics
from unetpp.report.views import name_view_file, read_view
from unetpp.run_folder import GROWING, METRICS_FILE, VIEWS, FoldName, RunFolder
from unetpp.serve.problems import Refused

LABEL_COLOR, FOUND_COLOR = (255, 210, 63), (92, 200, 255)
"""Outlines of a label, and of what the network found instead."""
SMALLEST_SIDE = 300
"""Pixels to which small pictures are enlarged."""
_NAME = re.compile(r"(\d+)_(\d+|image|label)\.png")


class GrowingCase(BaseModel):
    """A validation case that is shown while the network learns."""

    number: int
    id: str
    steps: list[int]
    """Steps at which there are pictures of its segmentation, in order."""


class SuspectLabel(BaseModel):
    """A case whose label should be looked at."""

    id: str
    fold: str
    """The fold that has not seen it."""
    dice: float
    expected_dice: float
    picture: str | None
    """Path of its picture; null: the run has kept none."""


def list_growing(folder: Path) -> list[GrowingCase]:
    """List the cases of a fold that are shown; none where the training has written none."""
    try:
        ids = read_json(folder / GROWING / "cases.json")
    except (OSError, ValueError):
        return []
    steps: dict[int, list[int]] = {}
    for path in (folder / GROWING).glob("*.png"):
        match = _NAME.fullmatch(path.name)
        if match and match[2].isdecimal():
            steps.setdefault(int(match[1]), []).append(int(match[2]))
    names = ids if isinstance(ids, list) else []
    return [GrowingCase(number=n, id=str(id), steps=sorted(steps.get(n, []))) for n, id in enumerate(names)]


def read_growing(run: Path, fold: str, name: str) -> bytes:
    """Read a picture of a case that is shown; raises Refused if there is none of that name."""
    folder = RunFolder(run).fold(fold) / GROWING
    is_known = fold in map(str, RunFolder(run).folds()) and _NAME.fullmatch(name)
    if not is_known or not (folder / name).is_file():
        raise Refused(404, "picture", repr(name[:40]), "one of a case that is shown", "See /v1/run.")
    return (folder / name).read_bytes()


def list_suspects(run: Path) -> list[SuspectLabel]:
    """List the cases of a run whose labels look wrong; none before its folds are measured."""
    folder = RunFolder(run)
    found = []
    for doubt in find_label_doubts(_list_scored(folder)):
        view = name_view_file(folder.fold(doubt.fold) / VIEWS, doubt.id)
        picture = f"/v1/run/labels/{doubt.fold}/{view.stem}.png" if view.is_file() else None
        kept = {"id": doubt.id, "dice": doubt.dice, "expected_dice": doubt.expected_dice}
        found.append(SuspectLabel(fold=str(doubt.fold), picture=picture, **kept))
    return found


def _list_scored(folder: RunFolder) -> Iterator[tuple[FoldName, ScoredCase]]:
    for fold in folder.folds():
        metrics = read_metrics(folder.fold(fold) / METRICS_FILE)
        yield from ((fold, case) for case in (metrics.cases if metrics else ()))


def draw_suspect(run: Path, fold: str, name: str) -> bytes:
    """Draw a case with the outlines of its label and of what was found; raises Refused if the run has no view of it."""
    path = RunFolder(run).fold(fold) / VIEWS / f"{name}.npz"
    is_known = fold in map(str, RunFolder(run).folds()) and re.fullmatch(r"[0-9a-f]{16}", name)
    try:
        if not is_known:
            raise FileNotFoundError
        view = read_view(path)
    except Exception:  # archives raise anything
        raise Refused(404, "picture", repr(name[:40]), "a view of the run", "See /v1/run/labels.") from None
    scale = max(1, round(SMALLEST_SIDE / max(view.reference.shape)))
    size = (view.reference.shape[1] * scale, max(1, round(view.reference.shape[0] * scale * view.aspect)))
    image = np.array(Image.fromarray(view.image).convert("RGB").resize(size, Image.Resampling.BILINEAR))
    for indices, color in ((view.prediction, FOUND_COLOR), (view.reference, LABEL_COLOR)):
        enlarged = Image.fromarray(indices.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
        image[find_outlines(np.asarray(enlarged))] = color
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()
