"""Temperature and threshold: the same in NumPy and torch, and classes never change."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unetpp.labels.coding import ClassArrays, RegionArrays
from unetpp.labels.coding_torch import CLASSES, RegionTensors
from unetpp.labels.decision import Decision, make_decision


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_scaling_is_that_of_logits(temperature: float) -> None:
    logits = torch.randn(4, 50, generator=torch.Generator().manual_seed(0))
    found = Decision(temperature=temperature).scale(logits.softmax(0))
    torch.testing.assert_close(found, (logits / temperature).softmax(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(Decision(temperature=temperature).scale(logits.softmax(0).numpy()), found, rtol=1e-4)
    assert bool((found.argmax(0) == logits.argmax(0)).all())


def test_the_compact_form_is_the_second_of_two() -> None:
    both = torch.randn(2, 50, generator=torch.Generator().manual_seed(0)).softmax(0)
    heat = Decision(temperature=3.0)
    torch.testing.assert_close(heat.scale(both[1:])[0], heat.scale(both)[1])


def test_rounding_beyond_one_stays_finite() -> None:
    assert bool(Decision(temperature=2.0).scale(torch.tensor([[1.0000001, -1e-8]])).isfinite().all())


def test_regions_are_scaled_one_by_one() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    heat = Decision(temperature=2.0, exclusive=False)
    torch.testing.assert_close(heat.scale(logits.sigmoid()), (logits / 2).sigmoid())


def test_a_threshold_is_that_of_two_classes_and_of_each_region() -> None:
    chances = np.array([[0.1, 0.35, 0.45, 0.6], [0.2, 0.1, 0.5, 0.35]], np.float32)
    regions, tensor = ((1, 2), (2,)), torch.from_numpy(chances)
    found = RegionArrays(regions).fill_indices(chances, np.empty(4, np.uint8), 0.4)
    assert found.tolist() == RegionTensors(regions).class_indices(tensor, 0.4).tolist() == [0, 0, 2, 1]
    found = RegionArrays(regions).fill_indices(chances, np.empty(4, np.uint8), (0.4, 0.3))
    assert found.tolist() == RegionTensors(regions).class_indices(tensor, (0.4, 0.3)).tolist() == [0, 0, 2, 2]
    both = np.stack([1 - chances[0], chances[0]])
    assert ClassArrays().fill_indices(both, np.empty(4, np.uint8), 0.4).tolist() == [0, 0, 1, 1]
    assert CLASSES.class_indices(tensor[:1], 0.4).tolist() == [False, False, True, True]


def test_thresholds_of_a_selection_are_those_of_the_regions_by_name() -> None:
    from unetpp.plan import DataPlan, Region
    from unetpp.selection import Member, Selection

    member = Member(run="a", size=1)
    regions = (Region(name="whole", values=(1, 2)), Region(name="core", values=(2,)))
    names = {"classes": ("background", "a", "b"), "label_values": (0, 1, 2)}
    data = DataPlan(dims=2, channels=("image",), **names, regions=regions, normalization=({},))
    selection = Selection(members=(member,), region_thresholds={"core": 0.35})
    assert make_decision(selection, data).threshold == (0.5, 0.35)
    assert selection.describe_extras(data.classes) == ["core above a probability of 0.35"]
    assert Selection.model_validate_json(Selection(members=(member,)).to_json()).region_thresholds == {}
