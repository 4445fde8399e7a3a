"""Regions, unions of classes that may overlap: encoded and decoded as a pair, with NumPy as with torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.plans import small_plan

import unetpp
from unetpp import labels
from unetpp.errors import PlanError, UsageError
from unetpp.infer.early_exit import estimate_uncertainty
from unetpp.labels.coding import RegionArrays
from unetpp.labels.coding_torch import RegionTensors, make_tensor_coding
from unetpp.labels.objects import measure_classes
from unetpp.losses.supervision import DeepSupervisionLoss
from unetpp.metrics.scores import fast_dice, score_case
from unetpp.model.network import HeadOutputs
from unetpp.plan import Plan

NESTED = ((1, 2, 3), (2, 3), (3,))
TEXT = "whole=1+2+3,core=2+3,enhancing=3"


def plan_of_regions(regions: Any = TEXT, classes: int = 4) -> Plan:
    values = small_plan(classes=classes).model_dump(mode="json")
    values["data"]["regions"], values["model"]["out_channels"] = regions, 3
    return Plan.from_dict(values)


def draw(seed: int, sharpness: float = 3.0, channels: int = 3) -> torch.Tensor:
    return (sharpness * torch.randn(channels, 6, 7, generator=torch.Generator().manual_seed(seed))).sigmoid()


@given(st.integers(2, 6), st.integers(0, 1000))
@settings(deadline=None)
def test_nested_masks_come_back(count: int, seed: int) -> None:
    """Of any number of nested regions, whatever numbers they write."""
    rng = np.random.default_rng(seed)
    codes = [int(code) for code in rng.permutation(count) + 1]
    nested = tuple(tuple(codes[place:]) for place in range(count))
    indices = rng.integers(0, count + 1, (2, 1, 5, 6)).astype(np.uint8)
    coding = RegionTensors(nested)
    targets = coding.make_targets(torch.from_numpy(indices).long(), count)
    assert targets.shape == (2, count, 5, 6)
    assert all(bool((inner <= outer).all()) for outer, inner in zip(targets[0], targets[0][1:], strict=False))
    for label, target in zip(indices, targets, strict=True):
        np.testing.assert_array_equal(coding.class_indices(target).numpy(), label[0])
        found = RegionArrays(nested).fill_indices(target.numpy(), np.empty((5, 6), np.uint8))
        np.testing.assert_array_equal(found, label[0])


def test_later_regions_are_written_over_earlier_ones_also_if_they_are_not_nested() -> None:
    overlapping = ((1, 2), (3, 2))
    probabilities = torch.tensor([[0.9, 0.9, 0.1, 0.1], [0.1, 0.8, 0.7, 0.5]])
    assert RegionTensors(overlapping).class_indices(probabilities).tolist() == [1, 3, 3, 0]


@given(st.integers(0, 1000), st.sampled_from([0.0, 1.0, 8.0]))
@settings(deadline=None)
def test_numpy_and_torch_agree(seed: int, sharpness: float) -> None:
    probabilities, tensors, arrays = draw(seed, sharpness), RegionTensors(NESTED), RegionArrays(NESTED)
    chosen = tensors.class_indices(probabilities)
    found = arrays.fill_indices(probabilities.numpy(), np.empty((6, 7), np.uint8))
    np.testing.assert_array_equal(found, chosen.numpy())
    np.testing.assert_allclose(arrays.entropy(probabilities.numpy()), tensors.entropy(probabilities).numpy(), atol=1e-5)
    np.testing.assert_allclose(
        arrays.soft_counts(probabilities.numpy(), found), tensors.soft_counts(probabilities, chosen).numpy(), rtol=1e-5
    )


def test_entropy_and_certainty_are_those_of_sigmoids() -> None:
    coding, probabilities = RegionTensors(NESTED), torch.tensor([[1.0, 0.5, 0.9], [0.0, 0.5, 0.5], [0.0, 0.5, 0.1]])
    uncertainty = coding.entropy(probabilities)
    assert uncertainty[:2].tolist() == [0, 1]
    assert 0 < float(uncertainty[2]) < 1
    certainty, is_foreground = coding.find_certainty(probabilities)
    assert certainty.tolist() == [1, 0.5, 0.5]
    assert is_foreground.tolist() == [True, False, True]


def test_scores_are_those_of_each_region() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 4, (2, 20, 20)).astype(np.uint8)
    scores = score_case("a", one, other, 4, regions=NESTED)
    for region, score in zip(NESTED, scores.classes, strict=True):
        alone = score_case("a", np.isin(one, region).astype(np.uint8), np.isin(other, region).astype(np.uint8), 2)
        assert score == alone.classes[0]
    assert fast_dice(one, other, 4, NESTED) == pytest.approx(scores.mean().dice)
    voxels = [size.voxels for size in measure_classes(one, 4, NESTED)]
    assert voxels == [np.isin(one, region).sum() for region in NESTED]


@pytest.mark.parametrize("ignored", [None, 255])
def test_the_loss_is_binary_cross_entropy_plus_dice(ignored: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 6, 7, generator=generator)
    target = torch.randint(4, (2, 1, 6, 7), generator=generator)
    known = torch.ones_like(target, dtype=torch.bool)
    if ignored is not None:
        known[:, :, :2], target[:, :, :2] = False, ignored
    truth = torch.cat([torch.isin(target, torch.tensor(region)) for region in NESTED], dim=1).float()
    chosen = known.expand_as(logits)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits[chosen], truth[chosen])
    inside, axes = logits.sigmoid() * known, (0, 2, 3)
    dice = (2 * (inside * truth).sum(axes) + 1e-5) / (inside.sum(axes) + truth.sum(axes) + 1e-5)
    found = DeepSupervisionLoss(ignored=ignored, regions=NESTED)(HeadOutputs((1,), (logits,)), target)
    assert float(found) == pytest.approx(float(entropy + (1 - dice).mean()), rel=1e-5)


@pytest.mark.parametrize("ignored", [None, 255])
def test_small_sizes_learn_the_regions_of_the_largest(ignored: int | None) -> None:
    """Their targets are its probabilities, each of its own sigmoid; it learns from the labels alone."""
    generator = torch.Generator().manual_seed(1)
    small, large = (torch.randn(2, 3, 6, 7, generator=generator, requires_grad=True) for _ in range(2))
    target = torch.randint(4, (2, 1, 6, 7), generator=generator)
    known = torch.ones(2, 1, 6, 7)
    if ignored is not None:
        known[:, :, :2], target[:, :, :2] = 0, ignored
    distilled = DeepSupervisionLoss(ignored=ignored, distillation=True, regions=NESTED)
    found = distilled(HeadOutputs((1, 2), (small, large)), target)
    taught, answer, axes = small.sigmoid() * known, large.detach().sigmoid() * known, (0, 2, 3)
    every = -(answer * small.sigmoid().log() + (known - answer) * (-small).sigmoid().log()).mean(1, keepdim=True)
    dice = (2 * (taught * answer).sum(axes) + 1e-5) / (taught.sum(axes) + answer.sum(axes) + 1e-5)
    expected = (every * known).sum() / known.sum() + (1 - dice).mean()
    alone = DeepSupervisionLoss(ignored=ignored, regions=NESTED)(HeadOutputs((1,), (large,)), target)
    assert found.item() == pytest.approx((expected + alone).item() / 2, rel=1e-4)
    got = torch.autograd.grad(found, [small, large])
    for one, other in zip(got, torch.autograd.grad((expected + alone) / 2, [small, large]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("regions", [(), ((),), ((0, 1),), ((1.5,),), 3, ("a",)])
def test_a_loss_refuses_what_are_no_regions(regions: Any) -> None:
    with pytest.raises(UsageError, match="class indices of each logit"):
        DeepSupervisionLoss(regions=regions)


def test_a_loss_needs_a_logit_for_each_region() -> None:
    outputs = HeadOutputs((1,), (torch.zeros(1, 2, 4, 4),))
    with pytest.raises(UsageError, match="3, one for each of `regions`"):
        DeepSupervisionLoss(regions=NESTED)(outputs, torch.zeros(1, 1, 4, 4, dtype=torch.long))
    with pytest.raises(UsageError, match="one of the two"):
        DeepSupervisionLoss(regions=NESTED, loss=torch.nn.BCEWithLogitsLoss())


def test_a_tile_is_as_uncertain_as_its_least_certain_region() -> None:
    logits = torch.full((1, 3, 4, 4), -30.0)
    logits[:, 0, :2] = 30.0
    certain = estimate_uncertainty(logits, RegionTensors(NESTED))
    logits[:, 2, 0, 0] = 0.0
    assert float(certain) == pytest.approx(0, abs=1e-6)
    assert float(estimate_uncertainty(logits, RegionTensors(NESTED))) == pytest.approx(0.5 / 8)


def test_networks_of_ones_own_loop_are_saved_with_their_regions(tmp_path: Path) -> None:
    network = unetpp.build_model(out_channels=2, widths=(4, 6, 8)).eval()
    given = {"data.regions": "whole=1+2,core=2", "predict.tile": [16, 16], "predict.precision": "fp32"}
    unetpp.save(network, tmp_path / "own.safetensors", set=given)
    model = unetpp.load(tmp_path / "own.safetensors", device="cpu")
    assert model.plan.data.classes == ("background", "class_1", "class_2")
    image = np.random.default_rng(0).random((16, 16)).astype(np.float32)
    found = model.predict(image, probabilities=True)
    scaled = torch.from_numpy((image - image.mean()) / image.std())[None, None]
    expected = network(scaled).sigmoid()[0].detach().numpy()
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-3)
    np.testing.assert_array_equal(
        found.segmentation, RegionArrays(((1, 2), (2,))).fill_indices(found.probabilities, np.empty((16, 16), np.uint8))
    )
    with pytest.raises(UsageError, match="2, one for each output channel"):
        unetpp.save(network, tmp_path / "own.safetensors", set={"data.regions": "whole=1"})


def test_a_plan_has_an_output_for_each_region() -> None:
    plan = plan_of_regions()
    assert plan == Plan.from_json(plan.to_json())
    assert plan.data.outputs == plan.data.scored == ("whole", "core", "enhancing")
    assert plan.data.region_indices == NESTED
    assert isinstance(labels.make_coding(plan.data), RegionArrays)
    assert isinstance(make_tensor_coding(plan.data), RegionTensors)


@pytest.mark.parametrize(
    ("regions", "expected"),
    [
        ("whole=1+2,core=2,enhancing=2", "every foreground value in a region: 1, 2, 3"),
        ("whole=1+2+3,core=2+3,enhancing=4", "values of foreground classes: 1, 2, 3"),
        ("whole=1+2+3,core=2+3,core=3", "names that differ"),
        ("whole=1+2+3,core=2+3,enhancing=2", "a first value of each region"),
        ("whole=1+2+3,core=3+2,inner=2+3", "regions that differ in their values"),
        ("whole=1+2+3,core=2+3+2,inner=3", "each value once in a region"),
        ("whole", 'a text such as "whole='),
        ("whole=1,core=2", "2, one for each of data.regions"),
    ],
)
def test_wrong_regions_are_refused(regions: str, expected: str) -> None:
    with pytest.raises(PlanError, match=expected):
        plan_of_regions(regions, classes=3 if regions == "whole=1,core=2" else 4)


@pytest.mark.parametrize("kind", ["binary", "objects", "colors", "segments", "channels"])
def test_regions_are_of_values_in_label_files(kind: str) -> None:
    values = plan_of_regions().model_dump(mode="json")
    values["data"]["labels"] = {"kind": kind}
    with pytest.raises(PlanError, match=f"`data.labels` is {kind}"):
        Plan.from_dict(values)
