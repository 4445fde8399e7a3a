"""The training loop, independent of model, data set and files."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from unetpp.train.batches import Batch


def fit(
    batches: Iterator[Batch],
    step: Callable[[Batch, int, float], float],
    schedule: Callable[[int], float],
    first: int,
    observe: Callable[[int, float], str],
) -> str:
    """Train until the schedule is complete or `observe` returns a reason to stop.

    Args:
        batches: those of step `first`, `first` + 1, ...
        step: trains on a batch, given the number of the step and the fraction of the schedule; returns the loss.
        schedule: maps the number of steps done to the fraction of the schedule, 0 to 1.
        first: number of steps already done.
        observe: called with the number of steps done and the last loss; a non-empty text ends the training.

    Returns:
        The text from `observe`, or "finished".
    """
    number = first
    while (fraction := schedule(number)) < 1:
        loss = step(next(batches), number, fraction)
        number += 1
        if reason := observe(number, loss):
            return reason
    return "finished"
