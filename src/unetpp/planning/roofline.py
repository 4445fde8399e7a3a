"""What a forward pass has to do at least, and what a machine can do at best (Williams et al. 2009, "Roofline").

Multiply-adds, and bytes in and out of operations. The share of its best that one machine reaches carries a measured time over to another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


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

    def __torch_dispatch__(self, operation: Any, types: Any, arguments: tuple[Any, ...] = (), options: Mapping[str, Any] | None = None) -> Any:
        result = operation(*arguments, **(options or {}))
        taken, given = list(_tensors((arguments, options))), list(_tensors(result))
        if not operation.is_view:
            self.bytes += sum(each.numel() * each.element_size() for each in (*taken, *given))
        return result


def _tensors(values: Any) -> Iterator[Tensor]:
    return (each for each in tree_leaves(values) if isinstance(each, Tensor))


def ceilings(device: str = "cpu") -> dict[str, float]:
    """What this machine can do at best: multiply-adds of a large matrix product, and bytes copied."""
    found, size = {}, 2048 if device == "cpu" else 8192
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        square = torch.randn(size, size, device=device).to(dtype)
        found[f"gmacs_per_s_{name}"] = size**3 / 1e9 / _fastest(partial(torch.mm, square, square), device)
    source = torch.zeros(2**26, device=device)
    target = torch.empty_like(source)
    found["copied_gb_per_s"] = 2 * 4 * source.numel() / 1e9 / _fastest(lambda: target.copy_(source), device)
    return found


def finish(device: torch.device | str) -> None:
    """Wait for a GPU, which works on while the program goes on."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def least_ms(gmacs: float, gbytes: float, bf16: bool, machine: Mapping[str, float]) -> float:
    """The time that the slower of arithmetic and memory takes alone at the machine's best."""
    arithmetic = gmacs / machine["gmacs_per_s_bf16" if bf16 else "gmacs_per_s_fp32"]
    return 1e3 * max(arithmetic, gbytes * (0.5 if bf16 else 1.0) / machine["copied_gb_per_s"])


def carried_over_ms(ms: float, gmacs: float, gbytes: float, bf16: bool, here: Mapping[str, float], there: Mapping[str, float]) -> float:
    """What a pass that takes `ms` here would take on another machine, if it reaches the same share of that one's best.

    Too low where it is the start of operations that takes the time, as for small images on a GPU.
    """
    return ms * least_ms(gmacs, gbytes, bf16, there) / least_ms(gmacs, gbytes, bf16, here)


def _fastest(work: Callable[[], Any], device: str, repeats: int = 5) -> float:
    seconds = []
    for _ in range(repeats):
        finish(device)
        started = time.perf_counter()
        work()
        finish(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds)
