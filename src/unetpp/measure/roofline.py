"""Roofline model: work of a forward pass, and peak rates of a machine (Williams et al. 2009, "Roofline").

Work is counted in multiply-adds, and in bytes read and written by operations. A measured time is projected onto another
machine by assuming the same share of its peak rates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from unetpp.runtime.device import has_fast_bf16
from unetpp.runtime.stopwatch import PROBE_S, time_calls

MATRIX_SIZES = tuple(2**power for power in range(6, 14))
"""Sides of the matrices, tried in order until the time is over. The first takes 2 ms if bfloat16 is emulated."""
COPIED_VALUES = (2**20, 2**24, 2**26)
"""Sizes of the copies; the last two exceed the caches of most processors."""


def count_macs_and_bytes(network: Callable[[Tensor], Any], image: Tensor) -> tuple[float, float]:
    """Count the work of a forward pass, assuming that every operation reads and writes main memory.

    Returns:
        10^9 multiply-adds, and 10^9 bytes in the type of the tensors.
    """
    with torch.no_grad(), FlopCounterMode(display=False) as flops, _Traffic() as traffic:
        network(image)
    return flops.get_total_flops() / 2e9, traffic.bytes / 1e9


class _Traffic(TorchDispatchMode):
    """Adds up the bytes of inputs and outputs of all operations; views cost nothing."""

    def __init__(self) -> None:
        TorchDispatchMode.__init__(self)  # mypy takes super() for untyped
        self.bytes = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: tuple[Any, ...] = (), options: Mapping[str, Any] | None = None
    ) -> Any:
        result = operation(*arguments, **(options or {}))
        if not operation.is_view:
            tensors = (each for each in tree_leaves((arguments, options, result)) if isinstance(each, Tensor))
            self.bytes += sum(each.nbytes for each in tensors)
        return result


def measure_ceilings(device: str = "cpu") -> dict[str, float]:
    """Measure the peak rates of this machine: multiply-adds of a large matrix product, and bytes copied.

    Each of the three takes about PROBE_S seconds, however slow the machine is. bfloat16 is measured only if the
    hardware supports it: otherwise networks run in float32, and one emulated product takes a minute.

    Returns:
        `gmacs_per_s_fp32`, `gmacs_per_s_bf16` (if the hardware supports it), `copied_gb_per_s`.
    """
    dtypes = {"fp32": torch.float32} | ({"bf16": torch.bfloat16} if has_fast_bf16(torch.device(device)) else {})
    found = {
        f"gmacs_per_s_{name}": _best_rate(partial(_product, dtype=dtype, device=device), MATRIX_SIZES, device)
        for name, dtype in dtypes.items()
    }
    return {**found, "copied_gb_per_s": _best_rate(partial(_copy, device=device), COPIED_VALUES, device)}


def _product(size: int, dtype: torch.dtype, device: str) -> tuple[float, Callable[[], Any]]:
    """Prepare a product of square matrices: its 10^9 multiply-adds, and a function that computes it."""
    square = torch.randn(size, size, device=device).to(dtype)
    return size**3 / 1e9, lambda: torch.mm(square, square)


def _copy(values: int, device: str) -> tuple[float, Callable[[], Any]]:
    """Prepare a copy: the 10^9 bytes that it reads and writes, and a function that makes it."""
    source, target = torch.ones(2, values, device=device)  # ones: pages of zeros are allocated when written
    return 2 * source.nbytes / 1e9, lambda: target.copy_(source)


def least_ms(gmacs: float, gbytes: float, bf16: bool, machine: Mapping[str, float]) -> float:
    """Shortest time of a forward pass: that of arithmetic or memory traffic at the peak rate, whichever is longer.

    Args:
        gmacs: 10^9 multiply-adds.
        gbytes: 10^9 bytes in float32.
        bf16: the pass runs in bfloat16; without its rate in `machine`, float32 is assumed.
        machine: peak rates, as `measure_ceilings` returns them.

    Returns:
        Milliseconds.
    """
    bf16 = bf16 and "gmacs_per_s_bf16" in machine
    arithmetic = gmacs / machine["gmacs_per_s_bf16" if bf16 else "gmacs_per_s_fp32"]
    return 1e3 * max(arithmetic, gbytes * (0.5 if bf16 else 1.0) / machine["copied_gb_per_s"])


def project_ms(
    ms: float, gmacs: float, gbytes: float, bf16: bool, here: Mapping[str, float], there: Mapping[str, float]
) -> float:
    """Project the time of a forward pass onto another machine, assuming the same share of the peak rates.

    Too low where launch overhead dominates, as for small images on a GPU.

    Args:
        ms: milliseconds on this machine.
        gmacs: 10^9 multiply-adds.
        gbytes: 10^9 bytes in float32.
        bf16: the pass runs in bfloat16.
        here: peak rates of this machine, as `measure_ceilings` returns them.
        there: peak rates of the other machine.

    Returns:
        Milliseconds on the other machine.
    """
    return ms * least_ms(gmacs, gbytes, bf16, there) / least_ms(gmacs, gbytes, bf16, here)


def _best_rate(make: Callable[[int], tuple[float, Callable[[], Any]]], sizes: Sequence[int], device: str) -> float:
    """Units of work per second at the largest size that fits PROBE_S, judged by the time of the size before."""
    rate, left = 0.0, PROBE_S
    for size in sizes:
        amount, work = make(size)
        if rate and 2 * amount / rate > left:
            break
        seconds = time_calls(work, device, budget_s=left)
        rate, left = amount / min(seconds), left - sum(seconds)
    return rate
