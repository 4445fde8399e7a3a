"""Classes of which each voxel has one, in label files and as channels of NumPy arrays. Needs no torch: `classes_torch` has tensors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetpp.errors import DataError, Problem
from unetpp.slabs import slabs


@dataclass(frozen=True)
class Classes:
    """Names of the classes and the value that stands for each in label files, background first."""

    names: tuple[str, ...]
    values: tuple[int, ...]
    objects: bool = False
    """Labels may hold objects: any value above 0 in them is foreground."""

    def encode(self, label: np.ndarray, where: str | Path) -> np.ndarray:
        """Class indices (*spatial) of the values of a label file (*spatial), which is called `where` in errors.

        Raises:
            DataError: a value that stands for no class.
        """
        if self.objects:
            return (label > 0).astype(np.uint8)
        order = np.argsort(self.values)
        known = np.asarray(self.values)[order]
        indices = np.empty(label.shape, dtype=index_type(len(known)))
        foreign: set[int] = set()
        for slices in slabs(label.shape):
            block = label[slices]
            place = np.minimum(np.searchsorted(known, block), len(known) - 1)
            if not (matches := known[place] == block).all():
                foreign.update(np.unique(block[~matches]).tolist())
            indices[slices] = order[place]
        if foreign:
            some = ", ".join(map(str, sorted(foreign)[:5])) + ", ..." * (len(foreign) > 5)
            classes = ", ".join(f"{value} ({name})" for value, name in zip(self.values, self.names, strict=True))
            got, action = f"label values that stand for no class: {some}", "Correct the label, or declare the class."
            raise DataError(Problem(str(where), got, classes, action))
        return indices

    def decode(self, indices: np.ndarray) -> np.ndarray:
        """Values of a label file for class indices, in the smallest type that holds all of them."""
        return self.table[indices]

    @property
    def table(self) -> np.ndarray:
        """The value of each class."""
        values = np.asarray(self.values)
        kinds = (np.iinfo(kind) for kind in (np.uint8, np.uint16, np.int16, np.int32))
        return values.astype(
            next(kind.dtype for kind in kinds if kind.min <= values.min() and values.max() <= kind.max)
        )


def index_type(num_classes: int) -> type[np.uint8 | np.uint16]:
    """Number type of class indices."""
    return np.uint8 if num_classes <= 256 else np.uint16


def most_probable(probabilities: Iterable[np.ndarray], indices: np.ndarray) -> np.ndarray:
    """Fill `indices` with the most probable class of each voxel, of equal ones the first; classes come one after the other."""
    best = np.full(indices.shape, -np.inf, dtype=np.float32)
    indices[...] = 0
    for index, of_class in enumerate(probabilities):
        indices[of_class > best] = index
        np.maximum(best, of_class, out=best)
    return indices
