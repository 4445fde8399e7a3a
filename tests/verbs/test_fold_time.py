"""Time of a fold."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from unetpp.train.trainer import Status
from unetpp.verbs.fold_time import Clock, show_status


def test_later_folds_get_what_earlier_ones_left_and_never_less_than_half(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    for spent, number, expected in ((0, 0, 600), (600, 1, 600), (1200, 1, 450), (2900, 4, 300), (9000, 4, 300)):
        monkeypatch.setattr(clock, "seconds", lambda spent=spent: spent)
        assert clock.share(10, number, parts=5) == expected
    assert clock.share(None, 0, 5) is None


def test_validating_hides_neither_the_loss_nor_the_dice() -> None:
    shown = []
    show = show_status(lambda done, total, note="": shown.append((done, total, note)))
    status = Status(fraction=0.5, step=10, loss=1.5, best_dice=0.25, images_per_second=2.0, seconds_left=83.0)
    show(status)
    show(replace(status, loss=math.nan, activity="validating"))
    assert shown == [
        (10, 20, "1:23 left, loss 1.500, Dice 0.250, 2.0 images/s"),
        (10, 20, "1:23 left, loss 1.500, Dice 0.250, validating"),
    ]
