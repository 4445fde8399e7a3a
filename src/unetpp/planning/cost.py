"""Cost of a network, counted from its plan alone: multiply-adds and what is stored for the backward pass.

The network is built and run on torch's meta device, which allocates nothing, so that the count is exact for every
member of the family and every encoder.
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


@dataclass(frozen=True)
class NetworkCost:
    """Cost of one sample."""

    macs: int
    """Multiply-adds of the convolutions in a forward pass, as executed: with those of weights that are zero because of
    `model.shells`, since layers are dense. `model.weight_count.count_exact_macs` leaves those out."""
    activations: int
    """Number of values that a training step stores for the backward pass."""


def count_cost(plan: ModelPlan, shape: tuple[int, ...], depth: int | None = None) -> NetworkCost:
    """Count the cost of one sample.

    Args:
        plan: the network.
        shape: spatial shape of the sample in voxels.
        depth: count up to the head of this depth alone; None: count all heads.
    """
    return _count_cost(plan.model_dump_json(), tuple(shape), depth)


@functools.lru_cache(maxsize=64)
def _count_cost(plan: str, shape: tuple[int, ...], depth: int | None) -> NetworkCost:
    fields = ModelPlan.model_validate_json(plan)
    saved: dict[int, Tensor] = {}

    def save(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.device("meta"):
        network, image = build_from_plan(fields).train(), torch.empty(1, fields.in_channels, *shape)
    weights = {weight.untyped_storage()._cdata for weight in network.state_dict(keep_vars=True).values()}
    with (
        FlopCounterMode(display=False) as counter,
        torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor),
    ):
        outputs = network(image, depth=depth, heads=depth is None)
    logits = outputs.logits if isinstance(outputs, HeadOutputs) else (outputs,)
    activations = sum(
        tensor.untyped_storage().nbytes() // tensor.element_size()
        for storage, tensor in saved.items()
        if storage not in weights
    )
    activations += 4 * sum(each.numel() for each in logits)  # their float32 copies, probabilities, gradients
    return NetworkCost(counter.get_total_flops() // 2, activations)
