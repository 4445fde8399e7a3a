"""What a forward pass has to do at least, and what a machine can do at best (Williams et al. 2009, "Roofline").

Multiply-adds, and bytes in and out of operations. The share of its best that one machine reaches carries a measured time over to another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
"""Of the products, until the time is over. The first takes 2 ms where bfloat16 is emulated."""
COPIED_VALUES = (2**20, 2**24, 2**26)
"""Of the copies; the last two are larger than the caches of most processors."""


def macs_and_bytes(network: Callable[[Tensor], Any], image: Tensor) -> tuple[float, float]:
    """10^9 multiply-adds of a forward pass, and 10^9 bytes in float32 if every operation reads and writes main memory."""
    with torch.no_grad(), FlopCounterMode(display=False) as flops:
        network(image)
    with torch.no_grad(), _Traffic() as traffic:
        network(image)
    return flops.get_total_flops() / 2e9, traffic.bytes / 1e9


class _Traffic(TorchDispatchMode):
    """Adds up the tensors that operations take and give; views cost nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: tuple[Any, ...] = (), options: Mapping[str, Any] | None = None
    ) -> Any:
        result = operation(*arguments, **(options or {}))
        taken, given = list(_tensors((arguments, options))), list(_tensors(result))
        if not operation.is_view:
            self.bytes += sum(each.numel() * each.element_size() for each in (*taken, *given))
        return result


def _tensors(values: Any) -> Iterator[Tensor]:
    return (each for each in tree_leaves(values) if isinstance(each, Tensor))


def ceilings(device: str = "cpu") -> dict[str, float]:
    """Measure what this machine can do at best: multiply-adds of a large matrix product, and bytes copied.

    Each of the three takes about PROBE_S seconds, however slow the machine is. bfloat16 is measured only where the
    hardware has it: elsewhere networks run in float32, and one emulated product takes a minute.

    Returns:
        `gmacs_per_s_fp32`, `gmacs_per_s_bf16` (where the hardware has it), `copied_gb_per_s`.
    """
    dtypes = {"fp32": torch.float32} | ({"bf16": torch.bfloat16} if has_fast_bf16(torch.device(device)) else {})
    found = {
        f"gmacs_per_s_{name}": _best_rate(partial(_product, dtype=dtype, device=device), MATRIX_SIZES, device)
        for name, dtype in dtypes.items()
    }
    return {**found, "copied_gb_per_s": _best_rate(partial(_copy, device=device), COPIED_VALUES, device)}


def _product(size: int, dtype: torch.dtype, device: str) -> tuple[float, Callable[[], Any]]:
    """10^9 multiply-adds of a product of square matrices, and the product."""
    square = torch.randn(size, size, device=device).to(dtype)
    return size**3 / 1e9, lambda: torch.mm(square, square)


def _copy(values: int, device: str) -> tuple[float, Callable[[], Any]]:
    """10^9 bytes that a copy reads and writes, and the copy."""
    source, target = torch.ones(2, values, device=device)  # ones: pages of zeros are not there until they are written
    return 2 * source.nbytes / 1e9, lambda: target.copy_(source)


def least_ms(gmacs: float, gbytes: float, bf16: bool, machine: Mapping[str, float]) -> float:
    """The time that the slower of arithmetic and memory takes alone at the machine's best (in float32 where it has no bfloat16)."""
    bf16 = bf16 and "gmacs_per_s_bf16" in machine
    arithmetic = gmacs / machine["gmacs_per_s_bf16" if bf16 else "gmacs_per_s_fp32"]
    return 1e3 * max(arithmetic, gbytes * (0.5 if bf16 else 1.0) / machine["copied_gb_per_s"])


def carried_over_ms(
    ms: float, gmacs: float, gbytes: float, bf16: bool, here: Mapping[str, float], there: Mapping[str, float]
) -> float:
    """What a pass that takes `ms` here would take on another machine, if it reaches the same share of that one's best.

    Too low where it is the start of operations that takes the time, as for small images on a GPU.
    """
    return ms * least_ms(gmacs, gbytes, bf16, there) / least_ms(gmacs, gbytes, bf16, here)


def _best_rate(make: Callable[[int], tuple[float, Callable[[], Any]]], sizes: Sequence[int], device: str) -> float:
    """Units of work a second at the largest size that fits PROBE_S, by what the size before it took."""
    rate, left = 0.0, PROBE_S
    for size in sizes:
        amount, work = make(size)
        if rate and 2 * amount / rate > left:
            break
        seconds = time_calls(work, device, budget_s=left)
        rate, left = amount / min(seconds), left - sum(seconds)
    return rate
