"""A small plan for tests."""

from __future__ import annotations

from typing import Any

from unetpp.model.build import model_plan
from unetpp.plan import DataPlan, Normalization, Plan, PredictPlan, TrainPlan


def small_plan(
    dims: int = 2,
    channels: int = 1,
    classes: int = 2,
    patch: int = 16,
    settings: dict[str, Any] | None = None,
    **model: Any,
) -> Plan:
    """A plan whose network trains in a blink."""
    names = ("image",) if channels == 1 else ("red", "green", "blue")[:channels]
    network = model_plan(
        **{
            "topology": "unet++",
            "dims": dims,
            "in_channels": channels,
            "out_channels": classes,
            "widths": (4, 6, 8),
            **model,
        }
    )
    plan = Plan(
        name="small",
        data=DataPlan(
            dims=dims,
            channels=names,
            classes=("background", *(f"class {index}" for index in range(1, classes))),
            label_values=tuple(range(classes)),
            normalization=(Normalization(),) * channels,
        ),
        model=network,
        train=TrainPlan(patch=(patch,) * dims, batch=2, steps_per_epoch=4, epochs=3, validations=3),
        predict=PredictPlan(tile=(patch,) * dims, depth=network.depth, batch=2),
    )
    return plan.changed(settings or {})
