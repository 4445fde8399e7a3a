"""Timing that is bounded in time."""

from __future__ import annotations

import time

import pytest
import torch

from unetpp.runtime import device as execution
from unetpp.runtime import stopwatch
from unetpp.runtime.stopwatch import time_calls


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


@pytest.mark.parametrize(("slower", "gains"), [(1.0, True), (15.0, False)])
def test_bfloat16_in_software_is_no_gain(monkeypatch: pytest.MonkeyPatch, slower: float, gains: bool) -> None:
    """The processor says that it has bfloat16, and products show whether that is so."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    monkeypatch.setattr(
        torch, "mm", lambda left, right: time.sleep(1e-4 * (slower if left.dtype == torch.bfloat16 else 1.0))
    )
    execution._emulates_bf16.cache_clear()
    try:
        assert execution.has_fast_bf16(torch.device("cpu")) is gains
    finally:
        execution._emulates_bf16.cache_clear()


def test_a_gpu_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []
    monkeypatch.setattr(stopwatch.torch.cuda, "synchronize", lambda: waits.append(1))
    time_calls(lambda: None, "cuda:0", most=1)
    assert len(waits) == 2
