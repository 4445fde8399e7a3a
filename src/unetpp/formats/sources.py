"""Images that are read block by block: an image larger than memory can be predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from unetpp import scratch
from unetpp.volume import Geometry

Slices = tuple[slice, ...]
Area = tuple[tuple[int, int], ...]
"""(start, stop) along each spatial axis."""


class ImageSource(Protocol):
    """An image whose blocks are read on demand."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (C, *spatial)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Number type of the blocks, in native byte order."""

    @property
    def geometry(self) -> Geometry:
        """Grid and format of the file."""

    def read(self, slices: Slices) -> np.ndarray:
        """Read the block (C, *spatial) within `slices`, one for each spatial axis."""


class ArraySource:
    """An array (C, *spatial), in memory or mapped from a file."""

    def __init__(self, array: np.ndarray, geometry: Geometry) -> None:
        self._array = array
        self.geometry = geometry
        self.shape = array.shape
        self.dtype = array.dtype.newbyteorder("=")
        self._rows = slice(None)

    def read(self, slices: Slices) -> np.ndarray:
        """Copy a block."""
        if slices[0] != self._rows:  # tiles of the same rows share pages of a mapped file
            scratch.release(self._array)
            self._rows = slices[0]
        return np.ascontiguousarray(self._array[(slice(None), *slices)], dtype=self.dtype)


class FilledSource:
    """A source whose NaN and infinite voxels are replaced by a number."""

    def __init__(self, source: ImageSource, fill: float) -> None:
        self._source, self._fill = source, fill
        self.shape, self.dtype, self.geometry = source.shape, source.dtype, source.geometry

    def read(self, slices: Slices) -> np.ndarray:
        """Read a block, and fill it."""
        block = self._source.read(slices)
        wrong = ~np.isfinite(block)
        return np.where(wrong, np.asarray(self._fill, self.dtype), block) if wrong.any() else block


class StackedSource:
    """Several sources on the same grid, whose channels are concatenated."""

    def __init__(self, sources: Sequence[ImageSource]) -> None:
        self._sources = sources
        self.geometry = sources[0].geometry
        self.shape = (sum(source.shape[0] for source in sources), *sources[0].shape[1:])
        self.dtype: np.dtype[Any] = np.result_type(*(source.dtype for source in sources))

    def read(self, slices: Slices) -> np.ndarray:
        """Read a block of every source and concatenate their channels."""
        return np.concatenate([source.read(slices) for source in self._sources]).astype(self.dtype, copy=False)


class AreaSource:
    """The part of an image between (start, stop) along each spatial axis."""

    def __init__(self, source: ImageSource, area: Area) -> None:
        self._source, self._area = source, area
        self.geometry = area_geometry(source.geometry, area)
        self.shape = (source.shape[0], *(stop - start for start, stop in area))
        self.dtype = source.dtype

    def read(self, slices: Slices) -> np.ndarray:
        """Read a block, whose `slices` count from the corner of the area."""
        spans = (part.indices(stop - start)[:2] for part, (start, stop) in zip(slices, self._area, strict=True))
        return self._source.read(
            tuple(slice(start + low, start + high) for (low, high), (start, _) in zip(spans, self._area, strict=True))
        )


def area_geometry(geometry: Geometry, area: Area) -> Geometry:
    """Return the grid of a part of an image: where it lies in that of the whole image."""
    corner = np.array([start for start, _ in area][::-1] + [0] * (3 - len(area)), dtype=float)

    def move(affine: np.ndarray) -> np.ndarray:
        moved = np.array(affine, dtype=float)
        moved[:3, 3] += moved[:3, :3] @ corner
        return moved

    affine = None if geometry.affine is None else move(geometry.affine)
    others = tuple(move(other) for other in geometry.other_affines)
    return replace(geometry, affine=affine, header=None, other_affines=others)
