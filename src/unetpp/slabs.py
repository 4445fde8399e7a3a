"""Slabs of an array: the memory of a pass over an image is bounded, whatever its size."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

SLAB_VALUES = 2**22
"""Voxels that are looked at in one piece."""


def slabs(shape: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Slabs of whole rows along the first axis."""
    rows = max(1, SLAB_VALUES // max(1, prod(shape[1:])))
    for start in range(0, shape[0], rows):
        yield (slice(start, min(start + rows, shape[0])), *(slice(0, size) for size in shape[1:]))
