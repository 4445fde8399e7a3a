"""Resampling from the network's grid to the image's, band by band: the inverse of that in `data.preprocess`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from unetpp.data.resampling import find_nearest
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
    lower, upper, weight = _neighbors(grid[0], shape[0], thick == 0)
    buffer: Tensor | None = None
    first_row = done = 0
    for band in bands:
        rows = _resize_planes(band.probabilities, shape[1:], thick)
        buffer = rows if buffer is None else torch.cat([buffer, rows], dim=2)
        complete = int(torch.searchsorted(upper, first_row + buffer.shape[2]))
        while done < complete:
            chunk = slice(done, min(done + rows_per_chunk(rows[:, :, 0].numel()), complete))
            yield Band(done, _interpolate(buffer, lower[chunk] - first_row, upper[chunk] - first_row, weight[chunk]))
            done = chunk.stop
        if done < len(lower):
            passed = min(int(lower[done]) - first_row, buffer.shape[2])
            buffer, first_row = buffer[:, :, passed:].clone(), first_row + passed


def _neighbors(size: int, rows: int, is_thick: bool) -> tuple[Tensor, Tensor, Tensor]:
    """For each of `rows` rows: the row of the grid before it, the one after it, and the weight of the latter.

    The edges of the two grids coincide. Across thick slices both are the nearest row.
    """
    if is_thick:
        nearest = torch.from_numpy(find_nearest(size, rows))
        return nearest, nearest, torch.zeros(rows)
    position = ((torch.arange(rows, dtype=torch.float64) + 0.5) * (size / rows) - 0.5).clamp(0, size - 1)
    lower = position.floor().long()
    return lower, (lower + 1).clamp(max=size - 1), (position - lower).float()


def _resize_planes(probabilities: Tensor, shape: tuple[int, ...], thick: int | None) -> Tensor:
    """Resample all axes but the first spatial one; along `thick`, counted with it, by the nearest slice."""
    if thick:
        axis, size = thick + 2, shape[thick - 1]
        nearest = torch.from_numpy(find_nearest(probabilities.shape[axis], size)).to(probabilities.device)
        probabilities = probabilities.index_select(axis, nearest)
    depths, channels, rows = probabilities.shape[:3]
    if probabilities.shape[3:] == shape:
        return probabilities.clone()
    mode = {1: "linear", 2: "bilinear"}[len(shape)]
    resized = functional.interpolate(probabilities.flatten(0, 1), size=shape, mode=mode, align_corners=False)
    return resized.view(depths, channels, rows, *shape)


def _interpolate(rows: Tensor, lower: Tensor, upper: Tensor, weight: Tensor) -> Tensor:
    weight = weight.to(rows.device).view(-1, *[1] * (rows.ndim - 3))
    return torch.lerp(rows[:, :, lower.to(rows.device)], rows[:, :, upper.to(rows.device)], weight)
