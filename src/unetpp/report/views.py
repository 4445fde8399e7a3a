"""Views: the worst, the median and the best case as small pictures, stored in the run folder.

    fold_K/views/worst.npz    the fields of `View`

Volumes are shown as the slice with the largest foreground area, across the axis with the widest spacing.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unetpp import labels
from unetpp.data.case_files import read_case_classes, read_case_image
from unetpp.files import write_atomically
from unetpp.infer.options import PredictOptions
from unetpp.layouts.dataset import Case
from unetpp.measure.quality import DepthPredictor
from unetpp.measured import Metrics
from unetpp.volume import Volume

RANKS = ("worst", "median", "best")
LONGEST_SIDE = 640
"""Pixels; larger images are subsampled."""
LARGEST_VIEW = 2**28
"""Bytes of the arrays of a view, unpacked; more are not believed."""
DISPLAYED = (0.5, 99.5)
"""Percentiles of the intensities shown as black and white."""


@dataclass(frozen=True, eq=False)
class View:
    """One slice of one case, ready to be drawn with row 0 at the top."""

    rank: str
    id: str
    dice: float
    image: np.ndarray
    """(H, W) or (H, W, 3) uint8."""
    reference: np.ndarray
    """(H, W) class indices."""
    prediction: np.ndarray
    aspect: float = 1.0
    """Height of a pixel over its width."""
    slice: str = ""
    """Position of the slice in words; empty for an image."""

    @property
    def shape_ratio(self) -> float:
        """Width over height of the drawn picture."""
        height, width = self.reference.shape
        return float(width / (height * self.aspect))


def write_views(predictor: DepthPredictor, cases: Sequence[Case], metrics: Metrics, folder: Path) -> None:
    """Predict the worst, the median and the best case again, and store a picture of each.

    Args:
        predictor: the scored model.
        cases: the cases that it was scored on.
        metrics: scores of its deepest head, as `evaluate_cases` returns them.
        folder: folder of the views.

    Raises:
        DataError: a case that cannot be read any more.
        WriteError: a view could not be written.
    """
    by_id = {case.id: case for case in cases}
    plan = predictor.plan.data
    for rank, (case_id, dice) in choose_cases(metrics).items():
        case = by_id[case_id]
        found = predictor.predict_case(case, PredictOptions(depth="all"))
        image, reference = read_case_image(case, plan), read_case_classes(case, plan)
        prediction = found[max(found)].segmentation
        if (ignored := labels.find_ignored_index(plan)) is not None:  # background in both, as for the scores
            prediction, reference = (np.where(reference == ignored, 0, each) for each in (prediction, reference))
        view = make_view(rank, case_id, dice, image, reference, prediction)
        with write_atomically(folder / f"{rank}.npz") as path:
            fields: dict[str, Any] = vars(view)
            np.savez_compressed(path, **fields)


def choose_cases(metrics: Metrics) -> dict[str, tuple[str, float]]:
    """Choose the worst, the median and the best case, or fewer if there are fewer: rank -> (case id, Dice)."""
    scored = sorted((case.mean.dice, case.id) for case in metrics.cases if case.mean.dice is not None)
    places = {"worst": 0, "best": len(scored) - 1, "median": len(scored) // 2}
    chosen: dict[str, tuple[str, float]] = {}
    for rank, place in places.items():
        if scored and scored[place][1] not in (case_id for case_id, _ in chosen.values()):
            chosen[rank] = (scored[place][1], scored[place][0])
    return {rank: chosen[rank] for rank in RANKS if rank in chosen}


def make_view(
    rank: str, case_id: str, dice: float, image: Volume, reference: np.ndarray, prediction: np.ndarray
) -> View:
    """Make the picture of a case on its own grid.

    Args:
        rank: worst, median or best.
        case_id: name of the case.
        dice: its Dice.
        image: the image, (C, *spatial).
        reference: class indices (*spatial).
        prediction: class indices (*spatial).

    Returns:
        One slice, with the front or the head of a patient at the top.
    """
    array, aspect, name = image.array, 1.0, ""
    if reference.ndim == 3:
        axis, index = _fullest_slice(reference, prediction, image.geometry.spacing_mm)
        array, reference, prediction = (np.take(each, index, axis - 3) for each in (array, reference, prediction))
        name = f"slice {index + 1} of {image.shape[axis]} along {'ZYX'[axis]}"
        spacing = [size for other, size in enumerate(image.geometry.spacing_mm or (1.0,) * 3) if other != axis]
        aspect = spacing[0] / spacing[1]
        if image.geometry.affine is not None and _points_up(image.geometry.affine, rows=0 if axis else 1):
            array, reference, prediction = (np.flip(each, -2) for each in (array, reference, prediction))
    step = max(1, -(-max(reference.shape) // LONGEST_SIDE))
    reference, prediction = (np.ascontiguousarray(each[::step, ::step]) for each in (reference, prediction))
    return View(rank, case_id, dice, _to_bytes(array[:, ::step, ::step]), reference, prediction, aspect, name)


def _points_up(affine: np.ndarray, rows: int) -> bool:
    """Check whether rows run towards the front or the head of the patient, so that the picture has to be flipped.

    Args:
        affine: from voxels (X, Y, Z) to right, anterior and superior.
        rows: axis of the rows in (Z, Y, X).
    """
    direction = affine[:3, 2 - rows]
    return bool(direction[np.argmax(np.abs(direction))] > 0)


def read_views(folder: Path) -> tuple[tuple[View, ...], list[Path]]:
    """Read the views of a fold, worst first, and list those that cannot be read."""
    views, unreadable = [], []
    for rank in RANKS:
        path = folder / f"{rank}.npz"
        try:
            views.append(_read_view(path, rank))
        except FileNotFoundError:
            continue
        except Exception:  # archives raise anything
            unreadable.append(path)
    return tuple(views), unreadable


def _fullest_slice(
    reference: np.ndarray, prediction: np.ndarray, spacing_mm: tuple[float, ...] | None
) -> tuple[int, int]:
    axis = int(np.argmax(spacing_mm)) if spacing_mm else 0
    across = tuple(other for other in range(3) if other != axis)
    return axis, int(np.argmax(np.count_nonzero((reference > 0) | (prediction > 0), axis=across)))


def _to_bytes(array: np.ndarray) -> np.ndarray:
    """Convert (C, H, W) of any type to gray (H, W) or color (H, W, 3) uint8."""
    if len(array) == 3 and array.dtype == np.uint8:
        return np.moveaxis(array, 0, -1).copy()
    channel = array[0].astype(np.float32)
    low, high = np.percentile(channel, DISPLAYED)
    scaled: np.ndarray = 255 * np.clip((channel - low) / max(float(high - low), 1e-9), 0, 1)
    return scaled.astype(np.uint8)


def _read_view(path: Path, rank: str) -> View:
    """Read a view; raises anything for a file that is none."""
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > LARGEST_VIEW:
            raise ValueError("larger than any view")
    with np.load(path, allow_pickle=False) as found:
        name, place = str(found["id"].item()), str(found["slice"].item())
        dice, aspect = float(found["dice"].item()), float(found["aspect"].item())
        view = View(rank, name, dice, found["image"], found["reference"], found["prediction"], aspect, place)
    shapes = {view.image.shape[:2], view.reference.shape, view.prediction.shape}
    kinds = {view.image.dtype.kind, view.reference.dtype.kind, view.prediction.dtype.kind}
    sound = len(shapes) == 1 and view.image.shape[2:] in ((), (3,)) and kinds <= {*"biu"} and view.reference.size > 0
    if not (sound and np.isfinite(view.dice) and 1e-3 < view.shape_ratio < 1e3):
        raise ValueError("no view")
    return view
