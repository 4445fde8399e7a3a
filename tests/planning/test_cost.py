"""Counts against the published multiply-adds, and against the built networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unetpp.model.build import build_from_plan, model_plan
from unetpp.planning.cost import count_cost

GIGA = 1e9


@pytest.mark.parametrize(
    ("fields", "shape", "depth", "expected"),
    [
        ({"topology": "unet"}, (256, 256), None, 12.0),
        ({"topology": "unet", "widths": (35, 70, 140, 280, 560)}, (256, 256), None, 14.4),
        ({"topology": "unet+"}, (256, 256), None, 23.7),
        ({}, (256, 256), None, 29.75),
        ({}, (256, 256), 1, 3.5),
        ({}, (256, 256), 2, 8.9),
        ({}, (256, 256), 3, 17.4),
        ({"dims": 3, "topology": "unet"}, (64, 64, 64), None, 59.5),
        ({"dims": 3}, (64, 64, 64), None, 210.0),
    ],
)
def test_multiply_adds_are_those_published(
    fields: dict, shape: tuple[int, ...], depth: int | None, expected: float
) -> None:
    plan = model_plan(preset="paper", in_channels=1, out_channels=1, **fields)
    assert count_cost(plan, shape, depth).macs / GIGA == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("block", ["plain", "residual", "projected"])
@pytest.mark.parametrize("down", ["pool", "conv"])
@pytest.mark.parametrize("up", ["transposed", "nearest"])
def test_multiply_adds_are_those_of_the_built_network(block: str, down: str, up: str) -> None:
    plan = model_plan(
        topology="unet++",
        widths=(4, 6, 8),
        in_channels=2,
        out_channels=3,
        block=block,
        down=down,
        up=up,
        strides=((2, 1), (2, 2)),
    )
    network = build_from_plan(plan)
    counted = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal counted
        weights = module.weight.numel()
        transposed = isinstance(module, nn.ConvTranspose2d)
        counted += weights * (inputs[0] if transposed else output)[0, 0].numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(count)
    with torch.no_grad():  # where each node receives one tensor
        network(torch.zeros(1, 2, 16, 24), heads=True)
    assert count_cost(plan, (16, 24)).macs == counted
