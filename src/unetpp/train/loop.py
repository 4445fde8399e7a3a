"""The training loop. It knows no model, no data set and no file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Batch = tuple[Tensor, Tensor]


def gradients(
    network: nn.Module,
    loss: Callable[[Any, Tensor], Tensor],
    optimizer: Optimizer,
    *,
    gradient_clip: float,
    autocast: Callable[[], Any],
    scaler: torch.amp.GradScaler,
) -> Callable[[Tensor, Tensor], Tensor]:
    """A function from images and labels to their loss, which leaves its gradients in the weights.

    Args:
        network: called as network(images, heads=True).
        scaler: of gradients in float16; a disabled one otherwise.
    """

    def computed(images: Tensor, labels: Tensor) -> Tensor:
        with autocast():
            outputs = network(images, heads=True)
        value = loss(outputs, labels)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(value).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(network.parameters(), gradient_clip)
        return value.detach()

    return computed


def fit(
    network: nn.Module,
    batches: Iterator[Batch],
    optimizer: Optimizer,
    *,
    gradients: Callable[[Tensor, Tensor], Tensor],
    step: int,
    seed: int,
    fraction: Callable[[int], float],
    learning_rate: Callable[[float], float],
    move: Callable[[], None],
    place: Callable[[Batch], Batch],
    before_step: Callable[[float], None],
    after_step: Callable[[int, float, float], str],
) -> str:
    """Train until the schedule is over or `after_step` gives a reason to stop.

    Args:
        batches: those of step, step + 1, ...
        gradients: as `gradients` makes it.
        move: lets the optimiser move the weights.
        fraction: the part of the schedule that is done before a step.
        place: puts a batch where the network is.
        before_step: called with the part of the schedule that is done.
        after_step: called with (steps done, loss, learning rate); a text ends the training, and is returned.
    """
    network.train()
    while (done := fraction(step)) < 1:
        before_step(done)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(done) * group.get("factor", 1.0)
        images, labels = place(next(batches))
        torch.manual_seed(hash((seed, step)) % 2**63)  # dropout: a function of the step, as the data is
        value = gradients(images, labels)
        move()
        step += 1
        if reason := after_step(step, value.item(), learning_rate(done)):
            return reason
    return "finished"
