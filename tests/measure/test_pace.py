"""What fits a limited time: the needed part of every unit before any extra."""

from __future__ import annotations

import math

import pytest

from unetpp.measure import pace
from unetpp.measure.pace import Pace, choose_order


class Now:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.s = 0.0

    def monotonic(self) -> float:
        return self.s


def work(now: Now, until: float, needed_s: float, extra_s: float, count: int = 10) -> tuple[int, int]:
    """Return the number of units done, and of extras."""
    found, extras = Pace(count, until), 0
    for _ in found.limit(range(count)):
        now.s += needed_s
        with found.extra() as affordable:
            now.s += extra_s * affordable
            extras += affordable
    return found.done, extras


@pytest.mark.parametrize(
    ("until", "expected"),
    [(math.inf, (10, 10)), (40, (10, 10)), (15, (10, 2)), (10, (10, 0)), (4.5, (4, 0)), (0, (1, 0))],
)
def test_all_units_come_before_extras(until: float, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    now = Now()
    monkeypatch.setattr(pace, "time", now)
    done, extras = work(now, until, needed_s=1.0, extra_s=2.0)
    assert done == expected[0]
    assert abs(extras - expected[1]) <= 1
    assert now.s <= max(until, 1.0)


def test_the_order_is_fixed_and_no_beginning_of_the_cases() -> None:
    assert sorted(choose_order(50)) == list(range(50))
    assert choose_order(50) == choose_order(50)
    assert max(choose_order(50)[:10]) > 25
