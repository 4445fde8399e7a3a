"""The paper preset against the exact counts of the papers' networks."""

from __future__ import annotations

import pytest
import torch

from unetpp.errors import PlanError, UsageError
from unetpp.model.build import build_model, from_plan, model_plan, pruned_plan

WIDE = (35, 70, 140, 280, 560)


def count(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"topology": "unet"}, 7_759_521),
        ({"topology": "unet", "widths": WIDE}, 9_282_246),
        ({"topology": "unet+", "deep_supervision": False}, 8_728_257),
        ({"topology": "unet_e"}, 8_728_356),
        ({"deep_supervision": False}, 9_041_601),
        ({}, 9_041_700),
        ({"topology": "unet", "dims": 3}, 22_575_329),
        ({"topology": "unet", "dims": 3, "widths": WIDE}, 27_006_176),
        ({"topology": "unet+", "dims": 3, "deep_supervision": False}, 25_258_241),
        ({"dims": 3, "deep_supervision": False}, 26_198_273),
    ],
)
def test_paper_preset_has_the_papers_parameters(fields: dict, expected: int) -> None:
    with torch.device("meta"):
        assert count(build_model(preset="paper", in_channels=1, out_channels=1, **fields)) == expected


@pytest.mark.parametrize(("depth", "expected"), [(1, 100_961), (2, 511_105), (3, 2_204_961)])
def test_pruned_paper_networks_have_the_papers_parameters(depth: int, expected: int) -> None:
    network = build_model(preset="paper", in_channels=1, out_channels=1)
    assert count(network.prune(depth)) == expected


def test_pruned_plan_describes_the_pruned_network() -> None:
    plan = model_plan(widths=(4, 6, 8, 10))
    pruned = from_plan(plan).prune(2)
    assert {name: weight.shape for name, weight in from_plan(pruned_plan(plan, 2)).state_dict().items()} == {name: weight.shape for name, weight in pruned.state_dict().items()}


def test_paper_network_is_initialised_as_he_et_al_propose() -> None:
    network = build_model(preset="paper", in_channels=1, out_channels=1, depth=2)
    weight = network.nodes["x_1_1"].units[0].conv.weight
    assert weight.std().item() == pytest.approx((2 / (9 * weight.shape[1])) ** 0.5, rel=0.05)
    assert not network.nodes["x_1_1"].units[0].conv.bias.any()


def test_unknown_names_are_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(UsageError, match="Did you mean widths"):
        build_model(width=(8, 16))
    with pytest.raises(UsageError, match="preset"):
        build_model(preset="papr")
    with pytest.raises(PlanError, match=r"model\.widths"):
        build_model(depth=2, widths=(8, 16))
