"""Measure peak memory in separate processes, so that earlier work is not counted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch

from unetpp.measure.memory_probe import PeakMemory


def peak_mb(module: str, *arguments: str, device: str) -> float | None:
    """Run `python -m MODULE --device DEVICE --probe ARGUMENTS` and return the number it prints; None if it fails."""
    answer = subprocess.run(
        [sys.executable, "-m", module, "--device", device, "--probe", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    return float(json.loads(answer.stdout.splitlines()[-1])) if answer.returncode == 0 else None


def peak_here_mb(work: Callable[[], Any], times: int, device: str) -> float:
    """Return the peak memory during the work, less the memory held before.

    It is the memory of this process, or on a GPU that of torch's allocator.
    """
    if device != "cpu":
        work()  # what libraries take once for all
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        for _ in range(times):
            work()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    memory = PeakMemory()
    with memory.watch():
        for _ in range(times):
            work()
    return (memory.peak - memory.before) / 1e6
