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
