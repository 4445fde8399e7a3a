"""One clock and one ear for signals."""

from __future__ import annotations

from typing import Any

from unetpp.runtime.ranks import ALONE
from unetpp.train.agreement import Agreement


class TwoRanks:
    """Ranks of which this is the second; the first one's clock says 0.25, then 0.5, ..."""

    is_alone = False

    def __init__(self) -> None:
        self.asked: list[tuple[float, bool]] = []

    def agree(self, number: float, flag: bool = False) -> tuple[float, bool]:
        self.asked.append((number, flag))
        return 0.25 * len(self.asked), flag or len(self.asked) == 2


def test_a_process_alone_looks_at_its_own_clock_each_time() -> None:
    times = iter([0.1, 0.2])
    agreement = Agreement(ALONE, lambda step: next(times), lambda: True)
    assert [agreement.find_fraction(3), agreement.find_fraction(3)] == [0.1, 0.2]
    assert agreement.is_interrupted(3)


def test_ranks_agree_once_after_each_step() -> None:
    ranks: Any = TwoRanks()
    agreement = Agreement(ranks, lambda step: step / 100, lambda: False)
    assert agreement.find_fraction(3) == agreement.find_fraction(3) == 0.25
    assert not agreement.is_interrupted(3)
    assert agreement.is_interrupted(4)
    assert agreement.find_fraction(4) == 0.5
    agreement.forget()
    assert agreement.find_fraction(4) == 0.75
    assert ranks.asked == [(0.03, False), (0.04, False), (0.04, False)]
