"""The clock of a session: earlier sessions count, validations are excluded from the time of steps."""

from __future__ import annotations

import math
import time

import pytest

from unetpp.train.session import Session


def test_earlier_sessions_count_as_elapsed_but_not_towards_the_speed() -> None:
    session = Session(step=100, earlier_s=50.0)
    time.sleep(0.05)
    assert 50.05 <= session.elapsed_s < 60
    assert 0 < session.steps_per_second(110) <= 10 / 0.05


def test_the_speed_is_that_of_the_present_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    session = Session(step=100)
    now = 10.0
    assert session.steps_per_second(200) == 10
    session.begin_phase(200)
    now = 30.0
    assert session.steps_per_second(240) == 2


def test_validations_are_excluded_from_the_time_of_steps() -> None:
    session = Session()
    with session.time_validation():
        time.sleep(0.1)
    assert session.elapsed_s - session.stepping_s >= 0.09


def test_the_mean_loss_is_that_since_the_last_report_and_stays_until_the_next_step() -> None:
    session = Session()
    assert math.isnan(session.mean_loss)
    assert session.take_mean_loss() is None
    session.add_loss(1.0)
    session.add_loss(2.0)
    assert session.mean_loss == 1.5
    session.clear_losses()
    assert session.mean_loss == 1.5
    session.add_loss(6.0)
    assert session.mean_loss == 6.0
    assert session.take_mean_loss() == 3.0
    assert session.take_mean_loss() is None
