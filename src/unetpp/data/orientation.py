"""Orientation: the permutation and flips that bring the axes of a volume nearest to RAS+, and the way back.

In canonical order X runs to the right of the body, Y to the front and Z to the head, whatever the file stores: arrays
are (..., Z, Y, X) with the axes (superior, anterior, right). Nothing is interpolated; arrays are turned as views.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from unetpp.formats.sources import ImageSource, Slices
from unetpp.volume import Geometry

T = TypeVar("T")


@dataclass(frozen=True)
class Orientation:
    """Which stored axis becomes which canonical axis, and which of them are reversed."""

    order: tuple[int, ...]
    """Stored axis (of the spatial ones) that becomes each canonical axis."""
    flips: tuple[bool, ...]
    """Whether each canonical axis runs against the stored one."""

    @property
    def is_identity(self) -> bool:
        """Whether the stored axes are the canonical ones."""
        return self.order == tuple(range(len(self.order))) and not any(self.flips)

    def turn(self, array: np.ndarray) -> np.ndarray:
        """View an array (..., *stored) in canonical order, (..., *canonical)."""
        first = array.ndim - len(self.order)
        turned = array.transpose([*range(first), *(first + axis for axis in self.order)])
        return turned[(..., *(slice(None, None, -1 if flip else None) for flip in self.flips))]

    def turn_back(self, array: np.ndarray) -> np.ndarray:
        """View an array (..., *canonical) in stored order, (..., *stored)."""
        first = array.ndim - len(self.order)
        flipped = array[(..., *(slice(None, None, -1 if flip else None) for flip in self.flips))]
        return flipped.transpose([*range(first), *(first + int(axis) for axis in np.argsort(self.order))])

    def turn_sizes(self, sizes: Sequence[T]) -> tuple[T, ...]:
        """Put one value for each stored axis (a shape, a voxel size) into canonical order."""
        return tuple(sizes[axis] for axis in self.order)

    def find_stored_block(self, slices: Slices, stored: Sequence[int]) -> Slices:
        """Find the block of the stored array that holds a canonical block.

        Args:
            slices: one for each canonical axis.
            stored: shape of the stored array, (*spatial).

        Returns:
            One slice for each stored axis.
        """
        block = [slice(0, 0)] * len(self.order)
        for part, axis, flip in zip(slices, self.order, self.flips, strict=True):
            start, stop, _ = part.indices(stored[axis])
            block[axis] = slice(stored[axis] - stop, stored[axis] - start) if flip else slice(start, stop)
        return tuple(block)

    def find_turned_block(self, slices: Slices, stored: Sequence[int]) -> Slices:
        """Find the canonical block that holds a block of the stored array: the inverse of `find_stored_block`."""
        block = []
        for axis, flip in zip(self.order, self.flips, strict=True):
            start, stop, _ = slices[axis].indices(stored[axis])
            block.append(slice(stored[axis] - stop, stored[axis] - start) if flip else slice(start, stop))
        return tuple(block)


def keep_axes(dims: int) -> Orientation:
    """Make the orientation that changes nothing."""
    return Orientation(tuple(range(dims)), (False,) * dims)


def find_orientation(geometry: Geometry, dims: int) -> Orientation | None:
    """Find what brings a volume nearest to RAS+, as nibabel does; None where the header states no orientation.

    Args:
        geometry: geometry of the file.
        dims: number of its spatial axes.
    """
    if dims != 3 or geometry.affine is None or not geometry.is_placed:
        return None
    from nibabel.orientations import io_orientation

    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.asarray(io_orientation(geometry.affine))
    if not np.isfinite(found).all():  # an axis without direction
        return None
    order, flips = [0, 0, 0], [False] * 3
    for stored, (world, sign) in enumerate(found):  # of X, Y, Z; arrays are Z, Y, X
        order[2 - int(world)], flips[2 - int(world)] = 2 - stored, bool(sign < 0)
    return Orientation(tuple(order), tuple(flips))


class TurnedSource:
    """A source in canonical order; each block is read from the stored one where it lies."""

    def __init__(self, source: ImageSource, orientation: Orientation) -> None:
        self._source, self._orientation = source, orientation
        self._stored = source.shape[1:]
        self.shape = (source.shape[0], *orientation.turn_sizes(self._stored))
        self.dtype: np.dtype[Any] = source.dtype
        self.geometry = turn_geometry(source.geometry, orientation, self._stored)

    def read(self, slices: Slices) -> np.ndarray:
        """Read a block (C, *canonical), contiguous."""
        block = self._source.read(self._orientation.find_stored_block(slices, self._stored))
        return np.ascontiguousarray(self._orientation.turn(block))


def turn_source(source: ImageSource, orientation: Orientation) -> ImageSource:
    """View a source in canonical order; itself if it is stored so."""
    return source if orientation.is_identity else TurnedSource(source, orientation)


def turn_geometry(geometry: Geometry, orientation: Orientation, stored: Sequence[int]) -> Geometry:
    """Describe the same voxels in canonical order; without the header, which describes the stored order.

    Args:
        geometry: geometry of the file.
        orientation: turns its axes.
        stored: spatial shape of the file.
    """
    spacing = geometry.spacing_mm and orientation.turn_sizes(geometry.spacing_mm)
    affine = geometry.affine
    if affine is not None:
        to_stored = np.zeros((4, 4))  # from canonical (x, y, z) to stored (x, y, z)
        to_stored[3, 3] = 1
        for canonical, (axis, flip) in enumerate(zip(orientation.order, orientation.flips, strict=True)):
            to_stored[2 - axis, 2 - canonical] = -1 if flip else 1
            to_stored[2 - axis, 3] = stored[axis] - 1 if flip else 0
        affine = affine @ to_stored
    return replace(geometry, spacing_mm=spacing, affine=affine, other_affines=(), header=None)
