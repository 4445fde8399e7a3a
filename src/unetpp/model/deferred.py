"""Inputs of a node that are not concatenated yet.

While gradients are recorded, the inputs of a node stay separate and its first convolution becomes a sum of one
convolution for each: no concatenation is stored for the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from unetpp.model.convolution import convolve_volume

CONVOLVE: dict[int, Callable[..., Tensor]] = {2: functional.conv2d, 3: convolve_volume}
"""Convolution by number of spatial axes; typed loosely, because torch types the sizes of 2D and 3D differently."""


@dataclass(frozen=True, eq=False)
class Deferred:
    """An input computed from `source` when it is used, and recomputed in the backward pass instead of stored."""

    make: Callable[[Tensor], Tensor]
    source: Tensor


Parts = Tensor | tuple[Tensor | Deferred, ...]
"""Input of a node: one tensor, or several that stand for their concatenation along the channels."""


def defer_concatenation(parts: Sequence[Tensor | Deferred]) -> Parts:
    """Keep the inputs of a node separate while gradients are recorded; otherwise concatenate them."""
    if len(parts) == 1 and isinstance(parts[0], Tensor):
        return parts[0]
    separate = torch.is_grad_enabled() and not torch.compiler.is_compiling()
    return tuple(parts) if separate else concatenate(tuple(parts))


def compute_deferred(parts: Sequence[Tensor | Deferred]) -> tuple[Tensor, ...]:
    """Compute the parts that are deferred."""
    return tuple(part.make(part.source) if isinstance(part, Deferred) else part for part in parts)


def concatenate(x: Parts) -> Tensor:
    """Concatenate all parts along the channels."""
    return x if isinstance(x, Tensor) else torch.cat(compute_deferred(x), dim=1)


def convolve_parts(conv: Any, x: Parts) -> Tensor:
    """Compute `conv(concatenate(x))`; several parts as the sum of one convolution for each.

    On CPUs this is faster too: the gradient of 64 or more channels from 16 takes oneDNN ten times as long as that of
    48 (docs/log.md).
    """
    if isinstance(x, Tensor):
        whole: Tensor = conv(x)
        return whole
    convolve = partial(CONVOLVE[conv.weight.ndim - 2], stride=conv.stride, padding=conv.padding)
    known = sum(part.shape[1] for part in x if isinstance(part, Tensor))  # at most one part is deferred
    widths = [part.shape[1] if isinstance(part, Tensor) else conv.in_channels - known for part in x]
    weights = conv.weight.split(widths, dim=1)
    total = _convolve_part(convolve, x[0], weights[0], conv.bias)
    for part, weight in zip(x[1:], weights[1:], strict=True):
        total = total.add_(_convolve_part(convolve, part, weight))
    return total


def _convolve_part(
    convolve: Callable[..., Tensor], part: Tensor | Deferred, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    if isinstance(part, Tensor):
        return convolve(part, weight, bias)
    result: Tensor = checkpoint(
        lambda source: convolve(part.make(source), weight, bias),
        part.source,
        use_reentrant=False,
        preserve_rng_state=False,
    )
    return result
