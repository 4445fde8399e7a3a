"""Optimizer, learning-rate schedule and moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from unetpp.model.network import UNetPlusPlus
from unetpp.model.shells import list_shell_blocks
from unetpp.plan import TrainPlan
from unetpp.runtime.ranks import ALONE, Ranks
from unetpp.train.muon import Muon

FEWEST_CHANNELS = 8
"""Smallest number of input and output channels of a kernel that Muon updates."""


def make_optimizer(network: UNetPlusPlus, plan: TrainPlan, ranks: Ranks = ALONE) -> Muon:
    """Make AdamW (Loshchilov and Hutter 2019) for all weights, or with Muon for the kernels of nodes.

    Scales, shifts and biases are not decayed. A timm encoder is updated by AdamW, with a learning rate of its own.

    Args:
        network: whose weights are updated.
        plan: how.
        ranks: the processes that train together, which divide Muon's work.
    """
    pretrained = list(network.encoder.parameters()) if network.encoder else []
    not_kernels = {*pretrained, *network.heads.parameters()}
    kernels = [
        weight
        for weight in network.parameters()
        if plan.optimizer == "muon" and weight not in not_kernels and _joins_features(weight)
    ]
    separate = {*pretrained, *kernels}
    groups = _make_groups((weight for weight in network.parameters() if weight not in separate), plan.weight_decay)
    if pretrained:
        groups += _make_groups(pretrained, plan.weight_decay, plan.encoder_learning_rate)
    if kernels:
        factor = plan.kernel_learning_rate / plan.learning_rate
        groups += [{"params": kernels, "weight_decay": plan.weight_decay, "factor": factor, "orthogonal": True}]
    return Muon(groups, plan.learning_rate, list_shell_blocks(network), ranks)


def _joins_features(weight: nn.Parameter) -> bool:
    """Tell whether this is a kernel between features, not one that reads the few channels of an image."""
    return weight.ndim > 2 and min(weight.shape[:2]) >= FEWEST_CHANNELS


def _make_groups(weights: Iterable[nn.Parameter], decay: float, factor: float = 1.0) -> list[dict[str, Any]]:
    matrices: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for weight in weights:
        (matrices if weight.ndim > 1 else vectors).append(weight)
    common = {"factor": factor, "orthogonal": False}
    return [{"params": matrices, "weight_decay": decay, **common}, {"params": vectors, "weight_decay": 0.0, **common}]


def freeze_encoder(network: UNetPlusPlus, frozen: bool) -> None:
    """Freeze or unfreeze a timm encoder. The optimizer skips frozen weights, because they have no gradient."""
    encoder = network.encoder
    if encoder and encoder.frozen != frozen:
        encoder.freeze(frozen)


def match_memory_formats(optimizer: Optimizer) -> None:
    """Copy the optimizer's state into the memory format of the weights."""
    for weight, values in optimizer.state.items():
        for name, value in values.items():
            if value.shape == weight.shape:
                values[name] = torch.empty_like(weight).copy_(value)


def compute_learning_rate(plan: TrainPlan, fraction: float) -> float:
    """Compute the learning rate: a linear warm-up, then half a cosine down to 0.

    Args:
        plan: gives the peak rate and the length of the warm-up.
        fraction: completed fraction of the schedule, 0 to 1.
    """
    rise = min(1.0, fraction / plan.warmup) if plan.warmup else 1.0
    return plan.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * min(1.0, fraction)))


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of every group, times the factor of the group."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, step: int, decay: float) -> None:
    """Update the exponential moving average of the weights; early in training it follows faster.

    Args:
        average: updated in place.
        network: weights after the step.
        step: number of steps done.
        decay: of the average, once enough steps are done.
    """
    decay = min(decay, (1 + step) / (10 + step))
    pairs = list(zip(average.state_dict().values(), network.state_dict().values(), strict=True))
    means, values = zip(*((mean, value) for mean, value in pairs if mean.is_floating_point()), strict=True)
    torch._foreach_lerp_(means, values, 1 - decay)
    for mean, value in pairs:
        if not mean.is_floating_point():
            mean.copy_(value)
