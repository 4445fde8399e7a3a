"""What the trainings of tests leave out: it takes more than they do, and has tests of its own."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from unetpp.measure import depth_table
from unetpp.measure.depth_table import measure_depths
from unetpp.measure.roofline import measure_ceilings
from unetpp.plan import ModelPlan, TrainPlan
from unetpp.planning.memory import estimate_step_bytes
from unetpp.report import plan_plots, plots
from unetpp.report.plots import encode_figure
from unetpp.runtime import live_memory
from unetpp.verbs import fold, preparation

_measure_ceilings_once = functools.cache(measure_ceilings)


def make_quick(patch: pytest.MonkeyPatch) -> None:
    """Measure no memory, for which processes of some seconds are started, the machine once and each depth a few times.

    The memory of a training is estimated for each plan, not counted; figures of pages are made, but not laid out.
    """
    patch.setattr(preparation, "estimate_training_bytes", _estimate_training_bytes)
    patch.setattr(fold, "measure_depths", functools.partial(measure_depths, memory=False))
    patch.setattr(depth_table, "SECONDS_PER_DEPTH", 0.0)
    patch.setattr(depth_table, "measure_ceilings", _measure_ceilings_once)
    for module in (plots, plan_plots):
        patch.setattr(module, "encode_figure", lambda figure: "<svg></svg>")


def _estimate_training_bytes(model: ModelPlan, train: TrainPlan, device: torch.device) -> int:
    return estimate_step_bytes(model, train.patch, train.batch, train.precision, train.checkpointing)


@contextmanager
def counting_tensors_alone(count: Any, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Count live tensors without what kernels take beside them; `count` remembers nothing of it."""
    with patch.context() as alone:
        alone.setattr(live_memory, "CpuScratch", lambda: None)
        count.cache_clear()
        yield
        count.cache_clear()


def lay_out_figures(patch: pytest.MonkeyPatch) -> None:
    """Make pages with their figures, as users get them."""
    for module in (plots, plan_plots):
        patch.setattr(module, "encode_figure", encode_figure)
