"""Measured speed of training on this machine."""

from __future__ import annotations

import torch

from unetpp.model.build import build_from_plan
from unetpp.plan import ModelPlan, TrainPlan
from unetpp.runtime.cuda_graph import WARM_UPS
from unetpp.runtime.stopwatch import time_calls
from unetpp.train.step import TrainingStep

HALFWAY = 0.5
"""Fraction of the schedule at which steps are timed."""


def measure_step_seconds(model: ModelPlan, train: TrainPlan, device: torch.device) -> float:
    """Time one training step on random images, after warming up: the fastest of a few, or a single one if it is long.

    The step is the trainer's own, halfway through the schedule, except that `train.compile` is ignored, because
    compiling takes a minute or more.

    Args:
        model: the network to time.
        train: how it is trained.
        device: where it is trained.

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
