"""Files whose parts are cases: they stay open while their parts are read, and parts are cut out of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

import numpy as np

from unetpp.errors import DataError, Problem
from unetpp.formats.planes import PlaneSource, find_turn, plane_geometry
from unetpp.formats.readers import describe_shape
from unetpp.formats.sources import AreaSource, ImageSource, area_geometry
from unetpp.layouts.dataset import Case
from unetpp.plan import ReadPlan
from unetpp.volume import Volume

_OPEN = 2
"""Number of files that stay open: threads that read planes in order are at most in two volumes."""
_T = TypeVar("_T")


class WholeFiles(Generic[_T]):
    """The whole files of parts; the last ones stay open, so that a volume is not read for each of its planes.

    Args:
        read: opens the files of a whole case.
    """

    def __init__(self, read: Callable[[Case, ReadPlan], _T]) -> None:
        self._read = read
        self._found: OrderedDict[object, _T | DataError] = OrderedDict()
        self._lock = Lock()  # threads that read planes of the same volume wait for the one that opens it

    def get(self, part: Case, plan: ReadPlan) -> _T:
        """Open the whole files of a part, or return them if they are open; raises as `read`, each time."""
        whole = replace(part, id="", group=None, split=None, plane=None, area=None, neighbors=())
        key = (whole, plan.model_dump_json(), *map(_stamp, (*part.images, *part.labels)))
        with self._lock:
            if key not in self._found:
                self._found[key] = self._try(whole, plan)
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

    def _try(self, whole: Case, plan: ReadPlan) -> _T | DataError:
        try:
            return self._read(whole, plan)
        except DataError as error:
            return error


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of a file, to notice that it was replaced; zeros if it is not there."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def take_part(whole: ImageSource, case: Case) -> ImageSource:
    """View the part of a case in the image of its whole files."""
    source = whole if case.plane is None else PlaneSource(whole, case.plane)
    return source if case.area is None else AreaSource(source, case.area)


def cut_label(label: Volume, image: ImageSource, case: Case) -> Volume:
    """Cut the part of a case out of the label of its whole files.

    Args:
        label: the label of the whole files.
        image: their image.
        case: the part.

    Returns:
        The label of the part, on the grid that `take_part` gives its image.

    Raises:
        DataError: the label does not lie on the image.
    """
    _require_same_grid(label, image, str(case.labels[0]))
    array, alpha, geometry = label.array, label.alpha, image.geometry
    if case.plane is not None:
        turn = find_turn(geometry)
        array, geometry = turn.apply(array[:, case.plane]), plane_geometry(geometry)
        alpha = None if alpha is None else turn.apply(alpha[case.plane])
    if case.area is not None:
        inside = tuple(slice(*span) for span in case.area)
        array, geometry = array[(slice(None), *inside)], area_geometry(geometry, case.area)
        alpha = None if alpha is None else alpha[inside]
    geometry = replace(geometry, suffix=label.geometry.suffix, notes=label.geometry.notes)
    return replace(label, array=np.ascontiguousarray(array), alpha=alpha, geometry=geometry)


def _require_same_grid(label: Volume, image: ImageSource, where: str) -> None:
    action = "Give the label that belongs to the image."
    if label.shape != image.shape[1:]:
        got, expected = f"a label of {describe_shape(label.shape)}", f"{describe_shape(image.shape[1:])}, as its image"
        raise DataError(Problem(where, got, expected, action))
    if not label.geometry.matches(image.geometry):
        got, expected = "another spacing, origin or direction than its image", "the same"
        raise DataError(Problem(where, got, expected, action))
