"""Muon: orthogonalized updates for convolution kernels (Jordan et al. 2024, "Muon"), AdamW for all other weights.

torch has a Muon since 2.9, but for matrices only; here one optimizer updates the kernels of convolutions and all other
weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW

from unetpp.runtime.ranks import ALONE, Ranks

MOMENTUM = 0.95
ITERATIONS = 5
QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the Newton-Schulz iteration: they bring singular values from 0..1 to about 1 in 5 iterations."""

Block = tuple[Sequence[slice], Sequence[slice]]
"""Rows and columns of a kernel, by its first two axes."""


class Muon(AdamW):
    """Optimizer that updates groups with `orthogonal=True` by their orthogonalized momentum, and the others as AdamW.

    A kernel (out, in, *size) counts as the matrix (out, in * size). The learning rate needs no tuning to the width of
    the network.

    Args:
        groups: as for AdamW, each with `orthogonal`.
        lr: learning rate of groups that have none.
        shells: blocks of kernels that are orthogonalized by themselves, and nothing else of them; see `model.shells`.
        ranks: the processes that train together; each orthogonalizes a share of the kernels.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        lr: float,
        shells: Mapping[Tensor, Sequence[Block]] | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        super().__init__(groups, lr=lr, fused=groups[0]["params"][0].is_cuda or None)
        self._shells = dict(shells or {})
        self._directions: dict[Tensor, Tensor] = {}
        self._ranks = ranks

    @torch.no_grad()
    def compute_directions(self) -> None:
        """Compute the directions in which kernels move: the part of a step that is independent of the learning rate."""
        aims: dict[Tensor, Tensor] = {}
        for weight in (weight for group in self.param_groups for weight in _kernels_to_update(group)):
            state = self.state[weight]
            if not state:
                state["step"] = torch.zeros(())  # AdamW looks for it in the state of every weight
                state["momentum"] = torch.zeros_like(weight)
            state["momentum"].lerp_(weight.grad, 1 - MOMENTUM)
            if self._ranks.is_alone:
                self._directions[weight] = self._turn(weight, weight.grad.lerp(state["momentum"], MOMENTUM))
            else:
                aims[weight] = weight.grad.lerp(state["momentum"], MOMENTUM)
        if aims:
            self._directions = self._turn_together(aims)

    def _turn_together(self, aims: dict[Tensor, Tensor]) -> dict[Tensor, Tensor]:
        """Orthogonalize the directions of this rank's share of the kernels, and gather those of the others."""
        shares = divide_work([_count_work(weight) for weight in aims], self._ranks.size)
        weights = list(aims)
        own = [self._turn(weights[at], aims[weights[at]]).reshape(-1) for at in shares[self._ranks.rank]]
        lengths = [sum(weights[at].numel() for at in share) for share in shares]
        flat = torch.cat(own) if own else weights[0].new_empty(0)
        directions: dict[Tensor, Tensor] = {}
        for share, row in zip(shares, self._ranks.gather(flat, lengths), strict=True):
            parts = row.split([weights[at].numel() for at in share])
            directions |= {weights[at]: part.view_as(weights[at]) for at, part in zip(share, parts, strict=True)}
        return directions

    def _turn(self, weight: Tensor, aim: Tensor) -> Tensor:
        """Orthogonalize the direction of a kernel, that of each shell by itself."""
        if weight not in self._shells:
            return orthogonalize(aim.flatten(1)).view_as(weight)
        direction = torch.zeros_like(aim)
        for rows, columns in self._shells[weight]:
            block = torch.cat([torch.cat([aim[row, column] for column in columns], 1) for row in rows])
            turned = orthogonalize(block.flatten(1)).view_as(block)
            for row, part in zip(rows, turned.split([each.stop - each.start for each in rows]), strict=True):
                for column, values in zip(columns, part.split([c.stop - c.start for c in columns], 1), strict=True):
                    direction[row, column] = values
        return direction

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None, directions_ready: bool = False) -> Any:
        """Update all weights.

        Args:
            closure: computes the loss again; see torch.optim.
            directions_ready: `compute_directions` was called, or replayed, for these gradients.
        """
        if not directions_ready:
            self._directions.clear()
            self.compute_directions()
        for group in self.param_groups:
            if weights := _kernels_to_update(group):
                torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(weights, [self._directions[weight] for weight in weights], alpha=-group["lr"])
            for weight in weights:
                self.state[weight]["step"] += 1
                weight.grad = None
        return super().step(closure)  # AdamW skips weights without gradient


def orthogonalize(matrix: Tensor) -> Tensor:
    """Orthogonalize a matrix approximately by Newton-Schulz iterations; scale a tall one by sqrt(rows / columns).

    Each iteration multiplies the matrix X by a polynomial of X X^T, and all of these commute: so they are multiplied as
    small square matrices, and with X once. Squares of singular values need float32.
    """
    a, b, c = QUINTIC
    rows, columns = matrix.shape
    x: Tensor = matrix if rows <= columns else matrix.T
    x = x / (x.norm() + 1e-7)
    square, factors = x @ x.T, []
    for _ in range(ITERATIONS):
        factors.append(torch.addmm(square, square, square, beta=b, alpha=c))
        factors[-1].diagonal().add_(a)
        square = factors[-1] @ square @ factors[-1]
    x = torch.linalg.multi_dot(factors) @ x
    scale: float = max(1.0, rows / columns) ** 0.5
    return (x if rows <= columns else x.T) * scale


def divide_work(costs: Sequence[float], parts: int) -> list[list[int]]:
    """Divide things by their costs: each, from the most costly one on, goes to the part with the least so far.

    Returns:
        Indices of the things of each part, ascending.
    """
    shares: list[list[int]] = [[] for _ in range(parts)]
    totals = [0.0] * parts
    for index in sorted(range(len(costs)), key=lambda index: -costs[index]):
        least = totals.index(min(totals))
        shares[least].append(index)
        totals[least] += costs[index]
    return [sorted(share) for share in shares]


def _count_work(weight: Tensor) -> float:
    """Count the multiplications of `orthogonalize` about: of small square matrices, and twice with the whole."""
    rows, columns = weight.shape[0], weight.numel() // weight.shape[0]
    small = min(rows, columns)
    return float(small * small * (2 * max(rows, columns) + 3 * ITERATIONS * small))


def _kernels_to_update(group: dict[str, Any]) -> list[Any]:
    return [weight for weight in group["params"] if group["orthogonal"] and weight.grad is not None]
