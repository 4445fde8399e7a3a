"""Exclusive classes in label files: values to class indices and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np

from unetpp.errors import DataError, Problem
from unetpp.scratch import allocate_array, release
from unetpp.slabs import slabs


@dataclass(frozen=True)
class Classes:
    """Exclusive classes: each voxel has one. Background first."""

    names: tuple[str, ...]
    """Name of each class."""
    values: tuple[int, ...]
    """Value of each class in label files."""
    ignore: int | None = None
    """Value of voxels that nobody labeled, encoded as `ignored_index`; None: there are none."""

    def encode(self, label: np.ndarray, where: str | Path) -> np.ndarray:
        """Encode the values of a label file (*spatial) as class indices (*spatial); errors name `where`.

        Raises:
            DataError: a value that stands for no class.
        """
        values, codes = [*self.values], [*range(len(self.values))]
        if self.ignore is not None:
            values, codes = [*values, self.ignore], [*codes, ignored_index(len(codes))]
        order = np.argsort(values)
        known, codes_of = np.asarray(values)[order], np.asarray(codes)[order]
        indices = allocate_array(label.shape, index_type(len(self.values)))
        foreign: set[int] = set()
        for slices in slabs(label.shape):
            block = label[slices]
            place = np.minimum(np.searchsorted(known, block), len(known) - 1)
            if not (matches := known[place] == block).all():
                foreign.update(np.unique(block[~matches]).tolist())
            indices[slices] = codes_of[place]
            release(indices)
        if foreign:
            raise DataError(self.describe_foreign(sorted(foreign), where))
        return indices

    def describe_foreign(self, foreign: Sequence[object], where: str | Path) -> Problem:
        """Describe values in a file that stand for no class."""
        some = ", ".join(map(str, foreign[:5])) + ", ..." * (len(foreign) > 5)
        classes = ", ".join(f"{value} ({name})" for value, name in zip(self.values, self.names, strict=True))
        got, action = f"label values that stand for no class: {some}", "Correct the label, or declare the class."
        return Problem(str(where), got, classes, action, topic="values")

    def decode(self, indices: np.ndarray) -> np.ndarray:
        """Decode class indices to values of a label file, in the smallest integer type that holds all of them."""
        values: np.ndarray = self.table[indices]
        return values

    @property
    def table(self) -> np.ndarray:
        """Value of each class, in that type."""
        values = np.asarray(self.values)
        kinds = (np.iinfo(kind) for kind in (np.uint8, np.uint16, np.int16, np.int32, np.uint32, np.int64))
        return values.astype(
            next(kind.dtype for kind in kinds if kind.min <= values.min() and values.max() <= kind.max)
        )


def find_region(indices: np.ndarray, region: Sequence[int]) -> np.ndarray:
    """Find the voxels (*spatial) of a region, the union of some classes."""
    if not region:
        return np.zeros(indices.shape, bool)
    found: np.ndarray = reduce(np.logical_or, (indices == index for index in region))
    return found


def list_regions(num_classes: int, regions: Sequence[Sequence[int]] | None) -> Sequence[Sequence[int]]:
    """List the class indices of everything that is scored: of each region, or of each foreground class."""
    return [(index,) for index in range(1, num_classes)] if regions is None else regions


def index_type(num_classes: int) -> type[np.uint8 | np.uint16]:
    """Choose the integer type of class indices, with room for `ignored_index`."""
    return np.uint8 if num_classes <= 255 else np.uint16


def ignored_index(num_classes: int) -> int:
    """Return the index of voxels that nobody labeled, the largest of its type."""
    return int(np.iinfo(index_type(num_classes)).max)
