"""A checkpoint restores what was saved in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.amp import GradScaler

from tests.plans import small_plan
from unetpp.errors import ModelFileError
from unetpp.model.build import build_from_plan
from unetpp.model.file import write_tensors
from unetpp.plan import Plan
from unetpp.train.checkpoint import TrainingState, load_checkpoint, read_training_state, save_checkpoint
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


@pytest.mark.parametrize("progress", ["", "[]", '{"other": 1}', '{"step": "many"}', '{"step": 1e999}', "[" * 100_000])
def test_a_position_of_other_types_is_refused(tmp_path: Path, progress: str) -> None:
    metadata = {"unetpp_checkpoint": "1", "plan": small_plan().to_json(), "progress": progress}
    write_tensors(tmp_path / "last.ckpt", {"network.a": torch.ones(1)}, metadata)
    with pytest.raises(ModelFileError, match="a position in the schedule that cannot be used"):
        read_training_state(tmp_path / "last.ckpt")
