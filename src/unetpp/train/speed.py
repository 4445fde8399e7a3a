"""How fast this machine trains a network: measured, because no table knows it."""

from __future__ import annotations

import torch

from unetpp.model.build import build_from_plan
from unetpp.plan import ModelPlan, TrainPlan
from unetpp.runtime.cuda_graph import WARM_UPS
from unetpp.runtime.stopwatch import time_calls
from unetpp.train.step import TrainingStep

HALFWAY = 0.5


def measure_step_seconds(model: ModelPlan, train: TrainPlan, device: torch.device) -> float:
    """Measure one training step on random images, after one to warm up: the fastest of a few, or a single one where it is long.

    It is the trainer's own step halfway through the schedule, but for `train.compile`, which takes a minute or more.

    Args:
        model: the network to time.
        train: how it is trained.
        device: where.

    Returns:
        Seconds.
    """
    with torch.random.fork_rng(devices=[]):
        network = build_from_plan(model)
        step = TrainingStep(network, model, train.model_copy(update={"compile": False}), device)
        images = torch.randn(train.batch, model.in_channels, *train.patch)
        labels = torch.randint(model.out_channels, (train.batch, 1, *train.patch))
        batch = images.to(device), labels.to(device)
        for number in range(WARM_UPS + 1 if device.type == "cuda" else 1):
            step(batch, number, HALFWAY)
        return min(time_calls(lambda: step(batch, 0, HALFWAY), device))
