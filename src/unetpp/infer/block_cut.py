"""How an array is cut into chunks, and into blocks of whole chunks: a block is one unit of work, and writes alone.

Two writers in one chunk, or in one shard, lose what the other wrote without a word: no block shares either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, prod

import numpy as np

from unetpp.formats.sources import Slices

CHUNK = {2: (256, 1024), 3: (32, 128)}
"""Smallest and largest size of a chunk along a spatial axis, by the number of axes of an image."""
BLOCK = {2: 2048, 3: 256}
"""Size of a block along a spatial axis, about: it costs a tile's overlap on each side, and memory."""


@dataclass(frozen=True)
class Cut:
    """An array of labels, its chunks and its blocks. Blocks are numbered in row order."""

    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    block: tuple[int, ...]
    """Whole chunks; with shards a block is one of them."""

    def __post_init__(self) -> None:
        if any(own % size for own, size in zip(self.block, self.chunk, strict=True)):
            raise ValueError(f"block: got {self.block}; expected multiples of the chunks {self.chunk}.")

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of blocks along each axis."""
        return tuple(ceil(size / own) for size, own in zip(self.shape, self.block, strict=True))

    def __len__(self) -> int:
        return prod(self.counts)

    def area(self, number: int) -> Slices:
        """Return the area of a block."""
        places = np.unravel_index(number, self.counts)
        return tuple(
            slice(int(place) * own, min((int(place) + 1) * own, size))
            for place, own, size in zip(places, self.block, self.shape, strict=True)
        )

    def holds_whole(self, sizes: Sequence[int]) -> bool:
        """Tell whether every chunk or shard of these sizes lies within one block."""
        return all(not own % size for own, size in zip(self.block, sizes, strict=True))


def cut_labels(shape: Sequence[int], chunks: Sequence[int], dims: int) -> Cut:
    """Cut an array of labels.

    Args:
        shape: of the array; the last `dims` axes are those of one image.
        chunks: of the array of the image, along the same axes.
        dims: axes of an image, 2 or 3; those before it are cut one by one.
    """
    low, high = CHUNK[dims]
    chunk, block = [1] * (len(shape) - dims), [1] * (len(shape) - dims)
    for size, given in zip(shape[-dims:], chunks[-dims:], strict=True):
        own = min(max(low, min(given, high)), size)
        wanted = own * max(1, BLOCK[dims] // own)
        chunk.append(own)
        block.append(min(wanted, own * ceil(size / own)))
    return Cut(tuple(shape), tuple(chunk), tuple(block))


@dataclass(frozen=True)
class Layer:
    """Consecutive slabs of an image, as `slabs.slabs` cuts them, that one task reads at once."""

    number: int
    slabs: tuple[slice, ...]
    """Rows of each."""

    @property
    def rows(self) -> slice:
        """The rows of all of them."""
        return slice(self.slabs[0].start, self.slabs[-1].stop)


def cut_layers(slabs: Iterator[Slices], chunk: int) -> Iterator[Layer]:
    """Cut slabs into layers about as high as a chunk, so that a chunk is read once and not for each of its rows."""
    waiting: list[slice] = []
    number = 0
    for slab in slabs:
        waiting.append(slab[0])
        if waiting[-1].stop - waiting[0].start >= chunk:
            yield Layer(number, tuple(waiting))
            number, waiting = number + 1, []
    if waiting:
        yield Layer(number, tuple(waiting))
