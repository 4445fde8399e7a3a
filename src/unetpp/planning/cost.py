"""What a network costs, counted from its plan alone: multiply-adds and memory, without building it."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

import torch

from unetpp.model.build import down_kernel, from_plan
from unetpp.model.grid import Node, head_depths, needed_nodes, skips
from unetpp.plan import ModelPlan

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True)
class NetworkCost:
    """Cost of one sample."""

    macs: int
    """Multiply-adds of one forward pass."""
    activations: int
    """Values that a training step keeps for the backward pass."""


def network_cost(plan: ModelPlan, shape: tuple[int, ...], depth: int | None = None) -> NetworkCost:
    """Cost of one sample of the given spatial shape, up to the head of `depth`.

    Convolutions, transposed convolutions and heads are counted as multiply-adds; normalisation, activation and
    interpolation are not (they are memory traffic, and in `activations`).
    """
    shapes = level_shapes(plan, shape)
    heads = head_depths(plan.topology, plan.depth, plan.deep_supervision) if depth is None else (depth,)
    macs = activations = 0
    for node in needed_nodes(plan.topology, plan.depth, heads):
        node_macs, node_values = _node_cost(plan, node, shapes)
        macs += node_macs
        activations += node_values
    macs += len(heads) * prod(shapes[0]) * plan.widths[0] * plan.out_channels
    activations += 4 * len(heads) * prod(shapes[0]) * plan.out_channels  # logits, their float32 copies, probabilities, gradients
    return NetworkCost(macs, activations)


def level_shapes(plan: ModelPlan, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Spatial shape of every level; sizes round up."""
    shapes = [shape]
    for stride in plan.strides:
        shapes.append(tuple(ceil(size / step) for size, step in zip(shapes[-1], stride, strict=True)))
    return shapes


def training_bytes(plan: ModelPlan, shape: tuple[int, ...], batch: int, precision: str) -> int:
    """Memory of a training step: activations and their gradients, weights, their mean and the optimiser's two moments."""
    parameters = parameter_count(plan)
    # the largest gradients live beside the kept activations: a quarter more, measured on the default network
    return int(1.25 * network_cost(plan, shape).activations * batch * BYTES[precision] + 5 * 4 * parameters)


def parameter_count(plan: ModelPlan) -> int:
    """Number of weights, without allocating them."""
    with torch.device("meta"):
        return sum(weight.numel() for weight in from_plan(plan).parameters())


def _node_cost(plan: ModelPlan, node: Node, shapes: list[tuple[int, ...]]) -> tuple[int, int]:
    level, column = node
    width, voxels, kernel = plan.widths[level], prod(shapes[level]), prod(plan.kernel_sizes[level])
    macs = 0
    if column:
        below = plan.widths[level + 1]
        up = width if plan.up == "transposed" else below
        inputs = width * len(skips(plan.topology, node)) + up
        if plan.up == "transposed":
            macs += voxels * below * width  # each output voxel sees one input voxel
    else:
        inputs = plan.widths[level - 1] if level else plan.in_channels
        if level and plan.down == "conv":
            macs += voxels * prod(down_kernel(plan, level - 1)) * inputs * width
            inputs = width
    macs += voxels * kernel * width * (inputs + (plan.convs_per_node - 1) * width)
    if plan.block == "residual" and inputs != width:
        macs += voxels * inputs * width
    # kept for the backward pass: the concatenated input, and for each convolution its output and the normalised output
    kept = voxels * (inputs + 2 * plan.convs_per_node * width)
    return macs, kept
