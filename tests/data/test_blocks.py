"""Blocks never overlap, keep the gap and cover the rest."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from unetpp.data.blocks import BlockSizes, choose_cut, cut_blocks


@given(st.integers(2, 5), st.integers(0, 6), st.integers(1, 8), st.integers(0, 60), st.data())
def test_blocks_keep_their_gap_and_cover_the_rest(
    count: int, gap: int, smallest: int, more: int, data: st.DataObject
) -> None:
    size = count * smallest + (count - 1) * gap + more
    weights = np.array(data.draw(st.lists(st.integers(0, 9), min_size=size, max_size=size)), dtype=float)
    blocks = cut_blocks(weights, count, gap, smallest)
    assert len(blocks) == count
    assert (blocks[0][0], blocks[-1][1]) == (0, size)
    assert all(stop - start >= smallest for start, stop in blocks)
    assert all(second[0] - first[1] == gap for first, second in pairwise(blocks))


def test_many_blocks_need_a_long_axis() -> None:
    sizes = BlockSizes(gap=32, smallest=64, wanted=128)
    assert [sizes.most_blocks(size) for size in (159, 160, 479, 480, 640, 800, 5000)] == [0, 2, 2, 3, 4, 5, 5]


def test_the_longest_axis_is_cut_into_equal_blocks() -> None:
    cut = choose_cut([np.ones(400), np.ones(600)], BlockSizes(32, 64, 128))
    assert cut is not None
    assert (cut.axis, cut.blocks, cut.holds_foreground) == (1, ((0, 184), (216, 384), (416, 600)), True)


def test_blocks_move_to_where_foreground_is() -> None:
    profile = np.zeros(400)
    profile[10:70] = 1  # the second half has none
    cut = choose_cut([profile], BlockSizes(8, 16, 32))
    assert cut is not None
    assert cut.holds_foreground
    assert all(profile[slice(*block)].sum() > 0 for block in cut.blocks)


def test_without_foreground_for_every_block_the_cut_says_so() -> None:
    profile = np.zeros(400)
    profile[3] = 5
    cut = choose_cut([profile], BlockSizes(8, 16, 32))
    assert cut is not None
    assert not cut.holds_foreground
    assert len(cut.blocks) == 5


def test_short_axes_are_not_cut() -> None:
    assert choose_cut([np.ones(20), np.ones(30)], BlockSizes(8, 16, 32)) is None
