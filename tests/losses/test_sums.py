"""The loss of a batch from the sums of its parts, and its gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from unetpp.losses.supervision import DeepSupervisionLoss

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
