"""The rest of a training that is continued: its length in words, and when it ends."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from unetpp.measure.pace import SHARE_AFTER
from unetpp.plan import Plan
from unetpp.run_folder import CHECKPOINT, FoldName, RunFolder
from unetpp.train.checkpoint import TrainingState, read_training_state
from unetpp.verbs.fold_time import Clock
from unetpp.verbs.request import Request
from unetpp.words import count_noun


def describe_rest(
    run: RunFolder, folds: Sequence[FoldName], plan: Plan, request: Request, clock: Clock
) -> tuple[datetime | None, str]:
    """Find when a training ends, and describe the length of one that is continued.

    Args:
        run: run folder.
        folds: folds to train.
        plan: plan of the run.
        request: length that is added to finished folds, if any.
        clock: that of the command.

    Returns:
        The end, None if it is not known; and the length, empty if no fold has begun.

    Raises:
        ModelFileError: a checkpoint that cannot be used.
    """
    minutes, many = plan.train.minutes, f" of {len(folds)} folds" if len(folds) > 1 else ""
    if not any(map(run.has_started, folds)):
        return (clock.find_end(minutes, len(folds)) if minutes else None), ""
    files = [None if run.metrics_file(fold).exists() else run.fold(fold) / CHECKPOINT for fold in folds]
    states = [None if file is None else read_training_state(file) for file in files]  # of finished folds: not needed
    seconds = [_find_seconds(run, fold, state, minutes, request) for fold, state in zip(folds, states, strict=True)]
    known = [each for each in seconds if each is not None]
    end = datetime.now() + timedelta(seconds=sum(known)) if len(known) == len(seconds) else None
    if request.adds and all(run.metrics_file(fold).exists() for fold in folds):
        noun, number = ("minute", request.minutes) if request.minutes else ("epoch", request.epochs or 0)
        return end, f"{count_noun(number or 0, f'more {noun}')}{f' for each{many}' if many else ''}"
    steps = plan.train.epochs * plan.train.steps_per_epoch
    whole = count_noun(minutes, "minute") if minutes else count_noun(steps, "step")
    if (state := states[0]) and state.first_step:  # a finished training that was being trained longer
        number, noun = (state.budget_s / 60, "minute") if state.budget_s else (state.epochs or 0, "epoch")
        whole = count_noun(float(f"{number:.2g}"), f"more {noun}")
    step = run.find_step(folds[0])
    return end, f"the rest of {whole}{f' for each{many}' if many else f', from step {step or 0:,}'}"


def _find_seconds(
    run: RunFolder, fold: FoldName, state: TrainingState | None, minutes: float | None, request: Request
) -> float | None:
    """Estimate the seconds that a fold still takes; None without a limit."""
    if run.metrics_file(fold).exists():
        return (request.minutes and 60 * request.minutes) if request.adds else 0.0
    if state is None:
        return minutes and 60 * minutes
    if state.budget_s is None:
        return None
    left_s = 0.0 if state.finished else max(0.0, state.budget_s - (state.elapsed_s - state.first_s))
    return left_s + SHARE_AFTER * 60 * (minutes or 0.0)
