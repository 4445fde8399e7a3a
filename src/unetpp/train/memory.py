"""Peak memory of a training, from its plan alone: the real training step, on tensors that are not there."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from unetpp.labels.coding_torch import choose_regions
from unetpp.model.build import build_from_plan
from unetpp.plan import ModelPlan, TrainPlan
from unetpp.planning.memory import estimate_step_bytes
from unetpp.runtime.device import DTYPES, memory_format
from unetpp.runtime.live_memory import count_live_memory, fake_tensors
from unetpp.train.step import TrainingStep

CPU = torch.device("cpu")
SHORT_MINUTES = 5.0
"""Length of a training below which its memory is not counted, which takes some 6 s."""


def estimate_training_bytes(model: ModelPlan, train: TrainPlan, device: torch.device) -> int:
    """Estimate the peak memory of training: see `count_training_bytes`; where that fails, as the planner does.

    A training must not fail because its memory cannot be told, as where torch's fake tensors do not know an operation;
    and a short one must not lose its time to that.
    """
    if train.minutes is None or train.minutes >= SHORT_MINUTES:
        with suppress(Exception):
            return count_training_bytes(model, train, device)
    return estimate_step_bytes(model, train.patch, train.batch, train.precision, train.checkpointing)


def count_training_bytes(model: ModelPlan, train: TrainPlan, device: torch.device) -> int:
    """Count the tensors that are alive at the peak of a training step, and what kernels take beyond them.

    With weights, gradients, the moving average and the optimizer's state, checkpointing, shells and distillation.

    Args:
        model: the network.
        train: how it is trained; `compile` is ignored.
        device: where. For a GPU, which need not be there, only tensors are counted, not what cuDNN takes.

    Returns:
        Bytes; on CPUs without the holes that malloc leaves.
    """
    step = train.model_copy(update={"steps_per_epoch": 1, "epochs": 1, "minutes": None, "compile": False})
    return _count(model.model_dump_json(), step.model_dump_json(), device.type, torch.get_num_threads())


@functools.lru_cache(maxsize=64)
def _count(model: str, train: str, device: str, threads: int) -> int:
    """Do two steps: only at the second has the optimizer its state from the start."""
    plan, how = ModelPlan.model_validate_json(model), TrainPlan.model_validate_json(train)
    memory = count_live_memory(device)
    with torch.random.fork_rng(devices=[]), fake_tensors(), memory:
        step = TrainingStep(build_from_plan(plan), plan, how, CPU, regions=choose_regions(plan.out_channels))
        if device != "cpu":  # a GPU that is not there has no fake backward pass
            step.use_memory_format(memory_format(plan, torch.device(device)))
            dtype = DTYPES.get(how.precision)
            step.arithmetic = lambda: _autocast_as_on_gpu(dtype) if dtype else nullcontext()
        for number in range(2):
            images = torch.empty(how.batch, plan.in_channels, *how.patch)
            step((images, torch.empty(how.batch, 1, *how.patch, dtype=torch.int64)), number, 0.5)
    return memory.peak


@contextmanager
def _autocast_as_on_gpu(dtype: torch.dtype) -> Iterator[None]:
    with torch.autocast("cpu", dtype), _PoolingAsOnGpu():
        yield


class _PoolingAsOnGpu(TorchFunctionMode):
    """Lets pooling of volumes keep its arithmetic: autocast for CPUs makes it float32, that for GPUs does not."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        pools = function in (functional.max_pool3d, functional.avg_pool3d)
        with torch.autocast("cpu", enabled=False) if pools else nullcontext():
            return function(*args, **kwargs or {})
