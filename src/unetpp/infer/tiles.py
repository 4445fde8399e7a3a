"""Where tiles lie and how much each counts: the inverse of cutting an image into tiles is their weighted sum.

The tiles form a grid, so that weights are products of weights along the axes. Along each axis the weights of all tiles sum
to 1 at every voxel, therefore those of the whole grid do: a weighted sum needs no division, nor a map of sums.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import ceil, prod
from typing import Protocol

import numpy as np

SIGMA = 1 / 8
"""Of the Gaussian that weighs the voxels of a tile, as a share of its size (Isensee et al. 2021)."""


TileProgress = Callable[[int, int], None]
"""Called with (tiles done, tiles in all)."""


class TiledImage(Protocol):
    """What prediction needs of an image: normalised blocks on the network's grid."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, *grid)."""

    def read(self, slices: tuple[slice, ...]) -> np.ndarray:
        """The block (C, ...) float32 within `slices`, one for each axis of the grid."""


@dataclass(frozen=True, eq=False)
class Span:
    """What one tile covers along one axis."""

    inside: slice
    """Of the image."""
    within: slice
    """Of the tile: less than all of it where the image is smaller, which then lies in its middle."""
    weights: np.ndarray
    """float32, one for each voxel inside."""


Tile = tuple[Span, ...]


@dataclass(frozen=True)
class TileGrid:
    """The tiles that cover an image, in row order: the first spatial axis varies slowest."""

    shape: tuple[int, ...]
    tile: tuple[int, ...]
    overlap: float

    @cached_property
    def axes(self) -> tuple[tuple[Span, ...], ...]:
        return tuple(axis_spans(size, tile, self.overlap) for size, tile in zip(self.shape, self.tile, strict=True))

    def __len__(self) -> int:
        return prod(len(spans) for spans in self.axes)

    def __iter__(self) -> Iterator[Tile]:
        return itertools.product(*self.axes)


def axis_starts(size: int, tile: int, overlap: float) -> tuple[int, ...]:
    """First voxel of each tile along an axis, evenly spread and overlapping at least as asked; negative where the tile is the larger one."""
    if size <= tile:
        return (-((tile - size) // 2),)
    step = max(1, round(tile * (1 - overlap)))
    gaps = ceil((size - tile) / step)
    return tuple(round(number * (size - tile) / gaps) for number in range(gaps + 1))


def axis_spans(size: int, tile: int, overlap: float) -> tuple[Span, ...]:
    """The spans of all tiles along an axis of `size` voxels; at each voxel their weights sum to 1."""
    starts = axis_starts(size, tile, overlap)
    inside = [slice(max(0, start), min(size, start + tile)) for start in starts]
    within = [slice(part.start - start, part.stop - start) for part, start in zip(inside, starts, strict=True)]
    bell, total = gaussian(tile), np.zeros(size)
    for part, own in zip(inside, within, strict=True):
        total[part] += bell[own]
    return tuple(
        Span(part, own, (bell[own] / total[part]).astype(np.float32)) for part, own in zip(inside, within, strict=True)
    )


def gaussian(size: int) -> np.ndarray:
    """Weights of the voxels of a tile along one axis: 1 in the middle, small at the edges where the network sees least."""
    distance = np.arange(size) - (size - 1) / 2
    weights: np.ndarray = np.exp(-0.5 * (distance / (SIGMA * size)) ** 2)
    return weights


def read_tile(image: TiledImage, tile: Tile, size: tuple[int, ...]) -> np.ndarray:
    """Cut a tile (C, *size); what lies outside the image is its reflection, as in training patches."""
    block = image.read(tuple(span.inside for span in tile))
    pads = [(span.within.start, length - span.within.stop) for span, length in zip(tile, size, strict=True)]
    return np.pad(block, [(0, 0), *pads], mode="reflect") if any(map(any, pads)) else block
