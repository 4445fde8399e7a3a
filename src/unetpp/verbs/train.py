"""The verb `train`: from a data set to a measured run."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack, overload

from unetpp.console import shows_progress
from unetpp.data_plan import Resolution
from unetpp.errors import Interrupted, UnetppError, UsageError
from unetpp.parts import Part
from unetpp.progress import Progress, ShowProgress, Silence
from unetpp.results import NEW_IMAGES, Planned, Prepared, Run, TrainedFold, describe_plan
from unetpp.run_folder import NO_VALIDATION, FoldName, RunFolder
from unetpp.verbs.arguments import (
    AnyPath,
    Epochs,
    LogTo,
    Minutes,
    Settings,
    choose_run,
    name_data,
    require_data,
)
from unetpp.verbs.clean import clean
from unetpp.verbs.launch import with_ranks
from unetpp.verbs.report import write_page
from unetpp.words import write_command

if TYPE_CHECKING:  # they import torch
    from unetpp.plan import Plan
    from unetpp.planning.planner import Start
    from unetpp.verbs.fold_job import FoldJob
    from unetpp.verbs.fold_time import Clock
    from unetpp.verbs.request import Request

SELECTED_FOLDER = "selected"
"""Folder of a run into which `select=True` writes."""
SELECTED_SHARE = 0.1
"""Fraction of the minutes that it takes."""
FEW_MINUTES = 1.0
"""Minutes of a fold below which a note says that they are few."""


class TrainOptions(TypedDict, total=False):
    """Arguments of `train` that do not change the type of its result."""

    from_: AnyPath | None
    minutes: Minutes | None
    epochs: Epochs | None
    fold: int | str
    seed: int | None
    resolution: Resolution | None
    device: str
    vram_gb: float | None
    resume: bool
    add_cases: bool
    no_cache: bool
    select: bool
    set: Settings | None
    log_to: LogTo | None
    cluster: str | None
    progress: ShowProgress


@overload
def train(
    data: AnyPath, out: AnyPath | None = None, *, dry_run: Literal[False] = False, **options: Unpack[TrainOptions]
) -> Run: ...


@overload
def train(
    data: AnyPath, out: AnyPath | None = None, *, dry_run: Literal[True], **options: Unpack[TrainOptions]
) -> Planned: ...


@overload
def train(data: AnyPath, out: AnyPath | None = None, *, part: str, **options: Unpack[TrainOptions]) -> Prepared: ...


@with_ranks
@shows_progress
def train(
    data: AnyPath,
    out: AnyPath | None = None,
    *,
    from_: AnyPath | None = None,
    minutes: Minutes | None = None,
    epochs: Epochs | None = None,
    fold: int | str = 0,
    seed: int | None = None,
    resolution: Resolution | None = None,
    device: str = "auto",
    vram_gb: float | None = None,
    resume: bool = False,
    add_cases: bool = False,
    no_cache: bool = False,
    select: bool = False,
    set: Settings | None = None,
    log_to: LogTo | None = None,
    cluster: str | None = None,
    part: str | None = None,
    dry_run: bool = False,
    progress: ShowProgress = None,
) -> Run | Planned | Prepared:
    """Check the data, plan, train, then score and time every depth.

    Every depth is measured on the validation cases. A plan.json in the run folder is reused, with `set` applied.

    Args:
        data: The folder with your images and masks, a data set in Decathlon, nnU-Net or Kaggle layout, or a CSV table.
        out: Run folder; by default runs/NAME of the data: the newest one with `resume` or where this fold is not
            trained yet, else a new one with a number.
        from_: Model whose weights training starts from: a run folder, a model file, or hf://OWNER/NAME. Its network is
            taken over; other classes, channels and settings are fine: what fits is taken, what does not is listed.
        minutes: Wall time of the whole command, shared by the folds; plan and schedule fit into it. Scores and costs
            take a tenth at most: `unetpp report` measures what does not fit. +10 with `resume` trains a finished run 10
            minutes longer. Without `minutes` and `epochs`: 100 epochs.
        epochs: Length of the training in epochs, instead of `minutes`; +5 with `resume` adds 5.
        fold: Fold to train: 0, 1, ...; all: five models, each validated on its fifth of the cases (in nnU-Net, all is
            what is none here); none: one model of all cases, without validation and so without scores.
        seed: Seed of weights and patches; the folds do not depend on it.
        resolution: full, low or cascade, as of `unetpp plan`; a cascade trains its first stage in 40 % of the minutes.
        device: auto, cpu, cuda or cuda:K.
        vram_gb: Memory of the GPU in GB: patch, batch, depth and width grow until training takes 85 % of it. For a GPU
            that is not in this machine only with `dry_run`, or with `plan`.
        resume: Continue an interrupted run exactly where it stopped.
        add_cases: Let cases that came to DATA since the run was planned train too; validation stays as it is.
        no_cache: Remove the prepared cases at the end, as `unetpp clean` does, unless another fold is being trained.
        select: With `fold="all"`: then choose size, mirroring, post-processing and temperature, as `unetpp select`
            does, into RUN/selected; a tenth of the minutes is for that.
        set: Settings of the plan, as section.key=value, such as train.batch=4.
        log_to: Also send loss, learning rate, speed and Dice to tensorboard[:FOLDER], wandb[:PROJECT] or mlflow[:URI]
            (extras of these names). In Python also to a function, which is called with each event as a dictionary.
        cluster: Read and prepare the cases on workers of Dask, as `unetpp predict` does, and train the folds there side
            by side, never two on one device: on 5 devices each of 5 folds has all the minutes, on 2 a third of them.
        part: Prepare a share of the cases, as 2/8, the second of eight, for arrays of jobs, and train nothing; the plan
            is there already, by `unetpp plan`.
        dry_run: Report the time and memory that training would take, and the script of a job of `cluster`; write
            nothing.

    Returns:
        The trained run; with `dry_run=True` the plan and its costs; with `part` what was prepared.

    Raises:
        DataError: all problems with the data, before anything is trained.
        UsageError: arguments that contradict each other, or a fold that is trained already.
        Interrupted: Ctrl-C or SIGTERM, or a rank of several is lost; the work done so far is saved.

    Example:
        unetpp.train("data/nuclei", "runs/nuclei", minutes=20)
    """
    started = time.monotonic()  # importing torch takes seconds
    from unetpp.cluster.opening import show_script
    from unetpp.verbs import begun_folds
    from unetpp.verbs.prepare_part import prepare_part
    from unetpp.verbs.request import read_request

    progress = progress or Silence()
    request = read_request(minutes, epochs, set, seed, resolution, vram_gb)
    begun_folds.check_fold(fold)
    if select and fold != "all":
        raise UsageError("select", f"`fold={fold}`", '`fold="all"`: folds to choose by', "Change one of the two.")
    start = _find_start(from_)
    require_data(data)
    folder = choose_run(out, name_data(data), progress, lambda run: not begun_folds.has_started(run, fold), resume)
    begun_folds.require_ready(folder, fold, resume, request.adds)
    if part is not None:
        return prepare_part(Path(data), folder, Part.parse(part), request.settings, progress)
    if select and cluster is not None and not dry_run:
        action = "Run `unetpp select` when the folds are trained."
        raise UsageError("select", "a training on a `cluster`", "one without it", action)
    if resume and not folder.plan.exists():
        progress.note(f"Nothing to resume in {folder.path}: a new training begins.")
    if cluster is not None and not dry_run:
        options = request, fold, start, resume, add_cases, device, log_to
        return _train_on_cluster(cluster, Path(data), folder, *options, no_cache, started, progress)
    if dry_run and (script := show_script(cluster)):
        progress.note(f"Script of each job:\n{script}")
    from unetpp.runtime.device import keep_freed_memory
    from unetpp.train.listeners import Listeners
    from unetpp.verbs import preparation
    from unetpp.verbs.first_stage import settle_first_plan
    from unetpp.verbs.fold_job import FoldJob
    from unetpp.verbs.fold_time import Clock, load_libraries
    from unetpp.verbs.followers import require_patches
    from unetpp.verbs.plan_page import has_plan_page, make_plan_page
    from unetpp.verbs.rest import find_end, find_rest
    from unetpp.verbs.splits import choose_split, find_splits

    clock = Clock(started)
    listeners = Listeners(log_to, folder.path, progress.note)
    keep_freed_memory()
    place, timed_on = preparation.choose_place(device, request.vram_gb)
    if timed_on is None and not dry_run:
        action = "Make the plan here with `unetpp plan`, and train where the GPU is."
        raise UsageError("vram_gb", "no GPU in this machine", "one to train on", action)
    found = preparation.read_data(Path(data), request.settings, progress, folder)
    dataset, fingerprint = found.dataset, found.fingerprint
    splits = find_splits(folder, dataset, progress, add_cases, validated=fold != NO_VALIDATION)
    numbers = begun_folds.parse_folds(fold, len(splits))
    done = begun_folds.are_done(folder, numbers, resume, request.adds, add_cases)
    if len(numbers) > 1 and not resume:
        progress.note("What nnU-Net calls fold all, one model of all cases, is fold none here.")
    request = _share_minutes(request, len(numbers), progress, 1 - SELECTED_SHARE if select else 1.0)
    if not done:
        load_libraries(progress)
    if dry_run:
        made = preparation.reuse_plan(folder, fingerprint, request, place, progress, start)
        progress.detail(describe_plan(made))
        split = choose_split(splits, numbers[0])
        _note_start(start, made, split.validation, Path(data), folder, progress)
        rest = find_rest(folder, numbers, made, request)
        if not done and timed_on is not None:
            progress.stage("Measuring a training step")
        first = settle_first_plan(folder, made, fingerprint, request, place, progress, write=False)
        costs = timed_on, len(numbers), rest, place, first
        planned = preparation.estimate_cost(Path(data), folder, made, split, *costs)
        longer = _write_longer(Path(data), folder, fold, numbers) if done else ""
        return replace(planned, written=False, longer=longer)
    try:
        with begun_folds.hold_folds(folder, numbers):
            begun_folds.require_unstarted(folder, numbers, resume, fold)  # again: another process may have trained
            made = preparation.settle_plan(folder, fingerprint, splits, request, place, progress, start, numbers)
            first = settle_first_plan(folder, made, fingerprint, request, place, progress)
            require_patches(made, first)
            folder.note_data(Path(data))
            jobs = [
                FoldJob(dataset, made, choose_split(splits, number), folder, number, place, progress, listeners)
                for number in numbers
            ]
            if not done:
                rest, split = find_rest(folder, numbers, made, request), jobs[0].split
                planned = preparation.estimate_cost(
                    Path(data), folder, made, split, folds=len(jobs), rest=rest, device=place, first=first
                )
                progress.note(planned.summarize(find_end(rest, made.train.minutes, len(numbers), clock)))
            if not any(map(folder.has_started, numbers)):
                progress.detail(describe_plan(made))
                if not folder.started_folds() and not has_plan_page(folder, made):
                    make_plan_page(folder, found, splits, planned, progress)
            held_out = {case for job in jobs for case in job.split.validation}
            _note_start(start, made, held_out, Path(data), folder, progress)
            folds = _train_folds(jobs, clock, resume, request if request.adds else None)
        selected = None
        if select:
            minutes = request.minutes if request.adds else made.train.minutes
            until = started + 60 * minutes * len(numbers) / (1 - SELECTED_SHARE) if minutes else math.inf
            selected = _try_select(folder, str(place), progress, until)
        if no_cache:
            _try_clean(folder.path, progress)
        run = _summarize(folder, folds, _try_report(folder.path, progress), clock.seconds())
        longer = _write_longer(Path(data), folder, fold, numbers) if done else ""
        if selected:
            command = write_command("predict", selected, NEW_IMAGES, "--out", "predictions")
            run = replace(run, selected=selected, prediction=command)
        return replace(run, trackers=listeners.commands, longer=longer)
    except KeyboardInterrupt:  # before or after the steps of training, which handle signals themselves
        raise Interrupted(_describe_stop(Path(data), folder, fold, numbers)) from None
    except Interrupted as error:
        raise Interrupted(f"{error} {_describe_next(Path(data), folder, fold)}") from None


def _share_minutes(
    request: Request, folds: int, progress: Progress, share: float = 1.0, what: str = "folds"
) -> Request:
    """Divide the minutes, or the share of them that training has, among the folds, or rounds of them."""
    if not request.minutes:
        return request
    minutes = share * request.minutes / folds
    if folds > 1:
        progress.note(f"The minutes are divided among {folds} {what}: {minutes:.3g} for each.")
    if minutes < FEW_MINUTES and not request.adds:
        progress.note(f"note: {60 * minutes:.0f} seconds for a fold are hardly enough to learn anything")
    return replace(request, minutes=minutes)


def _note_start(
    start: Start | None, plan: Plan, held_out: Collection[str], data: Path, folder: RunFolder, progress: Progress
) -> None:
    """Say from which weights a training starts."""
    from unetpp.verbs.start import describe_start

    if not start and plan.train.start:
        progress.note(f"Starts from {plan.train.start.partition(',')[0]}, as the plan in {folder.plan} says.")
    for text in describe_start(start, plan, held_out, data) if start else []:
        progress.note(text)


def _describe_stop(data: Path, folder: RunFolder, fold: int | str, numbers: Sequence[FoldName]) -> str:
    """Say what there is after Ctrl-C outside the steps of training."""
    if any(map(folder.has_started, numbers)):
        return f"Stopped; the work so far is saved. {_describe_next(data, folder, fold)}"
    written = f"the plan is in {folder.plan}" if folder.plan.exists() else "nothing was written"
    return f"Stopped before training began; {written}. Begin again with the same arguments."


def _describe_next(data: Path, folder: RunFolder, fold: int | str) -> str:
    return f"Continue: {folder.write_resume(fold, str(data))}"


def _write_longer(data: Path, folder: RunFolder, fold: int | str, numbers: Sequence[FoldName]) -> str:
    """Write the command that trains a finished run longer: that of its verdict, if it wants more."""
    from unetpp.measure.verdict import judge_run, suggest_command
    from unetpp.verbs.begun_folds import MORE_MINUTES

    verdict = judge_run(folder, numbers)
    if verdict and verdict.more_minutes is not None:
        return suggest_command(verdict, folder.path, folder.recall_data())
    return f"{folder.write_resume(fold, str(data))} --minutes +{MORE_MINUTES}"


def _find_start(from_: AnyPath | None) -> Start | None:
    if from_ is None:  # nothing heavy is imported
        return None
    from unetpp.verbs.start import find_start

    return find_start(from_)


def _train_folds(jobs: Sequence[FoldJob], clock: Clock, resume: bool, more: Request | None) -> list[TrainedFold]:
    """Train folds one after the other; the time that is left is shared by those to come."""
    from unetpp.verbs.fold import train_and_measure

    minutes, folds = more.minutes if more else jobs[0].plan.train.minutes, []
    for number, job in enumerate(jobs):
        time_s = clock.share(minutes, number=number, parts=len(jobs))
        folds.append(train_and_measure(job, time_s, resume, len(jobs) - number - 1, more))
    return folds


def _train_on_cluster(
    cluster: str,
    data: Path,
    folder: RunFolder,
    request: Request,
    fold: int | str,
    start: Start | None,
    resume: bool,
    add_cases: bool,
    device: str,
    log_to: LogTo | None,
    no_cache: bool,
    started: float,
    progress: Progress,
) -> Run:
    """Train folds on the workers of a cluster; see `unetpp.verbs.cluster_training`."""
    from unetpp.cluster.opening import open_engine
    from unetpp.verbs import begun_folds, preparation
    from unetpp.verbs.cluster_training import ClusterTraining
    from unetpp.verbs.fold_time import Clock
    from unetpp.verbs.plan_page import has_plan_page, make_plan_page
    from unetpp.verbs.splits import choose_split, find_splits

    numbers: list[FoldName] = []
    try:
        with open_engine(cluster, progress) as engine:
            found = preparation.read_data(data, request.settings, progress, folder, engine)
            splits = find_splits(folder, found.dataset, progress, add_cases, validated=fold != NO_VALIDATION)
            numbers += begun_folds.parse_folds(fold, len(splits))
            begun_folds.are_done(folder, numbers, resume, request.adds, add_cases)
            training = ClusterTraining(engine, folder, found.dataset, splits, numbers, device, progress)
            rounds = training.count_rounds()
            request = _share_minutes(request, rounds, progress, what="rounds of folds side by side")
            with training.hold():
                begun_folds.require_unstarted(folder, numbers, resume, fold)
                made = training.make_plan(data, found.fingerprint, request, start)
                folder.note_data(data)
                progress.note(made.planned.summarize(None))
                if not folder.started_folds() and not has_plan_page(folder, made.plan):
                    make_plan_page(folder, found, splits, made.planned, progress)
                held_out = {case for number in numbers for case in choose_split(splits, number).validation}
                _note_start(start, made.plan, held_out, data, folder, progress)
                training.prepare(made.plan)
                more = request if request.adds else None
                folds = training.train(made.plan, Clock(started), rounds, log_to, more)
    except KeyboardInterrupt:
        raise Interrupted(_describe_stop(data, folder, fold, numbers)) from None
    except Interrupted as error:
        raise Interrupted(f"{error} {_describe_next(data, folder, fold)} --cluster {cluster}") from None
    if no_cache:
        _try_clean(folder.path, progress)
    return _summarize(folder, folds, _try_report(folder.path, progress), Clock(started).seconds())


def _summarize(folder: RunFolder, folds: Sequence[TrainedFold], report: Path | None, seconds: float) -> Run:
    """Pool the scores of several folds, and say how the training stands and what to run next."""
    from unetpp.measure.pooled import pool_folds, pool_run
    from unetpp.measure.verdict import judge_run, suggest_command
    from unetpp.results import suggest_prediction

    pooled = pool_folds([fold.metrics for fold in folds]) if len(folds) > 1 else None
    numbers = [fold.fold for fold in folds]
    verdict, command = judge_run(folder, numbers), ""
    if verdict and not verdict.is_settled:
        command = suggest_command(verdict, folder.path, folder.recall_data())
    prediction = suggest_prediction(folder.path, pool_run(folder))
    return Run(folder.path, tuple(folds), report, seconds, pooled, verdict, command, prediction=prediction)


def _try_select(run: RunFolder, device: str, progress: Progress, until: float) -> Path | None:
    """Choose among the sizes of all folds after a training; whatever fails, the training is done."""
    from unetpp.deploy.select.runs import open_runs
    from unetpp.verbs.select import choose

    out = run.path / SELECTED_FOLDER
    try:
        found = choose(open_runs([run.path]), out, None, device, progress, until=until)
    except Exception as error:
        progress.note(f"note: nothing was selected ({error}); `{write_command('select', run.path, '--out', out)}` does")
        return None
    progress.note(found.selection.reason)
    return out


def _try_clean(run: Path, progress: Progress) -> None:
    """Remove the prepared cases after a training; whatever fails, the training is done."""
    try:
        clean(run, progress=progress)
    except UnetppError as error:
        progress.note(f"note: the prepared cases stay ({error})")


def _try_report(run: Path, progress: Progress) -> Path | None:
    """Write the report of a training; whatever fails, the training is done."""
    try:
        written = write_page(run, progress)
    except Exception as error:
        progress.note(f"note: no report was written ({error}); `{write_command('report', run)}` writes it")
        return None
    for text in written.left_out:
        progress.note(f"note: {text} cannot be read; the report leaves it out")
    return written.report
