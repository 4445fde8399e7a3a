"""Timing that is bounded in time."""

from __future__ import annotations

import itertools
import time

import pytest

from unetpp.runtime import stopwatch
from unetpp.runtime.stopwatch import measure_load, time_calls


def test_short_work_is_timed_several_times() -> None:
    assert len(time_calls(lambda: None, most=4)) == 4


def test_long_work_is_timed_once() -> None:
    calls = []

    def work() -> None:
        calls.append(1)
        time.sleep(0.06)

    seconds = time_calls(work)
    assert len(calls) == len(seconds) == 1
    assert seconds[0] >= 0.06


def test_a_gpu_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []
    monkeypatch.setattr(stopwatch.torch.cuda, "synchronize", lambda: waits.append(1))
    time_calls(lambda: None, "cuda:0", most=1)
    assert len(waits) == 2


def test_the_load_is_the_time_that_others_take(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= measure_load() < 100
    wall, computed = itertools.count(0, 0.04), itertools.count(0, 0.01)
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: next(wall))
    monkeypatch.setattr(stopwatch.time, "thread_time", lambda: next(computed))
    assert measure_load() == pytest.approx(2)
