"""What the numbers in label files stand for, so that masks written in different ways can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetpp.data.values import MAX_CLASSES, class_indices, count_values
from unetpp.errors import DataError, Problem

FOREGROUND = ("background", "foreground")
MASK_VALUES = (0, 255)
"""Of a mask that cannot be anything else; 0 and 1 may also be the first of several classes."""


@dataclass(frozen=True)
class Labelling:
    """Classes and the value that stands for each in files, background first."""

    classes: tuple[str, ...]
    values: tuple[int, ...]
    objects: bool = False
    """References may hold objects: any value above 0 in them is foreground."""

    def of_prediction(self, label: np.ndarray, path: Path) -> np.ndarray:
        """Class indices of a label; where there is only foreground, it may be 1 or 255.

        Raises:
            DataError: a value that is no class.
        """
        foreground = set(count_values(label)) - {0}
        if (
            len(self.values) == 2
            and self.values[0] == 0
            and len(foreground) <= 1
            and foreground <= {self.values[1], 1, 255}
        ):
            return (label != 0).astype(np.uint8)
        return self._looked_up(label, path)

    def of_reference(self, label: np.ndarray, path: Path) -> np.ndarray:
        """Class indices of a reference, which may be a map of objects. Raises as `of_prediction`."""
        return (label != 0).astype(np.uint8) if self.objects else self.of_prediction(label, path)

    def _looked_up(self, label: np.ndarray, path: Path) -> np.ndarray:
        indices, foreign = class_indices(label, self.values)
        if len(foreign):
            listed = ", ".join(map(str, foreign[:5]))
            raise DataError(
                Problem(
                    str(path),
                    f"the label value {listed}",
                    f"one of {list(self.values)}",
                    "Compare labels of the same classes.",
                )
            )
        return indices


def found_labelling(
    predictions: Iterable[np.ndarray], references: Iterable[np.ndarray], objects: bool, where: Path
) -> Labelling:
    """The labelling of files that do not declare theirs, from the values in them.

    Every value is a class, unless both sides have but one beside 0, or references hold objects: because that is known
    (`objects`), or because predictions are masks of 0 and 255.

    Raises:
        DataError: predictions of one class, and references of so many values that they cannot be classes.
    """
    predicted, expected = _values(predictions), _values(references)
    foreground = max(predicted) or 1
    if predicted <= {*MASK_VALUES} or (objects and len(predicted) == 2):
        return Labelling(FOREGROUND, (0, foreground), objects=True)
    values = sorted(predicted | expected)
    if len(values) == 2 or (predicted, expected) == ({0, 1}, {*MASK_VALUES}):
        return Labelling(FOREGROUND, (0, foreground))
    if len(predicted) == 2 and len(values) > MAX_CLASSES:
        got, action = f"{len(expected)} different values", "If they are objects, name the folder instances."
        raise DataError(
            Problem(
                str(where),
                got,
                f"those of the predictions, 0 and {foreground}, or at most {MAX_CLASSES} classes",
                action,
            )
        )
    return Labelling(("background", *(f"class_{value}" for value in values[1:])), tuple(values))


def declared_labelling(classes: Sequence[str], values: Sequence[int], objects: bool) -> Labelling:
    foreground_only = len(values) == 2 and values[0] == 0
    return Labelling(tuple(classes), tuple(values), foreground_only and (objects or tuple(values) == MASK_VALUES))


def _values(labels: Iterable[np.ndarray]) -> set[int]:
    return {0}.union(*(count_values(label) for label in labels))
