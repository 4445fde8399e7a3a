"""A checkpoint restores what was saved in it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.amp import GradScaler

from tests.plans import small_plan
from unetpp.model.build import build_from_plan
from unetpp.plan import Plan
from unetpp.train.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from unetpp.train.step import TrainingStep


def make_step(plan: Plan, scaler: GradScaler) -> TrainingStep:
    step = TrainingStep(build_from_plan(plan.model), plan.model, plan.train, torch.device("cpu"))
    step.scaler = scaler
    return step


def test_the_scale_of_float16_gradients_is_restored(tmp_path: Path) -> None:
    plan = small_plan()
    scaler, fresh = GradScaler("cpu", init_scale=4096.0), GradScaler("cpu")
    scaler.scale(torch.ones(()))  # creates its state
    save_checkpoint(tmp_path / "last.ckpt", plan, TrainingState(step=3), make_step(plan, scaler))
    assert load_checkpoint(tmp_path / "last.ckpt", plan, make_step(plan, fresh)).step == 3
    assert fresh.get_scale() == 4096.0


def test_a_float16_checkpoint_of_a_gpu_is_resumed_without_a_scale(tmp_path: Path) -> None:
    plan = small_plan()
    save_checkpoint(tmp_path / "last.ckpt", plan, TrainingState(), make_step(plan, GradScaler("cpu")))
    disabled = GradScaler("cpu", enabled=False)
    load_checkpoint(tmp_path / "last.ckpt", plan, make_step(plan, disabled))
    assert not disabled.is_enabled()
