"""Views: cases as small pictures, stored in the run folder while they are scored.

    fold_K/views/HASH.npz    the fields of `View`

Volumes are shown as the slice with the largest labeled area, across the axis with the widest spacing.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from PIL import Image

from unetpp import labels
from unetpp.data.case_files import read_case_image
from unetpp.files import write_atomically
from unetpp.infer.overlay import points_up, to_bytes
from unetpp.infer.prediction import Prediction
from unetpp.layouts.dataset import Case
from unetpp.measured import ScoredCase
from unetpp.plan import Plan
from unetpp.volume import Volume

MOST_VIEWS = 200
"""Largest number of views of a fold."""
LONGEST_SIDE = 400
"""Pixels; larger images are shrunk."""
LARGEST_VIEW = 2**28
"""Bytes of the arrays of a view, unpacked; more are not believed."""


@dataclass(frozen=True, eq=False)
class View:
    """One slice of one case, ready to be drawn with row 0 at the top."""

    id: str
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


class ViewFolder:
    """Stores views of cases while they are scored, and keeps those of as many cases as a report shows.

    Args:
        folder: folder of the views.
        plan: plan of the run: how images are read, and the depth that is shown.
        most: number of views that are kept.
    """

    def __init__(self, folder: Path, plan: Plan, most: int = MOST_VIEWS) -> None:
        self._folder, self._plan, self._most = folder, plan, most

    def add(self, case: Case, reference: np.ndarray, predicted: Mapping[int, Prediction]) -> None:
        """Store the view of a case.

        Args:
            case: the case.
            reference: class indices (*spatial).
            predicted: its predictions by depth.

        Raises:
            DataError: the image cannot be read any more.
            WriteError: the view could not be written.
        """
        data, prediction = self._plan.data, predicted[self._plan.predict.depth].segmentation
        if (ignored := labels.find_ignored_index(data)) is not None:  # background in both, as for the scores
            prediction, reference = (np.where(reference == ignored, 0, each) for each in (prediction, reference))
        fields: dict[str, Any] = vars(make_view(case.id, read_case_image(case, data), reference, prediction))
        with write_atomically(name_view_file(self._folder, case.id)) as path:
            np.savez_compressed(path, **fields)

    def keep(self, cases: Sequence[ScoredCase]) -> None:
        """Delete all views but those of the worst cases and of as many spread evenly over the better ones."""
        ranked = sorted(cases, key=rank_key)
        worst, others = ranked[: self._most // 2], ranked[self._most // 2 :]
        places = np.linspace(0, len(others) - 1, min(len(others), self._most - len(worst))).astype(int)
        kept = {name_view_file(self._folder, case.id) for case in (*worst, *(others[place] for place in places))}
        for path in self._folder.glob("*.npz"):
            if path not in kept:
                path.unlink(missing_ok=True)


def rank_key(case: ScoredCase) -> tuple[bool, float, str]:
    """Key to sort cases by, the worst first; those without a Dice come last."""
    return case.mean.dice is None, case.mean.dice or 0.0, case.id


def make_view(case_id: str, image: Volume, reference: np.ndarray, prediction: np.ndarray) -> View:
    """Make the view of a case on its own grid.

    Args:
        case_id: name of the case.
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
        if points_up(image.geometry, rows=0 if axis else 1):
            array, reference, prediction = (np.flip(each, -2) for each in (array, reference, prediction))
    step = -(-max(reference.shape) // LONGEST_SIDE)
    coarse = max(1, step // 4)  # of images that are much larger, not every pixel is looked at
    fine = -(-step // coarse)
    channels = array if array.dtype == np.uint8 else array[:1]
    shown = Image.fromarray(to_bytes(channels[:, ::coarse, ::coarse])).reduce(fine)
    reference, prediction = (
        np.ascontiguousarray(each[:: coarse * fine, :: coarse * fine]) for each in (reference, prediction)
    )
    return View(case_id, np.asarray(shown), reference, prediction, aspect, name)


def name_view_file(folder: Path, case_id: str) -> Path:
    """Name the file of the view of a case, whose own name may be none of a file."""
    return folder / f"{hashlib.sha256(case_id.encode(errors='surrogatepass')).hexdigest()[:16]}.npz"


def find_unreadable(paths: Iterable[Path]) -> list[Path]:
    """Find the files that hold no view."""
    found = []
    for path in sorted(paths):
        try:
            read_view(path)
        except Exception:  # archives raise anything
            found.append(path)
    return found


def read_view(path: Path) -> View:
    """Read a view; raises anything for a file that is none."""
    with _load(path) as found:
        name, place, aspect = str(found["id"].item()), str(found["slice"].item()), float(found["aspect"].item())
        view = View(name, found["image"], found["reference"], found["prediction"], aspect, place)
    shapes = {view.image.shape[:2], view.reference.shape, view.prediction.shape}
    kinds = {view.image.dtype.kind, view.reference.dtype.kind, view.prediction.dtype.kind}
    sound = len(shapes) == 1 and view.image.shape[2:] in ((), (3,)) and kinds <= {*"biu"} and view.reference.size > 0
    if not (sound and 1e-3 < view.shape_ratio < 1e3):
        raise ValueError("no view")
    return view


def _fullest_slice(
    reference: np.ndarray, prediction: np.ndarray, spacing_mm: tuple[float, ...] | None
) -> tuple[int, int]:
    """Find axis and index of the slice with the most label; without label with the most prediction, else the middle."""
    axis = int(np.argmax(spacing_mm)) if spacing_mm else 0
    across = tuple(other for other in range(3) if other != axis)
    for found in (reference, prediction):
        areas = np.count_nonzero(found, axis=across)
        if areas.any():
            return axis, int(np.argmax(areas))
    return axis, reference.shape[axis] // 2


def _load(path: Path) -> NpzFile:
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > LARGEST_VIEW:
            raise ValueError("larger than any view")
    return np.load(path, allow_pickle=False)  # type: ignore[no-any-return]
