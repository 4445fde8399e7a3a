"""The rest of a training that is continued: what is left of it, and when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from unetpp.measure.pace import SHARE_AFTER
from unetpp.plan import Plan
from unetpp.run_folder import CHECKPOINT, FoldName, RunFolder
from unetpp.train.checkpoint import read_training_state
from unetpp.verbs.fold_time import Clock
from unetpp.verbs.request import Request
from unetpp.words import count_noun


@dataclass(frozen=True)
class Rest:
    """What is left of a training that is continued."""

    text: str
    """The same in words."""
    seconds: float | None
    """Of all folds, with what follows; None: they are not known, as the rest is counted in steps."""
    steps: int
    """Of folds whose length is counted in steps."""
    from_start: bool = False
    """Whether the seconds count from the start of the command, as those of a new training do."""


def find_rest(run: RunFolder, folds: Sequence[FoldName], plan: Plan, request: Request) -> Rest | None:
    """Find what is left of a training that is continued; None if no fold has begun.

    Args:
        run: run folder.
        folds: folds to train.
        plan: plan of the run.
        request: length that is added to finished folds, if any.

    Raises:
        ModelFileError: a checkpoint that cannot be used.
    """
    if not any(map(run.has_started, folds)):
        return None
    left = [_find_left(run, fold, plan, request) for fold in folds]
    known = [seconds for seconds, _ in left if seconds is not None]
    total, steps = sum(known), sum(number for _, number in left)
    seconds = total if len(known) == len(left) else None
    several = len(folds) > 1
    if all(run.metrics_file(fold).exists() for fold in folds):
        if not request.adds:
            return Rest("nothing is left", 0.0, 0)
        noun, number = ("minute", request.minutes) if request.minutes else ("epoch", request.epochs or 0)
        text = f"{count_noun(number or 0, f'more {noun}')}{f' for each of {len(folds)} folds' if several else ''}"
        return Rest(text, seconds, steps, from_start=True)
    lengths = [count_noun(float(f"{total / 60:.2g}"), "minute")] if total else []
    lengths += [count_noun(steps, "step")] if steps or not total else []
    after = " after the start-up" if total else ""
    where = f" of {len(folds)} folds" if several else f", from step {run.find_step(folds[0]) or 0:,}"
    return Rest(f"{' and '.join(lengths)} left{after}{where}", seconds, steps)


def _find_left(run: RunFolder, fold: FoldName, plan: Plan, request: Request) -> tuple[float | None, int]:
    """Find the seconds that a fold still takes, with what follows; None where they are steps, and the number of these.

    Of a finished fold no checkpoint is needed, nor is it read.
    """
    minutes, per_epoch = plan.train.minutes, plan.train.steps_per_epoch
    if run.metrics_file(fold).exists():
        if request.adds and request.epochs:
            return None, request.epochs * per_epoch
        return 60 * (request.minutes or 0.0) * request.adds, 0
    state = read_training_state(run.fold(fold) / CHECKPOINT)
    if state is None:
        return (60 * minutes, 0) if minutes else (None, plan.train.epochs * per_epoch)
    if state.budget_s is None:
        end = state.first_step + (state.epochs or plan.train.epochs) * per_epoch
        return None, 0 if state.finished else max(0, end - state.step)
    left_s = 0.0 if state.finished else max(0.0, state.budget_s - (state.elapsed_s - state.first_s))
    return left_s + SHARE_AFTER * 60 * (minutes or 0.0), 0


def find_end(rest: Rest | None, minutes: float | None, folds: int, clock: Clock) -> datetime | None:
    """Find when a command ends; None: that is not known.

    Args:
        rest: what is left of a training that is continued, if it is.
        minutes: length of each fold of one that begins.
        folds: number of folds.
        clock: that of the command.
    """
    if rest is None:
        return clock.find_end(minutes, folds) if minutes else None
    if rest.seconds is None:
        return None
    if rest.from_start:
        return clock.find_end(rest.seconds / folds / 60, folds)
    return datetime.now() + timedelta(seconds=rest.seconds)
