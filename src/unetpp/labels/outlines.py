"""Where the gray values of a mask lie: along its outlines, as compression and resizing leave them, or in areas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from unetpp.slabs import slabs

_REACH = 2
"""Voxels within which an outline has both dark and bright ones."""
_BLOCK = 16
"""Width of a block of JPEG or WebP: its noise reaches no further from an outline."""
_MOST = 2**25
"""Number of voxels that are looked at, in slabs that are spread over the file."""
END = 8
"""Dark and bright are the lowest and the highest eighth of the range."""


@dataclass(frozen=True)
class Outlines:
    """Voxels by brightness, of the slabs that were looked at; all numbers but `share` count voxels."""

    highest: float
    voxels: int
    ground: int
    """Equal to the most frequent dark value: 0, or up to 3 of a JPEG."""
    dark: int
    """Near 0, but not of the ground."""
    solid_dark: int
    """Of these, those whose neighbors have the same value."""
    dark_near: int
    """Of these, those with bright voxels within a block of JPEG or WebP."""
    between: int
    """Neither dark nor bright."""
    solid_between: int
    along: int
    """Of those between, those with dark and bright voxels nearby."""
    bright: int
    """Near the highest value, but not full."""
    solid_bright: int
    full: int
    """Equal to the most frequent bright value: the highest, or up to 3 less."""
    contacts: int
    """Dark voxels that touch a bright one, with no gray voxel between them."""
    above_half: int
    """At least half of the highest value."""


def measure_outlines(
    read: Callable[[tuple[slice, ...]], np.ndarray], shape: tuple[int, ...], highest: float | None = None
) -> Outlines:
    """Measure where the gray values of a mask lie.

    Args:
        read: reads a block (*spatial).
        shape: spatial shape.
        highest: highest value; None: that of the file.

    Returns:
        Voxels by brightness.
    """
    top = max(float(read(block).max()) for block in slabs(shape)) if highest is None else highest
    blocks = _spread_blocks(shape)
    ground, full = (_find_most_frequent(read, blocks, top, ends) for ends in ((0, 1, 2, 3), (0, -1, -2, -3)))
    found = sum(_measure_block(read(block), top, ground, top + full) for block in blocks)
    return Outlines(top, *(int(number) for number in np.asarray(found)))


def find_thin_values(
    read: Callable[[tuple[slice, ...]], np.ndarray], shape: tuple[int, ...], share: float = 0.05
) -> frozenset[int]:
    """Find whole numbers that cover no area.

    Args:
        read: reads a block (*spatial).
        shape: spatial shape.
        share: those are found of whose voxels a smaller share has neighbors of the same value.
    """
    counts: Counter[int] = Counter()
    inside: Counter[int] = Counter()
    for slices in _spread_blocks(shape):
        block = read(slices)
        for part, into in ((block.reshape(-1), counts), (block[_find_solid(block)], inside)):
            values, numbers = np.unique(part, return_counts=True)
            into.update(dict(zip(values.astype(np.int64).tolist(), numbers.tolist(), strict=True)))
    return frozenset(value for value, count in counts.items() if inside[value] < share * count)


def measure_blend(
    read: Callable[[tuple[slice, ...]], np.ndarray], shape: tuple[int, ...], thin: frozenset[int]
) -> tuple[int, int]:
    """Count steps of 2 or more between the numbers of neighbors, and those that one voxel of a number between softens.

    Interpolation puts the numbers of other classes between two classes. Numbers that never cover an area are left out:
    drawn outlines.

    Args:
        read: reads a block (*spatial).
        shape: spatial shape.
        thin: numbers that cover no area.

    Returns:
        Both counts.
    """
    direct, softened = 0, 0
    for slices in _spread_blocks(shape):
        block = read(slices).astype(np.int32)
        low, high = ~np.isin(block, [*thin]), block
        for axis in range(block.ndim):
            steps = np.diff(high, axis=axis)
            direct += int(np.count_nonzero(np.abs(steps) > 1))
            first, second = (np.moveaxis(steps, axis, 0)[part] for part in (slice(None, -1), slice(1, None)))
            middle = np.moveaxis(low, axis, 0)[1:-1]
            softened += int(np.count_nonzero((first * second > 0) & middle & (np.abs(first + second) > 1)))
    return direct, softened


def _spread_blocks(shape: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """List slabs that are spread over a file, as many as are looked at."""
    blocks = [*slabs(shape)]
    count = max(1, min(len(blocks), int(len(blocks) * _MOST // np.prod(shape))))
    return [blocks[index] for index in np.linspace(0, len(blocks) - 1, count).astype(int)]


def _find_solid(block: np.ndarray) -> np.ndarray:
    """Find the voxels whose neighbors along all axes have the same value."""
    solid = np.ones(block.shape, bool)
    for axis in range(block.ndim):
        before = (slice(None),) * axis + (slice(None, -1),)
        after = (slice(None),) * axis + (slice(1, None),)
        same = block[before] == block[after]
        solid[before] &= same
        solid[after] &= same
    return solid


def _find_most_frequent(
    read: Callable[[tuple[slice, ...]], np.ndarray], blocks: list[tuple[slice, ...]], top: float, ends: tuple[int, ...]
) -> int:
    """Find the most frequent value of one end: compression may move large areas by a few steps."""
    from_top = ends[-1] < 0
    counts = np.zeros(len(ends), np.int64)
    for block in blocks:
        values = read(block)
        counts += [int(np.count_nonzero(values == (top if from_top else 0) + end)) for end in ends]
    return ends[int(counts.argmax())] if top >= 32 else 0


def _measure_block(block: np.ndarray, top: float, ground: float, full_value: float) -> np.ndarray:
    from scipy import ndimage

    low, high = top / END, top - top / END
    is_dark, is_bright = block <= low, block >= high
    zero, full = block == ground, block == full_value
    between = ~(is_dark | is_bright)
    near_dark, near_bright = (ndimage.maximum_filter(part, 2 * _REACH + 1) for part in (is_dark, is_bright))
    solid, contacts = _find_solid(block), np.zeros(block.shape, bool)
    for axis in range(block.ndim):
        before = (slice(None),) * axis + (slice(None, -1),)
        after = (slice(None),) * axis + (slice(1, None),)
        contacts[before] |= is_dark[before] & is_bright[after]
        contacts[after] |= is_dark[after] & is_bright[before]
    dark, bright = is_dark & ~zero, is_bright & ~full
    along = between & near_dark & near_bright
    near_block = ndimage.maximum_filter(is_bright, 2 * _BLOCK + 1) if dark.any() else dark
    parts = (
        zero,
        dark,
        dark & solid,
        dark & near_block,
        between,
        between & solid,
        along,
        bright,
        bright & solid,
        full,
        contacts,
    )
    counts = [block.size, *(np.count_nonzero(part) for part in parts), np.count_nonzero(block >= top / 2)]
    return np.asarray(counts, dtype=np.int64)
