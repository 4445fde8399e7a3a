"""Batch normalization over the batches of all ranks, with any backend: torch's SyncBatchNorm runs on GPUs alone.

Within the context, every batch normalization of a network in training, those of timm's encoders too, normalizes by the
statistics of all ranks. No module is replaced, so that weights keep their names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from unetpp.runtime.ranks import Ranks


def has_batch_norm(network: nn.Module) -> bool:
    """Tell whether a network has batch normalizations, also in an encoder of timm."""
    return any(isinstance(module, _BatchNorm) for module in network.modules())


@contextmanager
def synchronize_norms(network: nn.Module, ranks: Ranks) -> Iterator[None]:
    """Let batch normalizations read all ranks in forward and backward passes; nothing happens where there are none.

    functional.batch_norm, which all of them call, is replaced for that time. A mode of torch, which would be made for
    that, does not reach what activation checkpointing computes again.
    """
    if ranks.is_alone or not has_batch_norm(network):
        yield
        return
    own = functional.batch_norm
    functional.batch_norm = partial(_normalize, own, ranks)
    try:
        yield
    finally:
        functional.batch_norm = own


def _normalize(
    own: Callable[..., Tensor],
    ranks: Ranks,
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Do what functional.batch_norm does, which is `own`, over all ranks."""
    if not training:
        return own(x, running_mean, running_var, weight, bias, False, momentum, eps)
    normalized, mean, variance, count = _Normalize.apply(x, eps, ranks)
    if running_mean is not None and running_var is not None:
        unbiased = variance * (count / (count - 1).clamp(min=1))
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        running_var.lerp_(unbiased.to(running_var.dtype), momentum)
    shape = (1, -1, *[1] * (x.ndim - 2))
    scaled: Tensor = normalized if weight is None else normalized * weight.view(shape).to(normalized.dtype)
    return scaled if bias is None else scaled + bias.view(shape).to(normalized.dtype)


class _Normalize(torch.autograd.Function):
    """Subtracts the mean of each channel over all ranks, and divides by the standard deviation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float, ranks: Ranks) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        axes = [0, *range(2, x.ndim)]
        variance, mean = torch.var_mean(x.float(), axes, correction=0)
        count = mean.new_tensor(x.numel() / x.shape[1])
        # each rank's own statistics, combined as by Chan et al. 1979: sums of squares would cancel
        every = mean.new_zeros(ranks.size, 2 * len(mean) + 1)
        every[ranks.rank] = torch.cat([mean, variance, count[None]])
        ranks.add_up(every)
        means, variances, counts = every.split([len(mean), len(mean), 1], dim=1)
        total = counts.sum()
        mean = (means * counts).sum(0) / total
        variance = ((variances + (means - mean).square()) * counts).sum(0) / total
        inverse = (variance + eps).rsqrt()
        shape = (1, -1, *[1] * (x.ndim - 2))
        normalized = ((x.float() - mean.view(shape)) * inverse.view(shape)).to(x.dtype)
        ctx.save_for_backward(normalized, inverse, total)
        ctx.ranks = ranks
        ctx.mark_non_differentiable(mean, variance, total)
        return normalized, mean, variance, total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, None, None]:
        normalized, inverse, total = ctx.saved_tensors
        axes, shape = [0, *range(2, gradient.ndim)], (1, -1, *[1] * (gradient.ndim - 2))
        wide, values = gradient.float(), normalized.float()
        means = ctx.ranks.add_up(torch.stack([wide.sum(axes), (wide * values).sum(axes)])) / total
        result = (wide - means[0].view(shape) - values * means[1].view(shape)) * inverse.view(shape)
        return result.to(gradient.dtype), None, None
