"""The files of a case: its image, opened for reading in blocks, and its label on the grid of the image file."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

import numpy as np

from unetpp import labels
from unetpp.errors import DataError, Problem
from unetpp.formats.readers import describe_shape, open_images, read_labels
from unetpp.formats.sources import AreaSource, ImageSource, PlaneSource, area_geometry, plane_geometry
from unetpp.layouts.dataset import Case
from unetpp.plan import DataPlan, ReadPlan
from unetpp.volume import Volume

_OPEN = 2
"""Number of files that stay open for their parts: threads that read planes in order are at most in two volumes."""
_T = TypeVar("_T")


def open_case_image(case: Case, plan: ReadPlan) -> ImageSource:
    """Open the image of a case.

    Args:
        case: the case.
        plan: how files are read.

    Returns:
        The image (C, *spatial), on its own grid.

    Raises:
        DataError: as `open_images`.
    """
    if case.is_part:
        return _take_part(open_whole_image(case, plan), case)
    return open_images(case.images)


def read_case_image(case: Case, plan: ReadPlan) -> Volume:
    """Read the whole image of a case; arguments and errors as of `open_case_image`."""
    source = open_case_image(case, plan)
    return Volume(source.read((slice(None),) * (len(source.shape) - 1)), source.geometry)


def read_case_label(case: Case, plan: ReadPlan) -> Volume:
    """Read the label of a case, with the values of its files.

    Args:
        case: a case with a label.
        plan: how files are read.

    Returns:
        The label (1, *spatial), on the grid of the image.

    Raises:
        DataError: as `read_labels`.
    """
    if case.is_part:
        return _cut_label(read_whole_label(case, plan), open_whole_image(case, plan), case)
    return read_labels(case.labels)


def read_case_classes(case: Case, plan: DataPlan) -> np.ndarray:
    """Read the label of a case as class indices (*spatial), on the grid of the image file.

    Args:
        case: a case with a label.
        plan: the data section of the plan.

    Returns:
        Class indices, uint8, or uint16 for more than 255 classes.

    Raises:
        DataError: as `read_case_label`, or a value that stands for no class of the plan.
    """
    label = read_case_label(case, plan)
    return labels.make_labels(plan).encode(label.array[0], str(case.labels[0]))


def open_whole_image(part: Case, plan: ReadPlan) -> ImageSource:
    """Open the whole image of a part, which stays open for its other parts; raises as `open_case_image`."""
    return _images.get(part, plan)


def read_whole_label(part: Case, plan: ReadPlan) -> Volume:
    """Read the whole label of a part, which is kept for its other parts; raises as `read_case_label`."""
    return _labels.get(part, plan)


def close_whole_files() -> None:
    """Close the files that are open for their parts, which frees their memory."""
    _images.close()
    _labels.close()


class _SharedFiles(Generic[_T]):
    """Whole files whose parts are cases: the last ones stay open, so that a volume is not read for each of its planes.

    Args:
        read: opens the files of a whole case.
    """

    def __init__(self, read: Callable[[Case, ReadPlan], _T]) -> None:
        self._read = read
        self._found: OrderedDict[tuple[object, ...], _T | DataError] = OrderedDict()
        self._lock = Lock()  # threads that read planes of the same volume wait for the one that opens it

    def get(self, part: Case, plan: ReadPlan) -> _T:
        """Open the whole files of a part, or return them if they are open; raises as `read`, each time."""
        files = (*part.images, *part.labels)
        stamps = tuple((str(path), _stamp(path)) for path in files)
        with self._lock:
            key = (plan.model_dump_json(), *stamps)
            if key not in self._found:
                self._found[key] = self._try(replace(part, plane=None, area=None), plan)
                while len(self._found) > _OPEN:
                    self._found.popitem(last=False)
            self._found.move_to_end(key)
            found = self._found[key]
        if isinstance(found, DataError):
            raise DataError(found.problems)
        return found

    def close(self) -> None:
        """Forget all files."""
        with self._lock:
            self._found.clear()

    def _try(self, case: Case, plan: ReadPlan) -> _T | DataError:
        try:
            return self._read(case, plan)
        except DataError as error:
            return error


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of a file, to notice that it was replaced; zeros if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _take_part(whole: ImageSource, case: Case) -> ImageSource:
    source = whole if case.plane is None else PlaneSource(whole, case.plane)
    return source if case.area is None else AreaSource(source, case.area)


def _cut_label(label: Volume, image: ImageSource, case: Case) -> Volume:
    """Cut the part of a case out of the label of its whole files; raises DataError if it does not fit the image."""
    where, action = str(case.labels[0]), "Give the label that belongs to the image."
    if label.shape != image.shape[1:]:
        got, expected = f"a label of {describe_shape(label.shape)}", f"{describe_shape(image.shape[1:])}, as its image"
        raise DataError(Problem(where, got, expected, action))
    if not label.geometry.matches(image.geometry):
        got, expected = "another spacing, origin or direction than its image", "the same"
        raise DataError(Problem(where, got, expected, action))
    array, alpha, geometry = label.array, label.alpha, label.geometry
    if case.plane is not None:
        array, geometry = array[:, case.plane], plane_geometry(geometry)
        alpha = None if alpha is None else alpha[case.plane]
    if case.area is not None:
        inside = tuple(slice(*span) for span in case.area)
        array, geometry = array[(slice(None), *inside)], area_geometry(geometry, case.area)
        alpha = None if alpha is None else alpha[inside]
    return replace(label, array=np.ascontiguousarray(array), alpha=alpha, geometry=geometry)


_images = _SharedFiles(open_case_image)
_labels = _SharedFiles(read_case_label)
