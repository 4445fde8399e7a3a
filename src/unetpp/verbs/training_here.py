"""A training on this machine: what it would take, and the folds, one after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from unetpp.errors import UsageError
from unetpp.plan import Plan
from unetpp.results import Planned, Run, TrainedFold, describe_plan
from unetpp.runtime.device import keep_freed_memory
from unetpp.train.listeners import Listeners
from unetpp.verbs import begun_folds, preparation
from unetpp.verbs.first_stage import settle_first_plan
from unetpp.verbs.fold import train_and_measure
from unetpp.verbs.fold_job import FoldJob
from unetpp.verbs.fold_time import Clock, load_libraries
from unetpp.verbs.followers import require_trainable
from unetpp.verbs.plan_page import has_plan_page, make_plan_page
from unetpp.verbs.rest import find_end, find_rest
from unetpp.verbs.trained_run import add_selected, finish_run, select_size, write_longer
from unetpp.verbs.training_request import RequestedFolds, TrainingRequest, find_folds

SELECTED_SHARE = 0.1
"""Fraction of the minutes that `select=True` takes."""


def preview(training: TrainingRequest) -> Planned:
    """Report the time and memory that a training would take; write nothing.

    Raises:
        DataError: all problems with the data.
        PlanError: a setting that does not fit.
        UsageError: a fold that cannot be trained so, or a plan of a run that does not fit the data.
    """
    run, progress = training.run, training.progress
    Listeners(training.log_to, run.path, progress.note)  # refuses what they cannot be sent to
    keep_freed_memory()
    place, timed_on = preparation.choose_place(training.device, training.request.vram_gb)
    training, folds = _find_folds(training)
    request, numbers, fingerprint = training.request, folds.numbers, folds.found.fingerprint
    made = preparation.reuse_plan(run, fingerprint, request, place, progress, training.start)
    progress.detail(describe_plan(made))
    split = folds.list_splits()[0]
    training.note_start(made, split.validation)
    rest = find_rest(run, numbers, made, request)
    if not folds.done and timed_on is not None:
        progress.stage("Measuring a training step")
    first = settle_first_plan(run, made, fingerprint, request, place, progress, write=False)
    costs = timed_on, len(numbers), rest, place, first
    planned = preparation.estimate_cost(training.data, run, made, split, *costs)
    return replace(planned, written=False, longer=write_longer(training, numbers) if folds.done else "")


def train_here(training: TrainingRequest) -> Run:
    """Plan and train the folds, and measure them.

    Raises:
        DataError: all problems with the data, before anything is trained.
        PlanError: a setting that does not fit.
        UsageError: a fold that cannot be trained so, or a plan of a run that does not fit the data.
        Interrupted: Ctrl-C or SIGTERM, or a rank of several is lost; the work done so far is saved.
    """
    run, progress, clock = training.run, training.progress, Clock(training.started)
    listeners = Listeners(training.log_to, run.path, progress.note)
    keep_freed_memory()
    place, timed_on = preparation.choose_place(training.device, training.request.vram_gb)
    if timed_on is None:
        action = "Make the plan here with `unetpp plan`, and train where the GPU is."
        raise UsageError("vram_gb", "no GPU in this machine", "one to train on", action)
    training, folds = _find_folds(training)
    with training.explain_stop():
        with begun_folds.hold_folds(run, folds.numbers):
            jobs = _make_jobs(training, folds, place, listeners, clock)
            trained = _train_folds(jobs, clock, training)
        selected = None
        if training.select:
            plan = jobs[0].plan
            minutes = training.request.minutes if training.addition else plan.train.minutes
            seconds = 60 * minutes * len(jobs) / (1 - SELECTED_SHARE) if minutes else math.inf
            selected = select_size(training, str(place), training.started + seconds)
        done = finish_run(training, trained)
        done = add_selected(done, selected) if selected else done
        longer = write_longer(training, folds.numbers) if folds.done else ""
        return replace(done, trackers=listeners.commands, longer=longer)


def _find_folds(training: TrainingRequest) -> tuple[TrainingRequest, RequestedFolds]:
    """Find the folds to train, and give each its share of the minutes."""
    folds = find_folds(training)
    share = 1 - SELECTED_SHARE if training.select else 1.0
    training = training.share_minutes(len(folds.numbers), share)
    if not folds.done:
        load_libraries(training.progress)
    return training, folds


def _make_jobs(
    training: TrainingRequest, folds: RequestedFolds, place: torch.device, listeners: Listeners, clock: Clock
) -> list[FoldJob]:
    """Settle the plan, say what it takes, and write its page before the first fold begins."""
    run, progress, request, numbers = training.run, training.progress, training.request, folds.numbers
    # again, now that they are held: another process may have trained them
    begun_folds.require_unstarted(run, numbers, training.resume, training.fold)
    found = folds.found
    made = preparation.settle_plan(
        run, found.fingerprint, folds.splits, request, place, progress, training.start, numbers
    )
    first = settle_first_plan(run, made, found.fingerprint, request, place, progress)
    require_trainable(made, first)
    run.note_data(training.data)
    found.known.write(run.known_cases)
    if not folds.done:
        _announce(training, folds, made, first, place, clock)
    training.note_start(made, folds.list_held_out())
    return [
        FoldJob(found.dataset, made, split, run, number, place, progress, listeners)
        for number, split in zip(numbers, folds.list_splits(), strict=True)
    ]


def _announce(
    training: TrainingRequest, folds: RequestedFolds, made: Plan, first: Plan | None, place: torch.device, clock: Clock
) -> None:
    """Say what the training takes, and write the page of its plan if no fold has begun."""
    run, progress, numbers = training.run, training.progress, folds.numbers
    rest, split = find_rest(run, numbers, made, training.request), folds.list_splits()[0]
    planned = preparation.estimate_cost(
        training.data, run, made, split, folds=len(numbers), rest=rest, device=place, first=first
    )
    progress.note(planned.summarize(find_end(rest, made.train.minutes, len(numbers), clock)))
    if not any(map(run.has_started, numbers)):
        progress.detail(describe_plan(made))
        if not run.started_folds() and not has_plan_page(run, made):
            make_plan_page(run, folds.found, folds.splits, planned, progress)


def _train_folds(jobs: Sequence[FoldJob], clock: Clock, training: TrainingRequest) -> list[TrainedFold]:
    """Train folds one after the other; the time that is left is shared by those to come."""
    more = training.addition
    minutes, folds = more.minutes if more else jobs[0].plan.train.minutes, []
    for number, job in enumerate(jobs):
        time_s = clock.share(minutes, number=number, parts=len(jobs))
        folds.append(train_and_measure(job, time_s, training.resume, len(jobs) - number - 1, more))
    return folds
