"""What a checkpoint gives back is what was put into it."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch.amp import GradScaler

from tests.plans import small_plan
from unetpp.model.build import build_from_plan
from unetpp.train.checkpoint import Progress, load_checkpoint, save_checkpoint
from unetpp.train.optimizer import make_optimizer


def test_the_scale_of_float16_gradients_comes_back(tmp_path: Path) -> None:
    plan = small_plan()
    network = build_from_plan(plan.model)
    optimizer = make_optimizer(network, plan.train)
    scaler, fresh = GradScaler("cpu", init_scale=4096.0), GradScaler("cpu")
    scaler.scale(torch.ones(()))  # makes its state
    save_checkpoint(tmp_path / "last.ckpt", plan, Progress(step=3), network, copy.deepcopy(network), optimizer, scaler)
    progress = load_checkpoint(tmp_path / "last.ckpt", plan, network, copy.deepcopy(network), optimizer, fresh)
    assert progress.step == 3
    assert fresh.get_scale() == 4096.0


def test_a_checkpoint_of_a_gpu_in_float16_goes_on_without_a_scale(tmp_path: Path) -> None:
    plan = small_plan()
    network = build_from_plan(plan.model)
    optimizer = make_optimizer(network, plan.train)
    save_checkpoint(
        tmp_path / "last.ckpt", plan, Progress(), network, copy.deepcopy(network), optimizer, GradScaler("cpu")
    )
    disabled = GradScaler("cpu", enabled=False)
    load_checkpoint(tmp_path / "last.ckpt", plan, network, copy.deepcopy(network), optimizer, disabled)
    assert not disabled.is_enabled()
