"""Time of a fold."""

from __future__ import annotations

import pytest

from unetpp.verbs.fold import Clock


def test_later_folds_get_what_earlier_ones_left_and_never_less_than_half(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    for spent, number, expected in ((0, 0, 600), (600, 1, 600), (1200, 1, 450), (2900, 4, 300), (9000, 4, 300)):
        monkeypatch.setattr(clock, "seconds", lambda spent=spent: spent)
        assert clock.share(10, number, parts=5) == expected
    assert clock.share(None, 0, 5) is None
