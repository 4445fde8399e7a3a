"""The counted peak of a training step; benchmarks/memory_model.py compares it with processes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.quick import counting_tensors_alone
from unetpp.model.build import build_from_plan, model_plan
from unetpp.plan import TrainPlan
from unetpp.planning.memory import estimate_step_bytes
from unetpp.runtime.live_memory import LiveMemory
from unetpp.train import memory
from unetpp.train.memory import count_training_bytes, estimate_training_bytes
from unetpp.train.step import TrainingStep

CPU = torch.device("cpu")


def plan(**fields: Any) -> tuple[Any, TrainPlan]:
    train = {key: fields.pop(key) for key in ("batch", "checkpointing", "distillation", "precision") if key in fields}
    patch = fields.pop("patch", (16,) * fields.get("dims", 2))
    model = model_plan(**{"dims": 2, "in_channels": 1, "out_channels": 3, "widths": (8, 16), **fields})
    return model, TrainPlan(
        **{"patch": patch, "batch": 2, "steps_per_epoch": 1, "epochs": 1, "precision": "fp32"} | train
    )


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"topology": "unet", "norm": "batch", "checkpointing": "cheap"},
        {"dims": 3, "norm": "instance", "patch": (8, 8, 8)},
        {"shells": (0.5, 1), "widths": (16, 16), "distillation": True},
    ],
)
def test_fake_steps_take_what_real_ones_take(fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, train = plan(**fields)
    with torch.random.fork_rng(devices=[]), LiveMemory() as real:
        step = TrainingStep(build_from_plan(model), model, train, CPU)
        for number in range(2):
            labels = torch.zeros(train.batch, 1, *train.patch, dtype=torch.int64)
            step((torch.zeros(train.batch, 1, *train.patch), labels), number, 0.5)
    with counting_tensors_alone(memory._count, monkeypatch):
        counted = count_training_bytes(model, train, CPU)
    assert counted == pytest.approx(real.peak, rel=0.03)


def test_larger_patches_and_batches_take_more_and_checkpointing_less() -> None:
    counted = count_training_bytes(*plan(patch=(32, 32)), CPU)
    assert counted > count_training_bytes(*plan(patch=(32, 24)), CPU) > count_training_bytes(*plan(patch=(16, 24)), CPU)
    assert counted < count_training_bytes(*plan(patch=(32, 32), batch=4), CPU)
    assert counted > count_training_bytes(*plan(patch=(32, 32), checkpointing=True), CPU)


def test_a_gpu_that_is_not_there_is_planned_for() -> None:
    cuda = torch.device("cuda")
    full, half = (count_training_bytes(*plan(patch=(64, 64), precision=each), cuda) for each in ("fp32", "bf16"))
    assert 0.4 * full < half < 0.8 * full


def test_the_random_state_is_left_alone() -> None:
    state = torch.get_rng_state()
    count_training_bytes(*plan(patch=(8, 8)), CPU)
    assert torch.equal(state, torch.get_rng_state())


def test_what_cannot_be_counted_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "count_training_bytes", lambda *_: 1 / 0)
    model, train = plan()
    expected = estimate_step_bytes(model, train.patch, train.batch, train.precision)
    assert estimate_training_bytes(model, train, CPU) == expected
