"""The counted peak of a prediction; benchmarks/memory_model.py compares it with processes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.quick import counting_tensors_alone

from unetpp.infer import memory
from unetpp.infer.memory import count_prediction_bytes, estimate_prediction_bytes, predict_zeros
from unetpp.model.build import model_plan
from unetpp.plan import ModelPlan, PredictPlan
from unetpp.planning.memory import estimate_step_bytes
from unetpp.runtime.live_memory import LiveMemory

CPU = torch.device("cpu")


def plan(**fields: Any) -> tuple[ModelPlan, PredictPlan]:
    predict = {key: fields.pop(key) for key in ("batch", "precision", "tile") if key in fields}
    model = model_plan(**{"dims": 2, "in_channels": 1, "out_channels": 3, "widths": (8, 16), **fields})
    return model, PredictPlan(**{"tile": (16,) * model.dims, "depth": max(model.list_sizes())} | predict)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"topology": "unet", "norm": "batch", "batch": 2},
        {"dims": 3, "norm": "instance", "tile": (8, 8, 8)},
        {"shells": (0.5, 1), "widths": (16, 16)},
        {"up": "linear", "tile": (32, 32)},
        {"out_channels": 1, "tile": (32, 32)},
    ],
)
def test_a_fake_pass_takes_what_a_real_one_takes(fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, predict = plan(**fields)
    with LiveMemory() as real:
        predict_zeros(model, predict, CPU)
    with counting_tensors_alone(memory._count, monkeypatch):
        counted = count_prediction_bytes(model, predict, CPU)
    assert counted == pytest.approx(real.peak, rel=0.03)


def test_larger_tiles_and_batches_take_more_and_smaller_sizes_less() -> None:
    counted = count_prediction_bytes(*plan(tile=(192, 192)), CPU)
    assert counted > count_prediction_bytes(*plan(tile=(192, 160)), CPU)
    assert counted < count_prediction_bytes(*plan(tile=(192, 192), batch=4), CPU)
    model, predict = plan(tile=(192, 192), shells=(0.5, 1), widths=(16, 32))
    small = predict.model_copy(update={"depth": min(model.list_sizes())})
    assert count_prediction_bytes(model, small, CPU) < count_prediction_bytes(model, predict, CPU)


def test_a_prediction_takes_less_than_a_training_step() -> None:
    model, predict = plan(tile=(64, 64), batch=2)
    for device in (CPU, torch.device("cuda")):
        assert count_prediction_bytes(model, predict, device) < estimate_step_bytes(model, (64, 64), 2, "fp32")


def test_what_cannot_be_counted_is_estimated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "count_prediction_bytes", lambda *_: 1 / 0)
    model, predict = plan()
    assert estimate_prediction_bytes(model, predict, CPU) == estimate_step_bytes(model, predict.tile, 1, "fp32")
