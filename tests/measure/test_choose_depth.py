"""The depth that is chosen by a loss, and the recommended one."""

from __future__ import annotations

import pytest

from unetpp.measure.choose_depth import choose_depth, recommend_depth
from unetpp.measured import DepthRow, DepthTable


def test_a_shallow_depth_that_is_better_wins() -> None:
    depth, reason = choose_depth({1: DepthRow(dice=0.95), 2: DepthRow(dice=0.94)}, 0)
    assert depth == 1
    assert "1.00 points above depth 2" in reason


@pytest.mark.parametrize(("max_drop", "expected"), [(0.5, 2), (0.79, 2), (0.8, 1), (0.1, 3)])
def test_where_cases_differ_the_worst_of_the_interval_counts(max_drop: float, expected: int) -> None:
    rows = {
        1: DepthRow(dice=0.906, dice_lost_interval=(0.001, 0.008)),
        2: DepthRow(dice=0.909, dice_lost_interval=(-0.001, 0.004)),
        3: DepthRow(dice=0.91, dice_lost_interval=(0, 0)),
    }
    depth, reason = choose_depth(rows, max_drop)
    assert depth == expected
    assert ("at most" in reason) == (depth < 3)


def test_the_recommended_depth_loses_little_and_says_what_it_saves() -> None:
    rows = {
        1: DepthRow(dice=0.89, dice_lost_interval=(0.01, 0.02), latency_ms=4.0),
        2: DepthRow(dice=0.908, dice_lost_interval=(0.0, 0.004), latency_ms=8.0),
        3: DepthRow(dice=0.91, dice_lost_interval=(0, 0), latency_ms=12.0),
    }
    found = recommend_depth(DepthTable(depths=rows))
    assert found
    assert found.depth == 2
    assert found.reason.endswith("it takes 67% of the time of depth 3")
    assert recommend_depth(DepthTable(depths={1: rows[1]})) is None
    assert recommend_depth(DepthTable(depths=rows, scored=(1, 12))) is None
    deepest = recommend_depth(DepthTable(depths={1: rows[1], 3: rows[3]}))
    assert deepest and deepest.depth == 3 and "of the time" not in deepest.reason
    assert recommend_depth(DepthTable(depths={1: DepthRow(latency_ms=4.0), 2: rows[2]})) is None


def shelled(**rows: tuple[float, float | None]) -> dict[int, DepthRow]:
    """Make rows of (Dice, milliseconds) by name, such as n2x8, numbered in this order."""
    sizes = [(*map(int, name[1:].split("x")), *values) for name, values in rows.items()]
    return {
        number: DepthRow(depth=depth, channels=channels, dice=dice, latency_ms=ms)
        for number, (depth, channels, dice, ms) in enumerate(sizes, 1)
    }


def test_with_shells_the_fastest_size_is_chosen_not_the_smallest_number() -> None:
    rows = shelled(n1x8=(0.80, 3.0), n2x8=(0.918, 8.0), n1x16=(0.919, 5.0), n2x16=(0.92, 20.0))
    assert choose_depth(rows, 0.5)[0] == 3
    without = {number: row.merge(DepthRow(latency_ms=None)) for number, row in rows.items()}
    assert choose_depth(without, 0.5)[0] == 2


def test_the_recommended_size_is_compared_with_the_largest_in_milliseconds() -> None:
    rows = shelled(n1x8=(0.80, 3.0), n2x8=(0.918, 8.0), n1x16=(0.90, 9.0), n2x16=(0.92, 20.0))
    found = recommend_depth(DepthTable(depths=rows))
    assert found and found.depth == 2
    assert "0.20 points below large (2x16)" in found.reason
    assert found.reason.endswith("8.0 ms a tile instead of 20.0")
    beaten = recommend_depth(DepthTable(depths=rows | shelled(n1x8=(0.93, 3.0))))
    assert beaten and beaten.depth == 1 and "1.00 points above size 2x16" in beaten.reason
