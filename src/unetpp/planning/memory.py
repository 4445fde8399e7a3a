"""Memory that a training step takes, quickly, from the plan of its network.

The forward and backward pass run on torch's meta device, which allocates nothing, while the tensors are counted.
"""

from __future__ import annotations

import functools
from math import prod

import torch

from unetpp.labels.coding_torch import code_outputs
from unetpp.losses.voxel_sums import sum_voxels
from unetpp.model.build import build_from_plan
from unetpp.plan import Axes, ModelPlan
from unetpp.runtime.device import DTYPES
from unetpp.runtime.live_memory import CUDA_GRAIN, LiveMemory

BYTES_OF_WEIGHT = 18.0
"""For each weight beside its gradient: itself, its average and the optimizer's state in float32, and half an update."""
MORE_BYTES_OF_HALF = 4.0
"""In bfloat16 and float16: the copy for convolutions, and the gradient in float32."""
COPIES_OF_HALF = 1.08
"""Factor on what grows with the voxels in bfloat16 and float16: copies that autocast makes."""
SAMPLED_BATCHES = (1, 4)
BOTTLENECK = 8
"""Number of voxels along each axis of the deepest level of the patches that are counted."""


def estimate_step_bytes(
    plan: ModelPlan, patch: Axes, batch: int, precision: str, checkpointing: bool | str = False
) -> int:
    """Estimate the peak memory of a training step within about a tenth; `train.memory` counts it, in ten times as long.

    Two batches are counted, once for each network, and a straight line is drawn through them: activations grow as
    the voxels of a step, weights do not.

    Args:
        plan: the network.
        patch: spatial shape of a patch in voxels.
        batch: number of patches.
        precision: arithmetic of the forward pass: fp32, bf16 or fp16.
        checkpointing: activation checkpointing, as in `plan.train`.

    Returns:
        Bytes of all tensors, without what kernels take beyond them.
    """
    constant, per_voxel = _fit_line(plan.model_dump_json(), precision, checkpointing)
    return int(constant + per_voxel * batch * prod(patch))


@functools.lru_cache(maxsize=256)
def _fit_line(plan: str, precision: str, checkpointing: bool | str) -> tuple[float, float]:
    """Return bytes that a step takes whatever its size, and those for each voxel."""
    fields = ModelPlan.model_validate_json(plan)
    patch = [BOTTLENECK] * fields.dims
    for stride in fields.strides:
        patch = [size * step for size, step in zip(patch, stride, strict=True)]
    few, many = (_count_step(fields, patch, batch, precision, checkpointing) for batch in SAMPLED_BATCHES)
    voxels = prod(patch)
    per_voxel = (many - few) / (voxels * (SAMPLED_BATCHES[1] - SAMPLED_BATCHES[0]))
    constant = few - per_voxel * voxels * SAMPLED_BATCHES[0]
    return constant, per_voxel * (COPIES_OF_HALF if precision in DTYPES else 1.0)


def _count_step(plan: ModelPlan, patch: list[int], batch: int, precision: str, checkpointing: bool | str) -> float:
    dtype = DTYPES.get(precision, torch.float32)
    memory = LiveMemory(grain=CUDA_GRAIN)
    with torch.device("meta"):
        network = build_from_plan(plan).train().to(dtype)
        network.checkpointing = checkpointing
        with memory:
            images = torch.empty(batch, plan.in_channels, *patch)
            labels = torch.empty(batch, 1, *patch, dtype=torch.int64)
            heads = network(images.to(dtype), heads=True).logits
            coding = code_outputs(plan.out_channels)
            sums = torch.stack([sum_voxels(logits, labels, None, coding) for logits in heads])
            torch.autograd.backward(sums.sum())
    weights = sum(weight.numel() for weight in network.parameters())
    more = 0.0 if dtype == torch.float32 else MORE_BYTES_OF_HALF
    return memory.peak + (BYTES_OF_WEIGHT + more) * weights
