"""Exclusive classes in label files and as channels of NumPy arrays, without torch; `classes_torch` handles tensors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetpp.errors import DataError, Problem
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
        indices = np.empty(label.shape, dtype=index_type(len(self.values)))
        foreign: set[int] = set()
        for slices in slabs(label.shape):
            block = label[slices]
            place = np.minimum(np.searchsorted(known, block), len(known) - 1)
            if not (matches := known[place] == block).all():
                foreign.update(np.unique(block[~matches]).tolist())
            indices[slices] = codes_of[place]
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
        kinds = (np.iinfo(kind) for kind in (np.uint8, np.uint16, np.int16, np.int32))
        return values.astype(
            next(kind.dtype for kind in kinds if kind.min <= values.min() and values.max() <= kind.max)
        )


def index_type(num_classes: int) -> type[np.uint8 | np.uint16]:
    """Choose the integer type of class indices, with room for `ignored_index`."""
    return np.uint8 if num_classes <= 255 else np.uint16


def ignored_index(num_classes: int) -> int:
    """Return the index of voxels that nobody labeled, the largest of its type."""
    return int(np.iinfo(index_type(num_classes)).max)


def most_probable(probabilities: Iterable[np.ndarray], indices: np.ndarray) -> np.ndarray:
    """Find the most probable class of each voxel; of equal ones the first.

    Args:
        probabilities: probabilities (*spatial) of one class after the other.
        indices: array (*spatial) to fill with class indices.

    Returns:
        `indices`.
    """
    best = np.full(indices.shape, -np.inf, dtype=np.float32)
    indices[...] = 0
    for index, probability in enumerate(probabilities):
        indices[probability > best] = index
        np.maximum(best, probability, out=best)
    return indices


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Compute the entropy along the first axis, as a fraction of that of equally probable classes: 0 to 1."""
    total = np.zeros(probabilities.shape[1:], dtype=np.float32)
    for probability in probabilities:
        total += probability * np.log(np.maximum(probability, np.finfo(np.float32).tiny))
    uncertainty: np.ndarray = np.clip(-total / np.log(len(probabilities)), 0, 1)
    return uncertainty


def soft_counts(probabilities: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Count voxels for soft Dice; arguments and result as of `classes_torch.soft_counts`, for all classes."""
    found = []
    for index, probability in enumerate(probabilities[1:], start=1):
        chosen = indices == index
        hits = probability.sum(where=chosen, dtype=np.float64)
        found.append((probability.sum(dtype=np.float64), hits, chosen.sum()))
    return np.array(found, dtype=np.float64).T
