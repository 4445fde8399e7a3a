"""Resampling of images and labels from one grid to another whose edges are the same, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np

from unetpp.formats.sources import ArraySource, Slices
from unetpp.scratch import allocate_array, release
from unetpp.slabs import slabs
from unetpp.volume import Geometry

THICK_RATIO = 3.0
"""Ratio of the longest to the shortest side of a voxel above which slices are thick (as in nnU-Net)."""
EQUAL = 1.01
"""Ratio of lengths up to which they are equal."""
Method = Literal["linear", "cubic", "nearest"]


class Readable(Protocol):
    """What yields blocks (C, ...) of an image."""

    def read(self, slices: Slices) -> np.ndarray:
        """Read the block within `slices`, one for each spatial axis."""


def find_thick_axis(spacing_mm: Sequence[float] | None, target_mm: Sequence[float] | None) -> int | None:
    """Find the axis across slices that are thick on one of two grids, the first in doubt.

    Along it an interpolation would invent what lies between the slices. As in nnU-Net: voxels more than 3 times as
    long along it as along the shortest axis, and longer than along all others.

    Args:
        spacing_mm: voxel size of one grid; None: unknown.
        target_mm: voxel size of the other.

    Returns:
        The axis; None if there is none, and for images.
    """
    for sizes in (spacing_mm, target_mm):
        if sizes is not None and len(sizes) == 3 and max(sizes) > THICK_RATIO * min(sizes):
            long = [axis for axis, size in enumerate(sizes) if size * EQUAL > max(sizes)]
            return long[0] if len(long) == 1 else None
    return None


def choose_methods(dims: int, method: Method, thick: int | None) -> tuple[Method, ...]:
    """Return how each axis is resampled.

    Args:
        dims: number of axes.
        method: along all axes but one.
        thick: the axis along which the nearest slice is taken; None: there is none.
    """
    return tuple("nearest" if axis == thick else method for axis in range(dims))


def find_nearest(old: int, size: int) -> np.ndarray:
    """Return, for an axis resampled from `old` to `size` voxels, the nearest voxel before for each one after."""
    nearest: np.ndarray = ((np.arange(size) + 0.5) * (old / size)).astype(np.intp)
    return nearest


def resample_nearest(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Resample (*spatial) to another shape by nearest neighbors, with the edges of `resample_block`.

    It is done slab by slab, and a large result lies on disk.
    """
    nearest = [find_nearest(old, size) for old, size in zip(array.shape, shape, strict=True)]
    found = allocate_array(shape, array.dtype)
    for slices in slabs(shape):
        found[slices] = array[np.ix_(*(places[part] for places, part in zip(nearest, slices, strict=True)))]
        release(found)
    return found


class Resampled:
    """An image on another grid, whose blocks are interpolated when they are read.

    Args:
        source: the image.
        shape: its spatial shape.
        grid: the new spatial shape.
        methods: how, for each axis.
    """

    def __init__(
        self, source: Readable, shape: tuple[int, ...], grid: tuple[int, ...], methods: Sequence[Method]
    ) -> None:
        self._source, self._shape, self._grid, self._methods = source, shape, grid, methods

    def read(self, slices: Slices) -> np.ndarray:
        """Interpolate a block of the new grid."""
        return resample_block(self._source, slices, self._shape, self._grid, self._methods)


def store_image(image: Readable, shape: tuple[int, ...]) -> ArraySource:
    """Store an image (*shape) slab by slab; a large one lies on disk."""
    array = allocate_array(shape, np.float32)
    for slices in slabs(shape[1:]):
        array[(slice(None), *slices)] = image.read(slices)
        release(array)
    return ArraySource(array, Geometry())


def resample_block(
    source: Readable,
    slices: Slices,
    shape: tuple[int, ...],
    grid: tuple[int, ...],
    methods: Sequence[Method] | None = None,
) -> np.ndarray:
    """Interpolate a block of another grid from the voxels around it.

    Args:
        source: the image.
        slices: of the block, one for each axis of `grid`.
        shape: spatial shape of the image.
        grid: the other spatial shape; the edges of the field of view do not move.
        methods: how, for each axis; None: linear along all.
    """
    chosen = methods or choose_methods(len(shape), "linear", None)
    taps = [
        None if old == size else _find_taps(old, size, part, method)
        for part, old, size, method in zip(slices, shape, grid, chosen, strict=True)
    ]
    around = tuple(
        part if found is None else slice(int(found[0].min()), int(found[0].max()) + 1)
        for part, found in zip(slices, taps, strict=True)
    )
    block = source.read(around)
    for axis, (part, found) in enumerate(zip(around, taps, strict=True), start=1):
        if found is not None:
            block = _combine(block, axis, found[0] - part.start, found[1])
    return block


def _find_taps(old: int, size: int, part: slice, method: Method) -> tuple[np.ndarray, np.ndarray]:
    """Return, for a part of an axis resampled from `old` to `size` voxels, which voxels before make each one after.

    Args:
        old: voxels of the axis before.
        size: voxels after resampling.
        part: of the axis after resampling.
        method: how.

    Returns:
        Voxels (taps, n), and the weights (taps, n) of all but the first, which has the rest of 1.
    """
    if method == "nearest":
        return find_nearest(old, size)[None, part], np.empty((0, part.stop - part.start), np.float32)
    position = np.clip((np.arange(part.start, part.stop) + 0.5) * (old / size) - 0.5, 0, old - 1)
    lower = position.astype(np.intp)
    offset = (position - lower).astype(np.float32)
    if method == "linear":
        return np.stack([lower, np.minimum(lower + 1, old - 1)]), offset[None]
    taps = np.clip(lower + np.array([[0], [-1], [1], [2]]), 0, old - 1)
    return taps, np.stack([_weigh(1 + offset), _weigh(1 - offset), _weigh(2 - offset)])


def _weigh(distance: np.ndarray) -> np.ndarray:
    """Weigh voxels at a distance of 0 to 2 voxels by the cubic of Keys 1981 with a = -1/2 (equations 15 and 22)."""
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weights: np.ndarray = np.where(distance <= 1, near, far).astype(np.float32)
    return weights


def _combine(array: np.ndarray, axis: int, taps: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Add voxels up along an axis: first + sum of weight * (other - first), exact where the voxels are equal."""
    first: np.ndarray = array.take(taps[0], axis)
    total: np.ndarray | None = None
    for indices, weight in zip(taps[1:], weights, strict=True):
        other: np.ndarray = array.take(indices, axis)
        other -= first  # in place: the array may take a large part of the memory
        other *= weight.reshape(-1, *[1] * (array.ndim - axis - 1))
        total = other if total is None else np.add(total, other, out=total)
    return first if total is None else np.add(total, first, out=total)
