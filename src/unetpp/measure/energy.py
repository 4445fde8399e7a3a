"""Joules, where the machine counts them: the RAPL counters of Linux for a processor, NVML for a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

POWERCAP = Path("/sys/class/powercap")
"""A folder for each processor package (intel-rapl:0, also on AMD) and for its parts (intel-rapl:0:0). The kernel lets only root read the counters, unless it was told otherwise."""


def energy_counter(device: torch.device) -> Callable[[], float] | None:
    """A function that gives the joules that were used so far; None where nothing counts them."""
    counters = (
        [_nvml(device)]
        if device.type == "cuda"
        else [_rapl(path) for path in sorted(POWERCAP.glob("intel-rapl:*")) if path.name.count(":") == 1]
    )
    found = [counter for counter in counters if counter]
    return (lambda: sum(counter() for counter in found)) if found else None


def _rapl(package: Path) -> Callable[[], float] | None:
    """Of one processor; the counter of the kernel begins anew at a limit, this one goes on."""
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


def _nvml(device: torch.device) -> Callable[[], float] | None:
    try:
        import pynvml

        pynvml.nvmlInit()
        handle: Any = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # no pynvml, no counter: each has errors of its own
        return None
    return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
