"""Positions and weights of tiles: the weighted sum of tiles is the inverse of cutting an image into them.

Tiles form a grid, so that weights are products of weights along the axes. Along each axis, the weights of all tiles sum
to 1 at every voxel, and so do their products: blending needs neither a division nor a map of sums.
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
"""Standard deviation of the Gaussian weights of a tile, as a fraction of its size (Isensee et al. 2021)."""

TileProgress = Callable[[int, int], None]
"""Called with (tiles done, tiles in total)."""


class TiledImage(Protocol):
    """An image on the network's grid, normalized, read in blocks."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape, (C, *grid)."""

    def read(self, slices: tuple[slice, ...]) -> np.ndarray:
        """Read the block (C, ...) float32 within `slices`, one for each axis of the grid."""


@dataclass(frozen=True, eq=False)
class Span:
    """The extent of one tile along one axis."""

    inside: slice
    """Voxels of the image."""
    within: slice
    """Voxels of the tile: a part of it if the image is smaller, which is then centered in it."""
    weights: np.ndarray
    """float32, one weight for each voxel inside."""


Tile = tuple[Span, ...]


@dataclass(frozen=True)
class TileGrid:
    """The tiles that cover an image, in row order: the first spatial axis varies slowest."""

    shape: tuple[int, ...]
    tile: tuple[int, ...]
    overlap: float

    @cached_property
    def axes(self) -> tuple[tuple[Span, ...], ...]:
        """Spans along each axis."""
        return tuple(axis_spans(size, tile, self.overlap) for size, tile in zip(self.shape, self.tile, strict=True))

    def __len__(self) -> int:
        return prod(len(spans) for spans in self.axes)

    def __iter__(self) -> Iterator[Tile]:
        return itertools.product(*self.axes)


def axis_starts(size: int, tile: int, overlap: float) -> tuple[int, ...]:
    """Return the first voxel of each tile along an axis, evenly spaced.

    Args:
        size: voxels of the image.
        tile: voxels of a tile.
        overlap: smallest fraction of a tile that it shares with its neighbor.

    Returns:
        Starts in order; a single negative one if the tile is larger than the image.
    """
    if size <= tile:
        return (-((tile - size) // 2),)
    step = max(1, round(tile * (1 - overlap)))
    gaps = ceil((size - tile) / step)
    return tuple(round(number * (size - tile) / gaps) for number in range(gaps + 1))


def axis_spans(size: int, tile: int, overlap: float) -> tuple[Span, ...]:
    """Return the spans of all tiles along an axis; their weights sum to 1 at each voxel. Arguments as `axis_starts`."""
    starts = axis_starts(size, tile, overlap)
    inside = [slice(max(0, start), min(size, start + tile)) for start in starts]
    within = [slice(part.start - start, part.stop - start) for part, start in zip(inside, starts, strict=True)]
    weights, total = gaussian(tile), np.zeros(size)
    for part, own in zip(inside, within, strict=True):
        total[part] += weights[own]
    return tuple(
        Span(part, own, (weights[own] / total[part]).astype(np.float32))
        for part, own in zip(inside, within, strict=True)
    )


def gaussian(size: int) -> np.ndarray:
    """Return the weights of a tile along one axis: 1 in the middle, small at the edges, which have little context."""
    distance = np.arange(size) - (size - 1) / 2
    weights: np.ndarray = np.exp(-0.5 * (distance / (SIGMA * size)) ** 2)
    return weights


def read_tile(image: TiledImage, tile: Tile, size: tuple[int, ...]) -> np.ndarray:
    """Read a tile; voxels outside the image are its reflection, as in training patches.

    Args:
        image: the image.
        tile: position of the tile.
        size: its size in voxels along each axis.

    Returns:
        (C, *size) float32.
    """
    block = image.read(tuple(span.inside for span in tile))
    pads = [(span.within.start, length - span.within.stop) for span, length in zip(tile, size, strict=True)]
    return np.pad(block, [(0, 0), *pads], mode="reflect") if any(map(any, pads)) else block
