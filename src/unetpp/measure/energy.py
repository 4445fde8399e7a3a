"""Energy counters: RAPL on Linux for processors, NVML for GPUs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

POWERCAP = Path("/sys/class/powercap")
"""Holds a folder for each processor package (intel-rapl:0, also on AMD) and for its parts (intel-rapl:0:0). By default
only root may read the counters."""


def energy_counter(device: torch.device) -> Callable[[], float] | None:
    """Return a function that reads the joules used so far; None without a counter."""
    packages = [path for path in sorted(POWERCAP.glob("intel-rapl:*")) if path.name.count(":") == 1]
    counters = [_open_nvml(device)] if device.type == "cuda" else map(_open_rapl, packages)
    found = [counter for counter in counters if counter]
    return (lambda: sum(counter() for counter in found)) if found else None


def _open_rapl(package: Path) -> Callable[[], float] | None:
    """Open the counter of one processor; unlike that of the kernel it does not wrap around."""
    try:
        limit = int((package / "max_energy_range_uj").read_text())
        last = int((package / "energy_uj").read_text())
    except (OSError, ValueError):
        return None
    total = 0

    def joules() -> float:
        nonlocal last, total
        now = int((package / "energy_uj").read_text())
        total += now - last if now >= last else now - last + limit
        last = now
        return total / 1e6

    return joules


def _open_nvml(device: torch.device) -> Callable[[], float] | None:
    try:
        import pynvml

        pynvml.nvmlInit()
        handle: Any = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # no pynvml or no counter: pynvml raises many types
        return None
    return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
