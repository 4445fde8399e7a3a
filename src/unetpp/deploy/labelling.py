"""What the numbers in label files stand for, so that masks written in different ways can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetpp.data.values import count_values
from unetpp.errors import DataError, Problem

USUAL_FOREGROUND = (1, 255)


@dataclass(frozen=True)
class Labelling:
    """Classes and the value that stands for each in files, background first."""

    classes: tuple[str, ...]
    values: tuple[int, ...]

    @property
    def is_foreground_only(self) -> bool:
        """Two classes with background 0: any other value in a reference is foreground, be it 1, 255 or the number of an object."""
        return len(self.values) == 2 and self.values[0] == 0

    def of_prediction(self, label: np.ndarray, path: Path) -> np.ndarray:
        """Class indices of a predicted label.

        Raises:
            DataError: a value that is no class.
        """
        if self.is_foreground_only and set(count_values(label)) <= {*self.values, *USUAL_FOREGROUND}:
            return (label != 0).astype(np.uint8)
        return self._looked_up(label, path)

    def of_reference(self, label: np.ndarray, path: Path) -> np.ndarray:
        """Class indices of a reference, which may be a map of objects where there is only foreground. Raises as `of_prediction`."""
        return (label != 0).astype(np.uint8) if self.is_foreground_only else self._looked_up(label, path)

    def _looked_up(self, label: np.ndarray, path: Path) -> np.ndarray:
        order = np.argsort(self.values)
        sorted_values = np.asarray(self.values)[order]
        place = np.searchsorted(sorted_values, label).clip(max=len(self.values) - 1)
        foreign = label[sorted_values[place] != label]
        if foreign.size:
            listed = ", ".join(map(str, np.unique(foreign)[:5]))
            raise DataError(Problem(str(path), f"the label value {listed}", f"one of {list(self.values)}", "Compare labels of the same classes."))
        return order[place].astype(np.uint8 if len(self.values) <= 256 else np.uint16)


def found_labelling(predictions: Iterable[np.ndarray], references: Iterable[np.ndarray]) -> Labelling:
    """The labelling of files that do not declare theirs, from the values in them.

    Predictions with one value beside 0 are taken for foreground; else every value is a class.
    """
    values = sorted({0}.union(*(count_values(label) for label in predictions)))
    if len(values) <= 2:
        return Labelling(("background", "foreground"), (0, values[-1] or 1))
    values = sorted({*values}.union(*(count_values(label) for label in references)))
    return Labelling(("background", *(f"class_{value}" for value in values[1:])), tuple(values))


def declared_labelling(classes: Sequence[str], values: Sequence[int]) -> Labelling:
    return Labelling(tuple(classes), tuple(values))
