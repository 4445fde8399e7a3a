"""Sums over voxels, piece by piece, and the loss of a batch from those of its parts; with gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from unetpp.labels.coding_torch import CLASSES, RegionTensors
from unetpp.losses import voxel_sums
from unetpp.losses.supervision import DeepSupervisionLoss
from unetpp.losses.voxel_sums import sum_voxels

LOSSES: dict[str, dict[str, Any]] = {
    "both terms": {},
    "cross entropy": {"dice_weight": 0.0, "head_weights": (1.0, 3.0)},
    "dice": {"cross_entropy_weight": 0.0},
    "ignored": {"ignored": 3},
    "weights": {"class_weights": (0.2, 1.0, 3.0)},
    "weights, ignored": {"class_weights": (0.2, 1.0, 3.0), "ignored": 3},
    "regions": {"regions": ((1, 2), (1,), (2,))},
    "regions, weights, ignored": {"regions": ((1, 2), (1,), (2,)), "class_weights": (1.0, 2.0, 4.0), "ignored": 3},
    "distillation": {"distillation": True},
    "distillation, ignored": {"distillation": True, "ignored": 3},
}


@dataclass
class Heads:
    logits: tuple[Tensor, ...]
    depths: tuple[int, ...] = (1, 2)


def make_batch(ignored: int | None) -> tuple[list[Tensor], Tensor]:
    rng = torch.Generator().manual_seed(0)
    logits = [torch.randn(5, 3, 6, 7, generator=rng, requires_grad=True) for _ in range(2)]
    target = torch.randint(3, (5, 1, 6, 7), generator=rng)
    if ignored is not None:
        target[torch.rand(target.shape, generator=rng) < 0.3] = ignored
        target[4] = ignored  # a part in which nobody labeled anything
    return logits, target


@pytest.mark.parametrize("name", LOSSES)
def test_parts_have_the_loss_and_the_gradients_of_the_whole(name: str) -> None:
    loss = DeepSupervisionLoss(**LOSSES[name])
    logits, target = make_batch(loss.ignored)
    whole = loss(Heads(tuple(logits)), target)
    expected = torch.autograd.grad(whole, logits)
    parts = [slice(0, 2), slice(2, 4), slice(4, 5)]
    sums = [loss.list_sums(Heads(tuple(each[part] for each in logits)), target[part]) for part in parts]
    found = loss.combine(torch.stack(sums).sum(0), (1, 2))
    torch.testing.assert_close(found, whole, rtol=1e-6, atol=1e-6)
    for mine, gradient in zip(torch.autograd.grad(found, logits), expected, strict=True):
        torch.testing.assert_close(mine, gradient, rtol=1e-5, atol=1e-8)


def test_a_batch_that_nobody_labeled_has_no_cross_entropy() -> None:
    loss = DeepSupervisionLoss(ignored=3, dice_weight=0.0)
    logits, target = make_batch(3)
    sums = loss.list_sums(Heads(tuple(each[4:] for each in logits)), target[4:])
    assert loss.combine(sums, (1, 2)).item() == 0.0


def sum_whole(logits: Tensor, target: Tensor, known: Tensor | None, regions: bool) -> Tensor:
    """The same sums, as one would write them."""
    axes = [0, *range(2, logits.ndim)]
    weight = torch.ones_like(target[:, :1]) if known is None else known.to(logits.dtype)
    predicted = logits.sigmoid() if regions else logits.softmax(1)
    rows = target * predicted.log(), target * predicted, predicted, target, target
    if regions:
        rows = (rows[0] + (1 - target) * (1 - predicted).log(), *rows[1:4], torch.ones_like(target))
    return torch.stack([(weight * row).sum(axes) for row in rows])


@pytest.mark.parametrize("piece, kept", [(2**18, 2**20), (48, 0), (1, 2**20)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("classes", [2, 3, 20])
@pytest.mark.parametrize("kind", ["indices", "logits", "regions", "logits of regions"])
@pytest.mark.parametrize("ignores", [False, True])
def test_pieces_sum_up_to_the_whole(
    monkeypatch: pytest.MonkeyPatch, piece: int, kept: int, layout: Any, classes: int, kind: str, ignores: bool
) -> None:
    monkeypatch.setattr(voxel_sums, "PIECE", piece)
    monkeypatch.setattr(voxel_sums, "KEPT", kept)
    rng, shape = torch.Generator().manual_seed(0), (3, classes, 4, 5)
    regions = "regions" in kind
    coding = RegionTensors([range(1, classes - at + 1) for at in range(classes)]) if regions else CLASSES
    logits = torch.randn(shape, generator=rng).contiguous(memory_format=layout).requires_grad_()
    if "logits" in kind:
        target = torch.randn(shape, generator=rng)
        encoded = target.sigmoid() if regions else target.softmax(1)
    else:
        target = torch.randint(classes, (3, 1, 4, 5), generator=rng)
        encoded = coding.make_targets(target, classes)
    known = torch.rand(3, 1, 4, 5, generator=rng) < 0.7 if ignores else None
    found, whole = sum_voxels(logits, target, known, coding), sum_whole(logits, encoded, known, regions)
    torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-5)
    weights = torch.randn(5, classes, generator=rng)
    gradients = [torch.autograd.grad((weights * sums).sum(), logits)[0] for sums in (found, whole)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strided", [False, True])
def test_sums_of_volumes_and_of_logits_in_bfloat16(strided: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 17, 3, 4, 5, generator=rng).bfloat16()
    logits = logits.transpose(2, 4) if strided else logits.contiguous(memory_format=torch.channels_last_3d)
    logits.requires_grad_()
    target = torch.randint(17, (2, 1, *logits.shape[2:]), generator=rng)
    found = sum_voxels(logits, target, None, CLASSES)
    whole = sum_whole(logits.float(), CLASSES.make_targets(target, 17), None, False)
    torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-4)
    gradients = [torch.autograd.grad(sums[:2].sum(), logits)[0] for sums in (found, whole)]
    torch.testing.assert_close(*gradients, rtol=1e-2, atol=1e-2)
    assert gradients[0].dtype == torch.bfloat16


def test_what_is_changed_before_the_gradient_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voxel_sums, "KEPT", 0)
    logits, target = make_batch(None)
    sums = sum_voxels(logits[0], target, None, CLASSES)
    target.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        sums.sum().backward()


def test_a_class_that_is_masked_costs_nothing_where_it_is_not_labeled() -> None:
    logits, target = make_batch(None)
    masked = torch.cat([logits[0], torch.full((5, 1, 6, 7), -torch.inf)], dim=1)
    loss = DeepSupervisionLoss()
    assert loss(Heads((masked,), (1,)), target).isfinite()


def test_no_image_has_sums_of_0() -> None:
    assert not sum_voxels(torch.zeros(0, 3, 4, 5), torch.zeros(0, 1, 4, 5, dtype=torch.int64), None, CLASSES).any()


def test_a_compiled_loss_is_the_same() -> None:
    logits, target = make_batch(None)
    loss, heads = DeepSupervisionLoss(), Heads(tuple(logits))
    compiled = torch.compile(loss, backend="eager")(heads, target)
    torch.testing.assert_close(compiled, loss(heads, target))
    expected = torch.autograd.grad(loss(heads, target), logits)
    for mine, gradient in zip(torch.autograd.grad(compiled, logits), expected, strict=True):
        torch.testing.assert_close(mine, gradient)
