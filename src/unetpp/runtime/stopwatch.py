"""Timing of work on a device, bounded in time: what takes a blink on one machine takes minutes on another."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

PROBE_S = 0.1
"""Longest time of a probe, in seconds. Only one call that takes longer by itself goes further."""


def synchronize(device: torch.device | str) -> None:
    """Wait for a GPU, which works on while the program goes on."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def time_calls(
    work: Callable[[], Any], device: torch.device | str = "cpu", *, budget_s: float = PROBE_S, most: int = 3
) -> list[float]:
    """Time calls of `work`: one, and more of them while another one fits the budget.

    Args:
        device: is waited for before and after each call.
        budget_s: seconds for all calls.
        most: number of calls at the most.

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
