"""Time and validation cases of a fold."""

from __future__ import annotations

from unetpp.measured import DepthRow
from unetpp.verbs.fold import recommend_depth


def test_the_recommended_depth_loses_little_and_says_what_it_saves() -> None:
    rows = {
        1: DepthRow(dice=0.89, dice_lost_interval=(0.01, 0.02), latency_ms=4.0),
        2: DepthRow(dice=0.908, dice_lost_interval=(0.0, 0.004), latency_ms=8.0),
        3: DepthRow(dice=0.91, dice_lost_interval=(0, 0), latency_ms=12.0),
    }
    found = recommend_depth(rows)
    assert found
    assert found.depth == 2
    assert found.reason.endswith("it takes 67% of the time of depth 3")
    assert recommend_depth({1: rows[1]}) is None
    assert recommend_depth({1: DepthRow(latency_ms=4.0), 2: rows[2]}) is None
