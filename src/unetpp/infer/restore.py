"""From the network's grid back to the image's: the inverse of the resampling in `data.preprocess`, band by band."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from unetpp.infer.bands import Band, rows_at_once


def resample_bands(bands: Iterable[Band], grid: tuple[int, ...], shape: tuple[int, ...]) -> Iterator[Band]:
    """Interpolate probabilities linearly from `grid` to `shape` as they come; unchanged where the two are the same.

    Interpolating probabilities, not classes, keeps outlines smooth. Only the rows between two bands are kept.
    """
    if grid == shape:
        yield from bands
        return
    lower, upper, share = _neighbours(grid[0], shape[0])
    kept: Tensor | None = None
    first_kept = done = 0
    for band in bands:
        rows = _resize_planes(band.probabilities, shape[1:])
        kept = rows if kept is None else torch.cat([kept, rows], dim=2)
        complete = int(torch.searchsorted(upper, first_kept + kept.shape[2]))
        while done < complete:
            some = slice(done, min(done + rows_at_once(rows[:, :, 0].numel()), complete))
            yield Band(done, _mix(kept, lower[some] - first_kept, upper[some] - first_kept, share[some]))
            done = some.stop
        if done < len(lower):
            passed = min(int(lower[done]) - first_kept, kept.shape[2])
            kept, first_kept = kept[:, :, passed:].clone(), first_kept + passed


def _neighbours(size: int, wanted: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each of `wanted` rows the row of the grid before it, that after it, and the share of the latter; edges coincide."""
    position = ((torch.arange(wanted, dtype=torch.float64) + 0.5) * (size / wanted) - 0.5).clamp(0, size - 1)
    lower = position.floor().long()
    return lower, (lower + 1).clamp(max=size - 1), (position - lower).float()


def _resize_planes(probabilities: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Resample all axes but the first spatial one."""
    depths, channels, rows = probabilities.shape[:3]
    if probabilities.shape[3:] == shape:
        return probabilities.clone()
    mode = {1: "linear", 2: "bilinear"}[len(shape)]
    resized = functional.interpolate(probabilities.flatten(0, 1), size=shape, mode=mode, align_corners=False)
    return resized.view(depths, channels, rows, *shape)


def _mix(rows: Tensor, lower: Tensor, upper: Tensor, share: Tensor) -> Tensor:
    weight = share.to(rows.device).view(-1, *[1] * (rows.ndim - 3))
    return torch.lerp(rows[:, :, lower.to(rows.device)], rows[:, :, upper.to(rows.device)], weight)
