"""The quick estimate of a step's memory beside the count of the whole step."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from unetpp.model.build import model_plan
from unetpp.plan import TrainPlan
from unetpp.planning.memory import estimate_step_bytes
from unetpp.train.memory import count_training_bytes


@pytest.mark.parametrize(
    "fields",
    [
        {"precision": "fp32"},
        {"precision": "bf16", "dims": 3},
        {"precision": "bf16", "checkpointing": True},
        {"precision": "fp32", "topology": "unet++", "out_channels": 1},
    ],
)
def test_the_estimate_is_near_the_count(fields: dict[str, Any]) -> None:
    how = {"precision": fields.pop("precision"), "checkpointing": fields.pop("checkpointing", False)}
    model = model_plan(first_width=16, depth=2, **fields)
    patch = (32,) * 3 if model.dims == 3 else (128, 128)
    counted = count_training_bytes(
        model, TrainPlan(patch=patch, batch=3, steps_per_epoch=1, epochs=1, **how), torch.device("cuda")
    )
    assert estimate_step_bytes(model, patch, 3, **how) == pytest.approx(counted, rel=0.12)
