"""Numbers of weights: those that exist, without the blocks by which inner shells would read outer ones."""

from __future__ import annotations

import functools

import torch
from torch import nn

from unetpp.model.build import build_from_plan
from unetpp.model.network import UNetPlusPlus
from unetpp.model.shells import get_channels, list_layers
from unetpp.plan import ModelPlan
from unetpp.sizes import find_size


def count_weights(network: nn.Module) -> int:
    """Count the weights of one or several networks, with those of all heads."""
    absent = sum(each.absent_weights for each in network.modules() if isinstance(each, UNetPlusPlus))
    for layer, channels in list_layers(network):
        if channels.inputs:
            absent += channels.count_absent(len(channels.outputs) - 1) * _count_taps(layer)
    return sum(weight.numel() for weight in network.parameters()) - absent


def count_size_weights(network: UNetPlusPlus, number: int) -> int:
    """Count the weights of the network cut to a size, in whose dense layers the absent ones are zeros.

    Args:
        network: the whole network.
        number: of the size (`unetpp.sizes`); with one width the depth.
    """
    pruned, shell = network.prune(number), find_size(number, network.depth).shell
    kept = dict(pruned.named_modules())
    absent = network.absent_weights if len(network.head_depths) == 1 else 0  # then it is not cut any further
    for name, layer in network.named_modules():
        if name in kept and (channels := get_channels(layer)) and channels.inputs:
            absent += channels.count_absent(shell) * _count_taps(layer)
    return sum(weight.numel() for weight in pruned.parameters()) - absent


def _count_taps(layer: nn.Module) -> int:
    """Count the weights of the kernel between one input and one output channel."""
    return layer.get_parameter("weight")[0, 0].numel()


def count_parameters(plan: ModelPlan) -> int:
    """Count the weights of the network of a plan, without allocating them."""
    return _count_parameters(plan.model_dump_json())


@functools.lru_cache(maxsize=64)
def _count_parameters(plan: str) -> int:
    with torch.device("meta"):
        return count_weights(build_from_plan(ModelPlan.model_validate_json(plan)))
