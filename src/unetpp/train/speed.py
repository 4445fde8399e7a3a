"""Measured speed of training on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
import torch

from unetpp.data.patches import PatchLocation
from unetpp.labels.coding_torch import choose_regions
from unetpp.model.build import build_from_plan
from unetpp.plan import ModelPlan, TrainPlan
from unetpp.runtime.cuda_graph import WARM_UPS
from unetpp.runtime.stopwatch import time_calls
from unetpp.train.augment import Augmentation
from unetpp.train.batches import BatchMaker, prefetch
from unetpp.train.growth import Growth
from unetpp.train.step import TrainingStep

HALFWAY = 0.5
"""Fraction of the schedule at which steps are timed."""


def measure_mean_step_seconds(model: ModelPlan, train: TrainPlan, device: torch.device) -> float:
    """Time the steps of all phases of growth, and return their mean over a schedule.

    Args:
        model: the whole network.
        train: how it is trained; of a schedule in minutes each phase takes its fraction of the time, else of the steps.
        device: where it is trained.
    """
    growth = Growth(model, train)
    if len(train.growth) not in (0, len(model.shells) - 1):  # refused with the plan, which there is not yet
        return measure_step_seconds(model, train, device)
    seconds = [measure_step_seconds(growth.plan_phase(phase), train, device) for phase in range(growth.last + 1)]
    pairs = list(zip(growth.shares, seconds, strict=True))
    if train.minutes is None:
        return sum(share * each for share, each in pairs)
    return 1 / sum(share / each for share, each in pairs)


def measure_step_seconds(model: ModelPlan, train: TrainPlan, device: torch.device) -> float:
    """Time one training step on random images, after warming up: the fastest of a few, or a single one if it is long.

    The step is the trainer's own, halfway through the schedule, while threads make the batches to come, as they do in
    training: on a CPU they share its cores. Only `train.compile` is ignored, because compiling takes a minute or more.

    Args:
        model: the network to time.
        train: how it is trained.
        device: where it is trained.

    Returns:
        Seconds.
    """
    with torch.random.fork_rng(devices=[]):
        network = build_from_plan(model)
    eager, regions = train.model_copy(update={"compile": False}), choose_regions(model.out_channels)
    step = TrainingStep(network, model, eager, device, regions=regions)
    make = BatchMaker(_RandomPatches(model, train), Augmentation(train.augment, train.patch, None), device)
    batches = prefetch(make).iterate(0)
    with contextlib.closing(batches), torch.random.fork_rng(devices=[]):
        for number in range(WARM_UPS + 1 if device.type == "cuda" else 1):
            step(next(batches), number, HALFWAY)
        return min(time_calls(lambda: step(next(batches), 0, HALFWAY), device))


class _RandomPatches:
    """Patches of random numbers, in the place of a `PatchSampler`."""

    def __init__(self, model: ModelPlan, train: TrainPlan) -> None:
        self.batch, self.seed = train.batch, train.seed
        self._model, self._patch = model, train.patch

    def draw(self, step: int, index: int) -> PatchLocation:
        return PatchLocation(step, (index,) * len(self._patch))

    def cut(self, location: PatchLocation, margin: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng((location.case, location.start[0]))
        window = [size + 2 * more for size, more in zip(self._patch, margin, strict=True)]
        image = rng.standard_normal((self._model.in_channels, *window), dtype=np.float32).astype(np.float16)
        return image, rng.integers(self._model.out_channels, size=window, dtype=np.uint8)
