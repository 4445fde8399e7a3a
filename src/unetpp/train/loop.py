"""The training loop. It knows no model, no data set and no file."""

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
    """Train until the schedule is over or `observe` gives a reason to stop.

    Args:
        batches: those of step `first`, `first` + 1, ...
        step: trains on a batch, given the number of the step and the part of the schedule that is done; returns the loss.
        schedule: the part of the schedule that is done after so many steps, 0 to 1.
        first: number of steps that are done already.
        observe: called with the number of steps that are done and the last loss; a text ends the training.

    Returns:
        The text of `observe`, or "finished".
    """
    number = first
    while (done := schedule(number)) < 1:
        loss = step(next(batches), number, done)
        number += 1
        if reason := observe(number, loss):
            return reason
    return "finished"
