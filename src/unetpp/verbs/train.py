"""The verb `train`: from a data set to a measured run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack, overload

from unetpp.console import shows_progress
from unetpp.data_plan import Resolution
from unetpp.errors import UsageError
from unetpp.parts import Part
from unetpp.progress import ShowProgress, Silence
from unetpp.results import Planned, Prepared, Run
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
from unetpp.verbs.launch import with_ranks

if TYPE_CHECKING:  # they import torch
    from unetpp.planning.planner import Start
    from unetpp.verbs.training_request import TrainingRequest


class TrainOptions(TypedDict, total=False):
    """Arguments of `train` that do not change the type of its result."""

    from_: AnyPath | None
    replay: bool
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
    replay: bool = False,
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
        replay: With `from_`: mix the cases of DATA, such as corrections, with those that the model has learned from,
            200 at most, and validate on those of its run; a quarter of the patches at least come from DATA. The
            classes are those of the model. The mixture is a data set in RUN/mixture.
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
    from unetpp.verbs import begun_folds
    from unetpp.verbs.prepare_part import prepare_part
    from unetpp.verbs.request import read_request

    progress = progress or Silence()
    request = read_request(minutes, epochs, set, seed, resolution, vram_gb)
    begun_folds.check_fold(fold)
    _require_selectable(select, fold, None if dry_run or part is not None else cluster)
    start = _find_start(from_)
    require_data(data)
    run = choose_run(out, name_data(data), progress, lambda run: not begun_folds.has_started(run, fold), resume)
    begun_folds.require_ready(run, fold, resume, request.adds)
    if replay and add_cases:
        action = "Train a model of all of them with another `out`."
        raise UsageError("replay", "`add_cases`", "the cases that the run was planned with", action)
    if replay:
        from unetpp.verbs.mixture import add_known

        data, request = add_known(Path(data), run, start, request, dry_run, progress)
    if part is not None:
        return prepare_part(Path(data), run, Part.parse(part), request.settings, progress)
    if resume and not run.plan.exists():
        progress.note(f"Nothing to resume in {run.path}: a new training begins.")
    from unetpp.verbs.training_request import TrainingRequest  # imports torch

    training = TrainingRequest(
        data=Path(data),
        run=run,
        request=request,
        fold=fold,
        start=start,
        resume=resume,
        add_cases=add_cases,
        no_cache=no_cache,
        select=select,
        device=device,
        log_to=log_to,
        cluster=cluster,
        started=started,
        progress=progress,
    )
    return _preview(training) if dry_run else _train(training)


def _require_selectable(select: bool, fold: int | str, cluster: str | None) -> None:
    """Refuse to select among what will not be there; raises UsageError."""
    if select and fold != "all":
        raise UsageError("select", f"`fold={fold}`", '`fold="all"`: folds to choose by', "Change one of the two.")
    if select and cluster is not None:
        action = "Run `unetpp select` when the folds are trained."
        raise UsageError("select", "a training on a `cluster`", "one without it", action)


def _find_start(from_: AnyPath | None) -> Start | None:
    if from_ is None:  # nothing heavy is imported
        return None
    from unetpp.verbs.start import find_start

    return find_start(from_)


def _preview(training: TrainingRequest) -> Planned:
    from unetpp.cluster.opening import show_script

    if script := show_script(training.cluster):
        training.progress.note(f"Script of each job:\n{script}")
    from unetpp.verbs.training_here import preview

    return preview(training)


def _train(training: TrainingRequest) -> Run:
    if training.cluster is not None:
        from unetpp.verbs.cluster_training import train_on_cluster

        return train_on_cluster(training.cluster, training)
    from unetpp.verbs.training_here import train_here

    return train_here(training)
