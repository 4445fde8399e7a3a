"""Numbers of weights: those that exist, without the blocks by which inner shells would read outer ones."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

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
    absent = sum(_list_absent(network, pruned, shell).values())
    absent += network.absent_weights if len(network.head_depths) == 1 else 0  # then it is not cut any further
    return sum(weight.numel() for weight in pruned.parameters()) - absent


def count_exact_macs(network: UNetPlusPlus, image: Tensor, number: int | None = None) -> int:
    """Count the multiply-adds of convolutions by weights that exist; dense layers execute those of zeros, too.

    Args:
        network: the whole network.
        image: (B, in_channels, *spatial); nothing is computed of it.
        number: of the size (`unetpp.sizes`); None: all of them, with all heads.
    """
    part = network if number is None else network.prune(number)
    shell = network.shells - 1 if number is None else find_size(number, network.depth).shell
    absent = _list_absent(network, part, shell)
    if network.absent_weights:  # cut and loaded from a file, so that layers know no shells
        absent = {name: int((each.get_parameter("weight") == 0).sum()) for name, each in list_convolutions(part)}
    copied, macs = copy.deepcopy(part).to("meta").eval(), 0

    def count(name: str, layer: Any, inputs: Sequence[Tensor], output: Tensor) -> None:
        nonlocal macs
        positions = (inputs[0] if layer.transposed else output)[:, 0].numel()
        macs += positions * (layer.weight.numel() - absent.get(name, 0))

    for name, layer in list_convolutions(copied):
        layer.register_forward_hook(functools.partial(count, name))
    with torch.inference_mode():
        copied(image.to("meta"), heads=number is None)
    return macs


def list_convolutions(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """List the convolutions of a network by name."""
    return ((name, each) for name, each in network.named_modules() if isinstance(each, _ConvNd))


def _list_absent(network: nn.Module, part: nn.Module, shell: int) -> dict[str, int]:
    """Count the weights that do not exist in each layer of a part of a network, which is cut to a shell."""
    kept = dict(part.named_modules())
    layers = {name: (each, get_channels(each)) for name, each in network.named_modules() if name in kept}
    return {
        name: channels.count_absent(shell) * _count_taps(layer)
        for name, (layer, channels) in layers.items()
        if channels and channels.inputs
    }


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
