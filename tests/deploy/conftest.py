"""A small network with a plan, written to a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from unetpp.model.build import from_plan, model_plan
from unetpp.model.file import save_model
from unetpp.plan import Plan


def small_plan(dims: int = 2, depth: int = 2, num_classes: int = 2, **train: Any) -> Plan:
    model = model_plan(dims=dims, depth=depth, out_channels=num_classes, widths=[4 + 2 * level for level in range(depth + 1)])
    size = [16] * dims
    return Plan.from_dict(
        {
            "name": "toy",
            "data": {
                "dims": dims,
                "channels": ["image"],
                "classes": ["background", *(f"class {index}" for index in range(1, num_classes))],
                "label_values": list(range(num_classes)),
                "normalization": [{}],
            },
            "model": model.model_dump(),
            "train": {"patch": size, "batch": 2, "steps_per_epoch": 2, "epochs": 2, **train},
            "predict": {"tile": size, "depth": depth},
            "reasons": {"model.depth": "small enough for a test"},
        }
    )


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    def make(plan: Plan | None = None, notes: dict[str, Any] | None = None, name: str = "model.safetensors") -> Path:
        plan = plan or small_plan()
        torch.manual_seed(0)
        path = tmp_path / "fold_0" / name
        save_model(path, from_plan(plan.model).state_dict(), plan, notes)
        return path

    return make


@pytest.fixture(name="small_plan")
def small_plan_fixture() -> Callable[..., Plan]:
    return small_plan
