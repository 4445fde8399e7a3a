"""Muon: kernels take steps of equal size in every direction; AdamW updates all other weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from unetpp.train.muon import ITERATIONS, QUINTIC, Muon, divide_work, orthogonalize


def take_steps(gradient: Tensor, orthogonal: bool, steps: int = 1) -> Tensor:
    """Update one weight, starting from 0."""
    weight = nn.Parameter(torch.zeros_like(gradient))
    optimizer = Muon([{"params": [weight], "orthogonal": orthogonal, "weight_decay": 0.0}], 0.1)
    for _ in range(steps):
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.detach()


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(8, 40), columns=st.integers(8, 90), seed=st.integers(0, 99))
def test_all_singular_values_become_about_1(rows: int, columns: int, seed: int) -> None:
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    values = torch.linalg.svdvals(orthogonalize(matrix)) / max(1.0, rows / columns) ** 0.5
    # five iterations do not raise singular values that are almost 0
    strong = torch.linalg.svdvals(matrix) > 0.05 * float(torch.linalg.matrix_norm(matrix))
    assert values.max() < 1.3
    assert values[strong].min() > 0.6


def iterate(matrix: Tensor) -> Tensor:
    """Orthogonalize a wide matrix as published, in float64: five multiplications of the matrix itself."""
    x = matrix.double() / matrix.double().norm()
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = QUINTIC[0] * x + (QUINTIC[1] * square + QUINTIC[2] * square @ square) @ x
    return x


@pytest.mark.parametrize("noise", [1.0, 1e-3, 1e-6])
def test_the_iteration_on_small_squares_is_that_on_the_matrix(noise: float) -> None:
    """Also of gradients of low rank, whose squares have eigenvalues that rounding could make negative."""
    random = torch.Generator().manual_seed(0)
    matrix = torch.randn(64, 6, generator=random) @ torch.randn(6, 576, generator=random)
    matrix += noise * torch.randn(64, 576, generator=random)
    torch.testing.assert_close(orthogonalize(matrix).double(), iterate(matrix), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(8, 12, 3, 3), (12, 8, 2, 2, 2)])
def test_a_step_does_not_depend_on_the_size_of_the_gradient(shape: tuple[int, ...]) -> None:
    gradient = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    small, large = take_steps(gradient, True), take_steps(4096 * gradient, True)
    torch.testing.assert_close(small, large, rtol=1e-3, atol=1e-4)
    assert float((small.flatten() @ gradient.flatten()).sign()) == -1  # downhill
    assert float(torch.linalg.matrix_norm(small.flatten(1), 2)) == pytest.approx(
        0.1 * max(1.0, shape[0] / small[0].numel()) ** 0.5, rel=0.3
    )


def test_the_memory_format_changes_nothing() -> None:
    gradient = torch.randn(8, 12, 3, 3, generator=torch.Generator().manual_seed(0))
    last = take_steps(gradient.to(memory_format=torch.channels_last), True, steps=3)
    torch.testing.assert_close(last.contiguous(), take_steps(gradient, True, steps=3))


def test_other_weights_are_updated_by_adamw() -> None:
    gradient = torch.randn(8, 12, generator=torch.Generator().manual_seed(0))
    weight = nn.Parameter(torch.zeros_like(gradient))
    adamw = torch.optim.AdamW([weight], lr=0.1, weight_decay=0.0)
    for _ in range(3):
        weight.grad = gradient.clone()
        adamw.step()
    assert torch.equal(take_steps(gradient, False, steps=3), weight.detach())


def test_a_weight_without_gradient_is_not_changed() -> None:
    weight = nn.Parameter(torch.ones(8, 8, 3, 3))
    optimizer = Muon([{"params": [weight], "orthogonal": True, "weight_decay": 0.5}], 0.1)
    optimizer.step()
    assert torch.equal(weight, torch.ones_like(weight))
    assert not optimizer.state


@given(costs=st.lists(st.floats(0, 1e9), max_size=30), parts=st.integers(1, 8))
def test_work_is_divided_without_loss_and_evenly(costs: list[float], parts: int) -> None:
    shares = divide_work(costs, parts)
    assert sorted(index for share in shares for index in share) == list(range(len(costs)))
    totals = [sum(costs[index] for index in share) for share in shares]
    assert max(totals) - min(totals) <= max(costs, default=0.0) * (1 + 1e-9)
