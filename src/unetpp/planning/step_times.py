"""Times of training steps on this machine, by which the planner chooses: each is measured once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

from unetpp.plan import Axes, ModelPlan, Plan
from unetpp.planning import rules

SHARE_FOR_TIMING = 0.05
"""Fraction of the time after which no wider network is timed: on a busy machine the narrower one is right."""
StepTimer = Callable[[ModelPlan, Axes, int, str], float]
"""Measures the seconds of one training step, given a network, a patch (in voxels), a batch size and a precision."""


class Step(NamedTuple):
    """A training step."""

    patch: Axes
    """Size of a patch in voxels."""
    batch: int
    """Number of patches."""
    precision: str
    """Arithmetic."""


class StepTimes:
    """Measures training steps, within a share of the time of the training.

    Args:
        timer: measures one; None: the training runs on another machine.
        minutes: wall time of the training; None: not limited.

    Attributes:
        limit: wall time of the training in minutes; None: not limited, or nothing can be measured.
    """

    def __init__(self, timer: StepTimer | None, minutes: float | None) -> None:
        self._timer, self._minutes = timer, minutes or math.inf
        self.limit = minutes if timer else None
        self._known: dict[tuple[str, ...], float] = {}
        self._begun = time.monotonic()

    @property
    def has_taken_enough(self) -> bool:
        """Whether timing has taken its share of the minutes."""
        return time.monotonic() - self._begun > SHARE_FOR_TIMING * 60 * self._minutes

    def measure(self, model: ModelPlan, step: Step) -> float:
        """Return the seconds of a training step, timed once."""
        key = _identify(model, step)
        if key not in self._known:
            if self._timer is None:
                raise ValueError("a step of another machine cannot be timed")
            self._known[key] = self._timer(model, *step)
        return self._known[key]

    def measure_planned(self, plan: Plan) -> float:
        """Return the seconds of a training step of a plan."""
        return self.measure(plan.model, Step(plan.train.patch, plan.train.batch, plan.train.precision))

    def expect(self, model: ModelPlan, step: Step, seconds: float) -> None:
        """Take the seconds of a training step as they are expected, if there is no time to measure it."""
        if self.has_taken_enough:
            self._known[_identify(model, step)] = seconds

    def measure_ladder(
        self, models: Mapping[int, ModelPlan], step: Step, holds: Callable[..., bool]
    ) -> dict[int, float]:
        """Return seconds of a step for each first width, narrow ones first, up to the first that takes too long.

        Args:
            models: networks by their first width.
            step: of each.
            holds: whether the memory holds a network, given with a step.
        """
        times: dict[int, float] = {}
        for width in sorted(models):  # wide ones would take minutes
            if times and not holds(models[width], *step):
                break
            try:
                times[width] = self.measure(models[width], step)
            except torch.OutOfMemoryError:  # of a GPU: wider ones will not fit either
                if not times:
                    raise
                torch.cuda.empty_cache()
                break
            if times[width] > 60 * self._minutes / rules.WANTED_STEPS or self.has_taken_enough:
                break
        return times


def _identify(model: ModelPlan, step: Step) -> tuple[str, ...]:
    return (model.model_dump_json(), *map(str, step))
