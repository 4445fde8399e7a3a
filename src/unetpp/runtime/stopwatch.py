"""Timing of work on a device, bounded in time: what is instant on one machine takes minutes on another."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

PROBE_S = 0.1
"""Longest time of a measurement, in seconds; only a single call may exceed it."""
_LOAD_S = 0.02
"""Seconds of computing by which the load of a machine is measured."""


def measure_load() -> float:
    """Measure how many times as long as alone a thread takes here, because others compute too; 1: none does."""
    started, computed = time.perf_counter(), time.thread_time()
    while time.thread_time() - computed < _LOAD_S:
        pass
    return max(1.0, (time.perf_counter() - started) / _LOAD_S)


def synchronize(device: torch.device | str) -> None:
    """Wait for a GPU, which runs asynchronously."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def time_calls(
    work: Callable[[], Any], device: torch.device | str = "cpu", *, budget_s: float = PROBE_S, most: int = 3
) -> list[float]:
    """Time calls of `work`: one, then more while another fits the budget.

    Args:
        work: the function to time.
        device: device to synchronize before and after each call.
        budget_s: seconds for all calls.
        most: largest number of calls.

    Returns:
        Seconds of each call, in order.
    """
    seconds: list[float] = []
    while not seconds or (len(seconds) < most and sum(seconds) + min(seconds) <= budget_s):
        synchronize(device)
        started = time.perf_counter()
        work()
        synchronize(device)
        seconds.append(max(time.perf_counter() - started, 1e-9))
    return seconds
