"""What a network costs, counted from its plan alone: multiply-adds and memory.

The network is built and run without memory (on torch's meta device), so that every member of the family and every encoder is counted as it is.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from unetpp.model.build import build_from_plan
from unetpp.model.network import HeadOutputs
from unetpp.plan import ModelPlan

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True)
class NetworkCost:
    """Cost of one sample."""

    macs: int
    """Multiply-adds of the convolutions of one forward pass."""
    activations: int
    """Values that a training step keeps for the backward pass."""


def network_cost(plan: ModelPlan, shape: tuple[int, ...], depth: int | None = None) -> NetworkCost:
    """Cost of one sample of the given spatial shape, with all heads, or up to the head of `depth` alone."""
    return _network_cost(plan.model_dump_json(), tuple(shape), depth)


@functools.lru_cache(maxsize=64)
def _network_cost(plan: str, shape: tuple[int, ...], depth: int | None) -> NetworkCost:
    fields = ModelPlan.model_validate_json(plan)
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.device("meta"):
        network, image = build_from_plan(fields).train(), torch.empty(1, fields.in_channels, *shape)
    weights = {weight.untyped_storage()._cdata for weight in network.state_dict(keep_vars=True).values()}
    with (
        FlopCounterMode(display=False) as counter,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        outputs = network(image, depth=depth, heads=depth is None)
    logits = outputs.logits if isinstance(outputs, HeadOutputs) else (outputs,)
    activations = sum(
        tensor.untyped_storage().nbytes() // tensor.element_size()
        for storage, tensor in kept.items()
        if storage not in weights
    )
    activations += 4 * sum(each.numel() for each in logits)  # their float32 copies, probabilities, gradients
    return NetworkCost(counter.get_total_flops() // 2, activations)


def training_bytes(plan: ModelPlan, shape: tuple[int, ...], batch: int, precision: str) -> int:
    """Memory of a training step: activations and their gradients, weights, their mean and the optimiser's two moments."""
    parameters = parameter_count(plan)
    # the largest gradients live beside the kept activations: a quarter more, measured on the default network
    return int(1.25 * network_cost(plan, shape).activations * batch * BYTES[precision] + 5 * 4 * parameters)


def parameter_count(plan: ModelPlan) -> int:
    """Number of weights, without allocating them."""
    with torch.device("meta"):
        return sum(weight.numel() for weight in build_from_plan(plan).parameters())
