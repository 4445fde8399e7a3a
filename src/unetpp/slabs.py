"""Slabs of an array: they bound the memory of a pass over an image of any size."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Protocol

import numpy as np

SLAB_VALUES = 2**22
"""Largest number of voxels in a slab, unless one row has more."""


def slabs(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Yield slabs of whole rows along the first axis, as one slice for each axis."""
    rows = max(1, SLAB_VALUES // max(1, prod(shape[1:])))
    for start in range(0, shape[0], rows):
        yield (slice(start, min(start + rows, shape[0])), *(slice(0, size) for size in shape[1:]))


class Sliced(Protocol):
    """An array of which blocks are read, wherever it is."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size along each axis."""

    def __getitem__(self, key: tuple[slice, ...], /) -> np.ndarray:
        """Read a block."""
