"""Optimiser, learning-rate schedule and the running mean of the weights."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from unetpp.plan import TrainPlan


def make_optimizer(network: nn.Module, plan: TrainPlan) -> Optimizer:
    """AdamW (Loshchilov and Hutter 2019); scales, shifts and biases are not decayed."""
    matrices = [weight for weight in network.parameters() if weight.ndim > 1]
    vectors = [weight for weight in network.parameters() if weight.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": plan.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return AdamW(groups, lr=plan.learning_rate)


def learning_rate(plan: TrainPlan, fraction: float) -> float:
    """Linear rise over `warmup`, then half a cosine down to 0; `fraction` is the part of the schedule that is done."""
    rise = min(1.0, fraction / plan.warmup) if plan.warmup else 1.0
    return plan.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * min(1.0, fraction)))


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, step: int, decay: float) -> None:
    """Move the running mean of the weights towards the network's; early on it follows faster."""
    decay = min(decay, (1 + step) / (10 + step))
    for mean, value in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)
