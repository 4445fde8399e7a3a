"""Peak memory of a prediction, from its plan alone: a real pass of a batch of tiles, on tensors that are not there."""

from __future__ import annotations

import functools
from contextlib import suppress

import torch

from unetpp.infer.options import DEFAULTS
from unetpp.infer.sliding import predict_batch
from unetpp.labels.coding_torch import code_outputs
from unetpp.model.build import build_from_plan
from unetpp.plan import ModelPlan, PredictPlan
from unetpp.planning.memory import estimate_step_bytes
from unetpp.runtime.device import memory_format
from unetpp.runtime.live_memory import count_live_memory, fake_tensors


def estimate_prediction_bytes(model: ModelPlan, predict: PredictPlan, device: torch.device) -> int:
    """Estimate the peak memory of a prediction: see `count_prediction_bytes`; where that fails, that of training."""
    with suppress(Exception):
        return count_prediction_bytes(model, predict, device)
    return estimate_step_bytes(model, predict.tile, predict.batch, predict.precision)


def count_prediction_bytes(model: ModelPlan, predict: PredictPlan, device: torch.device) -> int:
    """Count the tensors that are alive at the peak of a batch of tiles with torch, the weights, and what kernels take.

    The image and the sums of its tiles, which are on disk where memory is short, are not counted.

    Args:
        model: the network.
        predict: tile, batch, precision, and the size that predicts.
        device: where. For a GPU, which need not be there, only tensors are counted, not what cuDNN takes.

    Returns:
        Bytes; on CPUs without the holes that malloc leaves.
    """
    return _count(model.model_dump_json(), predict.model_dump_json(), device.type, torch.get_num_threads())


@functools.lru_cache(maxsize=64)
def _count(model: str, predict: str, device: str, threads: int) -> int:
    plan, how = ModelPlan.model_validate_json(model), PredictPlan.model_validate_json(predict)
    memory = count_live_memory(device)
    with fake_tensors(), memory:
        predict_zeros(plan, how, torch.device(device))
    return memory.peak


def predict_zeros(model: ModelPlan, predict: PredictPlan, device: torch.device) -> None:
    """Make a network and predict one batch of tiles of zeros on the CPU, in the memory format of a device."""
    network = build_from_plan(model).to(memory_format=memory_format(model, device)).eval()
    images, coding = torch.zeros(predict.batch, model.in_channels, *predict.tile), code_outputs(model.out_channels)
    predict_batch([network], images, [predict.depth], predict.precision, DEFAULTS, None, coding)
