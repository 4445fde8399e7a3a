"""One fold of a run: what it is trained with, and its training, made ready."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from unetpp.data.folds import Split
from unetpp.data.store import StoredCase, store_cases
from unetpp.layouts.dataset import Case, Dataset
from unetpp.measure.growing_views import GrowingViews
from unetpp.measure.validation import DepthValidation, choose_evenly, count_tiles
from unetpp.model.build import make_grid
from unetpp.plan import Plan
from unetpp.progress import Progress, Stage
from unetpp.results import TrainedFold
from unetpp.run_folder import GROWING, FoldName, RunFolder
from unetpp.runtime.ranks import Ranks, joined
from unetpp.runtime.stopwatch import measure_load
from unetpp.train.checkpoint import TrainingState
from unetpp.train.listeners import Listeners
from unetpp.train.trainer import FoldTraining
from unetpp.verbs.fold_time import FollowUp, share_time, show_status
from unetpp.verbs.start import recall_start


@dataclass(frozen=True)
class FoldJob:
    """One fold of a run, and what it is trained with."""

    dataset: Dataset
    """All cases."""
    plan: Plan
    split: Split
    run: RunFolder
    fold: FoldName
    device: torch.device
    progress: Progress
    listeners: Listeners
    """They hear the events of the training."""
    title: str = ""
    """Name of the fold in the progress; empty: its number."""
    cache: Path | None = None
    """Folder of the prepared cases; None: that of the run."""
    ranks: Ranks = field(default_factory=joined)
    """The processes that train it together."""

    def stage(self, what: str, unit: str = "") -> Stage:
        """Begin a stage of the progress display."""
        return self.progress.stage(f"{self.title or f'Fold {self.fold}'}: {what}", unit)

    def store_cases(self) -> tuple[list[StoredCase], list[StoredCase]]:
        """Prepare the cases, and return those for training and those for validation."""
        cases = {case.id: case for case in self.dataset.cases}
        used = [cases[name] for name in (*self.split.train, *self.split.validation)]
        stored = store_cases(used, self.plan.data, self.cache or self.run.cache, self.stage("preparing cases", "cases"))
        return stored[: len(self.split.train)], stored[len(self.split.train) :]

    def find_held_out(self) -> list[Case]:
        """Find the validation cases."""
        cases = {case.id: case for case in self.dataset.cases}
        return [cases[name] for name in self.split.validation]


def make_training(
    job: FoldJob,
    cases: tuple[list[StoredCase], list[StoredCase]],
    allowance_s: float | None,
    until: float,
    begun: TrainingState | None,
    later: int,
    done: TrainedFold | None,
) -> tuple[FoldTraining, float | None, FollowUp]:
    """Share the time between training, validations and what follows.

    Args:
        job: the fold.
        cases: its prepared cases, for training and for validation.
        allowance_s: seconds for all of it, if they are limited.
        until: time of `time.monotonic` at which they end.
        begun: position of an earlier training in its schedule.
        later: number of folds that follow.
        done: result of the earlier training if that has ended: then there is a new budget.

    Returns:
        The training, which `followers.train_together` begins, its seconds, and what follows it.
    """
    plan, (training_cases, held_out) = job.plan, cases
    sizes = len(make_grid(plan.model).head_depths(plan.model.deep_supervision)) * len(plan.model.shells)
    tiles, load = count_tiles(held_out, plan.predict), measure_load()
    former_s = (done and done.metrics.scoring_s) or 0.0
    after = FollowUp(tiles, len(held_out), sizes, allowance_s or math.inf, not later, load, former_s)
    validation, rebudget = None, None
    if held_out:
        chosen = choose_evenly(held_out, plan.train.validation_cases)
        validation = DepthValidation(chosen, plan, job.device, training_cases, job.ranks)
    if allowance_s is not None and (done or not begun):
        if validation:
            job.stage("timing a validation")
        rebudget = share_time(until, validation, after)
    if validation and begun and begun.validation_cases:
        validation.keep(begun.validation_cases)
    listen: Callable[..., object] = job.listeners
    if validation and job.ranks.is_first:
        views = GrowingViews(job.run.fold(job.fold) / GROWING, validation.cases[:: job.ranks.size], plan.data)
        validation.show, listen = views.take, views.listen(listen)
    budget_s = rebudget and rebudget(0.0)
    stage = job.stage("training", "steps")
    training = FoldTraining(
        plan,
        training_cases,
        job.run.fold(job.fold),
        device=job.device,
        validate=validation,
        budget_s=budget_s,
        rebudget=rebudget,
        validation_cases=len(validation.cases) if validation else None,
        held_out=len(held_out),
        weights=None if begun else recall_start(job.run, plan),
        show=show_status(stage, lambda: after.reserved_s((validation and validation.tile_s) or 0.0), later),
        listen=listen,
        ranks=job.ranks,
    )
    return training, budget_s, after
