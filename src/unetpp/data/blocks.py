"""Blocks of an image: where it is cut, so that one part of it can train and another validate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

MOST_BLOCKS = 5
"""Largest number of blocks: one for each fold."""
FAIR_SHARE = 0.1
"""Least foreground of a block, as a fraction of an equal share: a block without any cannot validate."""

Block = tuple[int, int]
"""(start, stop) along an axis."""


@dataclass(frozen=True)
class BlockSizes:
    """Sizes along the axis that is cut, in voxels."""

    gap: int
    """Between two blocks; belongs to neither."""
    smallest: int
    """Smallest block."""
    wanted: int
    """Smallest block where there are more than two."""

    def most_blocks(self, size: int) -> int:
        """Return the largest number of blocks along an axis of this size; 0 or 1 if it is too short to be cut."""
        for count in range(MOST_BLOCKS, 2, -1):
            if size // count - self.gap >= self.wanted:
                return count
        return 2 if 2 * self.smallest + self.gap <= size else 0


@dataclass(frozen=True)
class Cut:
    """Blocks along one axis."""

    axis: int
    blocks: tuple[Block, ...]
    holds_foreground: bool
    """Every block has its share of the foreground."""


def choose_cut(profiles: Sequence[np.ndarray], sizes: BlockSizes) -> Cut | None:
    """Choose the axis and the blocks: many blocks, each with foreground, preferably along the longest axis.

    Args:
        profiles: foreground voxels at each position, for each axis.
        sizes: sizes of blocks and gaps.

    Returns:
        The blocks, in order; without foreground in each of them if that is impossible. None: no axis is long enough.
    """
    tried = list(_list_cuts(profiles, sizes))
    return next((cut for cut in tried if cut.holds_foreground), tried[0] if tried else None)


def _list_cuts(profiles: Sequence[np.ndarray], sizes: BlockSizes) -> Iterator[Cut]:
    longest_first = sorted(range(len(profiles)), key=lambda axis: -len(profiles[axis]))
    for count in range(MOST_BLOCKS, 1, -1):
        for axis in longest_first:
            profile = profiles[axis]
            if count > sizes.most_blocks(len(profile)):
                continue
            for weights in (np.ones(len(profile)), profile):
                blocks = cut_blocks(weights, count, sizes.gap, sizes.smallest)
                fair = FAIR_SHARE * profile.sum() / count
                yield Cut(axis, blocks, all(profile[slice(*block)].sum() > fair for block in blocks))


def cut_blocks(weights: np.ndarray, count: int, gap: int, smallest: int) -> tuple[Block, ...]:
    """Cut an axis into blocks of about equal weight.

    Args:
        weights: weight of each position along the axis.
        count: number of blocks; all of them and their gaps must fit.
        gap: positions between two blocks, which belong to neither.
        smallest: smallest size of a block.

    Returns:
        The blocks, in order.
    """
    size, sums = len(weights), np.cumsum(weights, dtype=np.float64)
    blocks: list[Block] = []
    start = 0
    for number in range(1, count):
        middle = int(np.searchsorted(sums, sums[-1] * number / count)) + 1
        latest = size - (count - number) * (smallest + gap)
        stop = min(max(middle - gap // 2, start + smallest), latest)
        blocks.append((start, stop))
        start = stop + gap
    return (*blocks, (start, size))
