"""Peak memory of a part of a program: that of the GPU, or without one of the whole process (Linux)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

_STATUS, _MARK = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_SET_BACK = "5"
"""What sets the high-water mark of a process back to what it holds now; see proc(5)."""


def watch_memory(device: torch.device) -> Callable[[], dict[str, float]]:
    """Begin to watch; what is returned gives the peak since, `memory_mb`, and what was held before in MB.

    It is empty where the system does not tell. Of several watches at the same time the earlier ones miss what was
    before the last one began.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device) / 1e6
        return lambda: _name(torch.cuda.max_memory_allocated(device) / 1e6, before)
    with suppress(OSError, ValueError, KeyError):
        _MARK.write_text(_SET_BACK)
        resident, _ = _read_mb("VmRSS"), _read_mb("VmHWM")  # not every system has both
        return lambda: _name(_read_mb("VmHWM"), resident)
    return dict


def _name(peak: float, before: float) -> dict[str, float]:
    return {"memory_mb": round(peak, 1), "memory_before_mb": round(before, 1)}


def _read_mb(name: str) -> float:
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return int(lines[name].split()[0]) * 1024 / 1e6
