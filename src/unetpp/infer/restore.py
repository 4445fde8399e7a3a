"""Resampling from the network's grid to the image's: the inverse of that in `data.preprocess`.

It is done axis by axis, in bands of rows or for a block alone, by the same arithmetic: a voxel is the same number in
both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from unetpp.data.resampling import find_nearest
from unetpp.formats.sources import Slices
from unetpp.infer.bands import Band, rows_per_chunk


def resample_bands(
    bands: Iterable[Band], grid: tuple[int, ...], shape: tuple[int, ...], thick: int | None = None
) -> Iterator[Band]:
    """Interpolate probabilities linearly from `grid` to `shape`, band by band; unchanged if the two are equal.

    Interpolating probabilities rather than classes keeps outlines smooth. Only the rows between two bands are buffered.

    Args:
        bands: probabilities on the grid, from the first row to the last.
        grid: shape of the network's grid, (*spatial).
        shape: shape of the image, (*spatial).
        thick: axis along which the nearest slice is taken; None: there is none.
    """
    if grid == shape:
        yield from bands
        return
    taps = _find_taps(grid[0], shape[0], thick == 0)
    buffer: Tensor | None = None
    first_row = done = 0
    for band in bands:
        rows = _resize_planes(band.probabilities, grid, shape, thick)
        buffer = rows if buffer is None else torch.cat([buffer, rows], dim=2)
        complete = int(torch.searchsorted(taps.upper, first_row + buffer.shape[2]))
        while done < complete:
            chunk = slice(done, min(done + rows_per_chunk(rows[:, :, 0].numel()), complete))
            yield Band(done, _resize_axis(buffer, 0, taps.cut(chunk, first_row)))
            done = chunk.stop
        if done < len(taps.lower):
            passed = min(int(taps.lower[done]) - first_row, buffer.shape[2])
            buffer, first_row = buffer[:, :, passed:].clone(), first_row + passed


def find_region(area: Slices, grid: tuple[int, ...], shape: tuple[int, ...], thick: int | None = None) -> Slices:
    """Find the voxels of the network's grid from which a block of the image is interpolated.

    Args:
        area: of the image, one slice for each axis.
        grid: shape of the network's grid, (*spatial).
        shape: shape of the image, (*spatial).
        thick: axis along which the nearest slice is taken; None: there is none.
    """
    found = []
    for axis, part in enumerate(area):
        taps = _find_taps(grid[axis], shape[axis], axis == thick).cut(part, 0)
        is_same = grid[axis] == shape[axis]
        found.append(part if is_same else slice(int(taps.lower.min()), int(taps.upper.max()) + 1))
    return tuple(found)


def resample_region(
    values: Tensor,
    region: Slices,
    area: Slices,
    grid: tuple[int, ...],
    shape: tuple[int, ...],
    thick: int | None = None,
) -> Tensor:
    """Interpolate a block of the image, to the last bit as `resample_bands` does.

    Args:
        values: (depths, channels, *region) on the network's grid.
        region: what `find_region` returned for the block.
        area: the block.
        grid: shape of the network's grid, (*spatial).
        shape: shape of the image, (*spatial).
        thick: axis along which the nearest slice is taken; None: there is none.
    """
    if grid == shape:
        return values
    for axis in reversed(range(len(grid))):
        if grid[axis] != shape[axis]:
            taps = _find_taps(grid[axis], shape[axis], axis == thick)
            values = _resize_axis(values, axis, taps.cut(area[axis], region[axis].start))
    return values


@dataclass(frozen=True, eq=False)
class _Taps:
    """For each position after resampling along an axis, what it is made of."""

    lower: Tensor
    """The position before it."""
    upper: Tensor
    """The one after it; across thick slices both are the nearest."""
    weight: Tensor | None
    """Weight of the latter; None: the lower is taken as it is."""

    def cut(self, part: slice, start: int) -> _Taps:
        """Return those of a part of the positions, counted from `start` on."""
        weight = None if self.weight is None else self.weight[part]
        return _Taps(self.lower[part] - start, self.upper[part] - start, weight)


def _find_taps(size: int, rows: int, is_thick: bool) -> _Taps:
    """Find what `rows` positions are made of, of `size`; the edges of the two grids coincide."""
    if is_thick:
        nearest = torch.from_numpy(find_nearest(size, rows))
        return _Taps(nearest, nearest, None)
    position = ((torch.arange(rows, dtype=torch.float64) + 0.5) * (size / rows) - 0.5).clamp(0, size - 1)
    lower = position.floor().long()
    return _Taps(lower, (lower + 1).clamp(max=size - 1), (position - lower).float())


def _resize_planes(values: Tensor, grid: tuple[int, ...], shape: tuple[int, ...], thick: int | None) -> Tensor:
    """Resample all axes but the first spatial one; along `thick`, counted with it, by the nearest slice."""
    if grid[1:] == shape[1:]:
        return values.clone()
    for axis in reversed(range(1, len(grid))):
        if grid[axis] != shape[axis]:
            values = _resize_axis(values, axis, _find_taps(grid[axis], shape[axis], axis == thick))
    return values


def _resize_axis(values: Tensor, axis: int, taps: _Taps) -> Tensor:
    """Resample one spatial axis of (depths, channels, *spatial)."""
    below = _take(values, axis, taps.lower)
    if taps.weight is None:
        return below
    weight = taps.weight.to(values.device).view(-1, *[1] * (values.ndim - axis - 3))
    return torch.lerp(below, _take(values, axis, taps.upper), weight)


def _take(values: Tensor, axis: int, places: Tensor) -> Tensor:
    """Take positions along a spatial axis."""
    places = places.to(values.device)
    if axis + 3 < values.ndim:
        return values.index_select(axis + 2, places)
    return values.gather(-1, places.expand(*values.shape[:-1], -1))  # a fifth of the time along the last axis
