"""The time of a fold: its share, training, and the tenth for what follows."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from datetime import datetime

import pytest
import torch
from tests.plans import small_plan
from tests.test_console import show_bar
from torch import nn

from unetpp.train.trainer import Status
from unetpp.verbs.fold_time import Clock, FollowUp, share_time, show_status


def test_later_folds_get_what_earlier_ones_left_and_never_less_than_a_quarter(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    for spent, number, expected in (
        (0, 0, 600),
        (600, 1, 600),
        (1200, 1, 450),
        (2900, 4, 150),
        (2800, 4, 200),
        (9000, 4, 150),
    ):
        monkeypatch.setattr(clock, "seconds", lambda spent=spent: spent)
        assert clock.share(10, number, parts=5) == expected
    assert clock.share(None, 0, 5) is None


def test_the_command_ends_with_its_minutes_unless_they_are_over() -> None:
    for spent_s, left_s in ((30, 90), (110, 30)):  # a quarter is left for training, whatever went before
        seconds = (Clock(time.monotonic() - spent_s).find_end(1, parts=2) - datetime.now()).total_seconds()
        assert seconds == pytest.approx(left_s, abs=1)


def test_a_clock_may_have_started_before() -> None:
    assert 5 <= Clock(time.monotonic() - 5).seconds() < 6


@pytest.mark.parametrize(
    ("allowance_s", "tile_s", "expected"),
    [(120, 1.0, 12), (1200, 0.01, 22.5), (1200, 10.0, 120), (120, 10.0, 63.6), (math.inf, 1.0, 111.6)],
)
def test_what_follows_gets_a_tenth_at_most_unless_a_case_takes_longer(
    allowance_s: float, tile_s: float, expected: float
) -> None:
    after = FollowUp(tiles=60, cases=20, depths=5, allowance_s=allowance_s)
    assert after.reserved_s(tile_s) == pytest.approx(expected)


def test_a_further_training_keeps_free_what_it_takes_to_score_all_cases_again() -> None:
    after = FollowUp(tiles=10, cases=5, depths=5, allowance_s=60)
    assert after.reserved_s(0.05) == pytest.approx(6)
    assert replace(after, former_s=6).reserved_s(0.05) == pytest.approx(1.5 * 6 + 2 * 0.05 * 5 + after.report_s)
    busy = replace(after, former_s=6, load=2.0)
    assert (busy.again_s, busy.granted_s) == (12, 36)
    assert replace(busy, former_s=60).granted_s == 12
    assert replace(after, former_s=600).reserved_s(0.05) == pytest.approx(12 + 2 * 0.05 * 5 + after.report_s)


def test_a_report_takes_longer_on_a_busy_machine_and_no_time_if_it_does_not_follow() -> None:
    after = FollowUp(tiles=60, cases=20, depths=5)
    assert replace(after, load=4.0).report_s == pytest.approx(4 * after.report_s)
    assert replace(after, report=False).report_s == 0


class FixedValidation:
    """A validation that takes a second for each of its tiles."""

    plan, device, tile_s, tiles = small_plan(settings={"train.validations": 3}), torch.device("cpu"), None, 40

    def seconds_per_tile(self, network: nn.Module) -> float:
        self.tile_s = 1.0
        return 1.0

    def count_tiles(self) -> int:
        return self.tiles

    def estimate_seconds(self) -> float:
        return (self.tile_s or 0.0) * self.tiles

    def shorten(self, tiles: float) -> None:
        self.tiles = max(1, min(self.tiles, int(tiles)))


def test_the_budget_follows_the_clock_and_the_speed_of_the_machine() -> None:
    validation, after = FixedValidation(), FollowUp(tiles=40, cases=10, depths=4, allowance_s=100)
    budget = share_time(time.monotonic() + 100, validation, after)  # type: ignore[arg-type]
    assert validation.tiles in (4, 5)  # three validations take 15 s
    assert budget(0.0) == pytest.approx(100 - 5 - 12, abs=3)  # a last validation; two cases and the report
    assert budget(30.0) == pytest.approx(30 + 100 - 5 - 12, abs=3)
    validation.tile_s = 0.01  # it was busy, and is no longer
    assert budget(0.0) == pytest.approx(90, abs=2)
    validation.tile_s = 100.0
    assert budget(0.0) == pytest.approx(60, abs=2)  # the least for training


def test_the_time_left_is_that_to_the_end_of_the_command() -> None:
    shown: list[str] = []
    show = show_status(lambda done, total, note="": shown.append(note), lambda: 12.0, later=1)
    status = Status(0.5, 10, 1.25, 0.8, 3.0, 60.0, "validating")
    show(status)  # a minute of this fold, two of the next, twice what follows
    assert shown == ["3:24 left, loss 1.250, Dice 0.800, validating"]


def test_an_inner_network_that_is_trained_alone_is_named_at_80_columns() -> None:
    shown: list[str] = []
    status = Status(0.25, 1234, 1.25, 0.8, 3.0, 203.0, part="inner 4x16")
    show_status(lambda done, total, note="": shown.append(note))(status)
    assert shown == ["3:23 left, loss 1.250, inner 4x16, Dice 0.800, 3.0 images/s"]
    assert show_bar(80, note=shown[0]).endswith("3:23 left, loss 1.250, inner 4x16")


def test_validating_hides_neither_the_loss_nor_the_dice() -> None:
    shown = []
    show = show_status(lambda done, total, note="": shown.append((done, total, note)))
    status = Status(fraction=0.5, step=10, loss=1.5, best_dice=0.25, images_per_second=2.0, seconds_left=83.0)
    show(status)
    show(replace(status, activity="validating"))
    assert shown == [
        (10, 20, "1:23 left, loss 1.500, Dice 0.250, 2.0 images/s"),
        (10, 20, "1:23 left, loss 1.500, Dice 0.250, validating"),
    ]
    show(replace(status, fraction=1.0, seconds_left=0.0, activity="validating"))
    assert shown[-1] == (10, 10, "loss 1.500, Dice 0.250, validating")  # a last one may take a while
    show(replace(status, loss=math.nan, best_dice=None, activity="starting"))
    assert shown[-1] == (10, 20, "1:23 left, starting")


def test_the_steps_of_a_further_training_are_told_without_those_before_it() -> None:
    shown: list[tuple[int, int]] = []
    show = show_status(lambda done, total, note="": shown.append((done, total)))
    status = Status(0.00002, 22, 0.3, 0.3, 0.0, 36.0, "starting", begun=22)
    show(status)
    show(replace(status, fraction=0.5, step=30, activity="training"))
    assert shown == [(22, 22), (30, 38)]
