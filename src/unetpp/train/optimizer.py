"""Optimizer, learning-rate schedule and the running mean of the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from unetpp.plan import TrainPlan
from unetpp.runtime.device import has_fast_bf16
from unetpp.train.muon import Muon

FEWEST_CHANNELS = 8
"""Smallest number of input and of output channels with which Muon updates a kernel."""


def make_optimizer(network: nn.Module, plan: TrainPlan) -> Muon:
    """Make AdamW (Loshchilov and Hutter 2019) for all weights, or with Muon for the kernels of nodes.

    Scales, shifts and biases are not decayed. An encoder of timm is updated by AdamW and may have its own learning rate.
    """
    encoder: nn.Module | None = getattr(network, "encoder", None)
    pretrained = set(encoder.parameters()) if encoder else set()
    own = [weight for weight in network.parameters() if weight not in pretrained]
    heads = set(network.get_submodule("heads").parameters())
    kernels = [
        weight for weight in own if plan.optimizer == "muon" and weight not in heads and _is_inner_kernel(weight)
    ]
    inner = set(kernels)
    groups = _groups([weight for weight in own if weight not in inner], plan.weight_decay, 1.0)
    if encoder:
        groups += _groups(list(encoder.parameters()), plan.weight_decay, plan.encoder_learning_rate)
    if kernels:
        groups.append(
            {
                "params": kernels,
                "weight_decay": plan.weight_decay,
                "factor": plan.kernel_learning_rate / plan.learning_rate,
                "orthogonal": True,
            }
        )
    fast = plan.precision == "bf16" and has_fast_bf16(next(network.parameters()).device)
    return Muon(groups, plan.learning_rate, torch.bfloat16 if fast else torch.float32)


def _is_inner_kernel(weight: nn.Parameter) -> bool:
    """Say whether this is a convolution between features, not one that reads the few channels of an image."""
    return weight.ndim > 2 and min(weight.shape[:2]) >= FEWEST_CHANNELS


def freeze_encoder(network: nn.Module, frozen: bool) -> None:
    """Freeze or unfreeze the encoder of timm. Frozen weights have no gradient, so that the optimizer skips them."""
    encoder: Any = getattr(network, "encoder", None)
    if encoder is not None and encoder.frozen != frozen:
        encoder.freeze(frozen)


def match_layouts(optimizer: Optimizer) -> None:
    """Give the optimizer's state memory of its own, laid out as the weights."""
    for weight, values in optimizer.state.items():
        values |= {
            key: torch.empty_like(weight).copy_(value) for key, value in values.items() if value.shape == weight.shape
        }


def _groups(weights: Sequence[nn.Parameter], decay: float, factor: float) -> list[dict[str, Any]]:
    matrices, vectors = (
        [weight for weight in weights if weight.ndim > 1],
        [weight for weight in weights if weight.ndim <= 1],
    )
    common = {"factor": factor, "orthogonal": False}
    return [{"params": matrices, "weight_decay": decay, **common}, {"params": vectors, "weight_decay": 0.0, **common}]


def learning_rate(plan: TrainPlan, fraction: float) -> float:
    """Compute the learning rate: a linear rise over `warmup` and half a cosine down to 0.

    Args:
        plan: gives the largest rate and the warm-up.
        fraction: the part of the schedule that is done, 0 to 1.
    """
    rise = min(1.0, fraction / plan.warmup) if plan.warmup else 1.0
    return plan.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * min(1.0, fraction)))


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of every group, each with the factor of its own."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, step: int, decay: float) -> None:
    """Update the exponential moving average of the weights; early on it follows faster.

    Args:
        average: is updated.
        network: after the step.
        step: number of steps that are done.
        decay: of the average, once it has seen enough steps.
    """
    decay = min(decay, (1 + step) / (10 + step))
    pairs = list(zip(average.state_dict().values(), network.state_dict().values(), strict=True))
    means, values = zip(*((mean, value) for mean, value in pairs if mean.is_floating_point()), strict=True)
    torch._foreach_lerp_(means, values, 1 - decay)
    for mean, value in pairs:
        if not mean.is_floating_point():
            mean.copy_(value)
