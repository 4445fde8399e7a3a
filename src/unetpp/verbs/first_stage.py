"""The first stage of a cascade: two networks at low resolution for each fold, and what they find in its cases.

The training cases are divided into halves. Each network trains on one half, so that the other half is segmented by a
network that has not seen it; validation cases and new images are segmented by both, averaged.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch

from unetpp.data.case_files import open_case_image
from unetpp.data.first_stage import place_segmentation
from unetpp.data.folds import Split, make_splits, read_splits, write_splits
from unetpp.data.preprocess import choose_orientation
from unetpp.data.store import StoredCase, write_segmentation
from unetpp.errors import UsageError
from unetpp.files import digest_file, hold_lock, write_text
from unetpp.infer.first_stage import COMPARED, NETWORKS
from unetpp.infer.predictor import make_predictor
from unetpp.plan import Plan, read_plan
from unetpp.planning.fingerprint import Fingerprint
from unetpp.planning.stages import FIRST_SHARE
from unetpp.progress import Progress
from unetpp.run_folder import CHECKPOINT, FIRST_STAGE, LOCK, MODEL, RunFolder
from unetpp.train.checkpoint import read_training_state
from unetpp.train.listeners import Listeners
from unetpp.verbs.fold_job import FoldJob, make_training
from unetpp.verbs.followers import train_together
from unetpp.verbs.preparation import create_plan
from unetpp.verbs.request import Request
from unetpp.verbs.splits import SPLIT_SEED

OF_SECOND = ("data.resolution", "data.spacing_mm", "data.resampling")
"""Settings that are those of the second stage alone."""


def settle_first_plan(
    folder: RunFolder,
    plan: Plan,
    fingerprint: Fingerprint,
    request: Request,
    device: torch.device,
    progress: Progress,
    write: bool = True,
    anew: bool = False,
) -> Plan | None:
    """Read the plan of the first stage of a cascade, or make it; None for a plan of one stage.

    Args:
        folder: run folder.
        plan: of the second stage.
        fingerprint: the data.
        request: settings of the user.
        device: where training runs.
        progress: shows the measuring of the machine.
        write: write it; of several processes that begin at once, one makes it.
        anew: make it, whatever is there.

    Raises:
        UsageError: it is of other classes or images than the second.
        PlanError: it cannot be used.
    """
    if plan.data.resolution != "cascade":
        return None
    with hold_lock(folder.path / LOCK, wait=True) if write else nullcontext():
        if folder.first_plan.exists() and not anew:
            first = _reuse_first_plan(folder, plan, request)
        else:
            first = create_plan(fingerprint, _ask_for_low(request, plan), device, progress, is_first=True)
        _require_alike(folder, first, plan)
        if write:
            write_text(folder.first_plan, first.to_json())
    return first


def _reuse_first_plan(folder: RunFolder, plan: Plan, request: Request) -> Plan:
    """Read the plan of the first stage; before any training its length follows that of the second."""
    first = read_plan(folder.first_plan)
    if (request.minutes or request.epochs) and not folder.started_folds():
        return first.changed({"train.minutes": _share_minutes(plan), "train.epochs": plan.train.epochs})
    return first


def _ask_for_low(request: Request, plan: Plan) -> Request:
    """Return what the user asked for, of a network at low resolution in its share of the time."""
    settings = {key: value for key, value in request.settings.items() if key not in OF_SECOND}
    minutes = _share_minutes(plan)
    epochs = None if minutes else request.epochs
    return replace(request, settings={**settings, "data.resolution": "low"}, minutes=minutes, epochs=epochs)


def _share_minutes(plan: Plan) -> float | None:
    """Return the minutes of each network of the first stage, given the plan of the second; None: not limited."""
    return plan.train.minutes and plan.train.minutes * FIRST_SHARE / NETWORKS


def _require_alike(folder: RunFolder, first: Plan, plan: Plan) -> None:
    for name in COMPARED:
        if getattr(first.data, name) != getattr(plan.data, name):
            got = f"data.{name} {getattr(first.data, name)}"
            action = "Change one of the two, or delete the file to have it made anew."
            raise UsageError(folder.first_plan, got, f"{getattr(plan.data, name)}, as in {folder.plan}", action)


def add_first_stage(
    job: FoldJob, training: Sequence[StoredCase], held_out: Sequence[StoredCase], seconds: float | None
) -> tuple[list[StoredCase], list[StoredCase]]:
    """Train the first stage of a fold, unless that is done, and store what it finds in the prepared cases.

    Args:
        job: the fold of the second stage.
        training: its prepared training cases.
        held_out: its prepared validation cases.
        seconds: time for the training of the networks that have not begun; None: the epochs of their plan.

    Returns:
        The prepared cases, with the segmentation of networks that have not trained on them.

    Raises:
        Interrupted: stopped by a signal; what is trained and stored stays.
        DataError: a case that cannot be read, or too few to divide.
    """
    first = job.run.first_stage(job.fold)
    splits = _settle_folder(job, first)
    plan = read_plan(first.plan)
    for number, split in enumerate(splits):
        half = replace(
            job,
            plan=plan,
            split=split,
            run=first,
            fold=number,
            listeners=Listeners(None, first.path, job.progress.note),
            title=f"Fold {job.fold}, first stage, network {number + 1} of {len(splits)}",
            cache=job.run.cache / FIRST_STAGE,
        )
        _train_half(half, None if seconds is None else seconds / len(splits))
    done = _segment(job, [*training, *held_out], first, splits)
    return done[: len(training)], done[len(training) :]


def _settle_folder(job: FoldJob, first: RunFolder) -> list[Split]:
    """Make the folder of the first stage a run of its own, and return its halves; what is there stays."""
    if not first.plan.exists():
        cases = {case.id: replace(case, split=None) for case in job.dataset.cases}
        halves = make_splits([cases[name] for name in job.split.train], folds=NETWORKS, seed=SPLIT_SEED)
        write_splits(first.splits, halves)
        for source, target in ((job.run.data, first.data), (job.run.fingerprint, first.fingerprint)):
            if source.is_file():
                shutil.copyfile(source, target)
        write_text(first.plan, read_plan(job.run.first_plan).to_json())  # the last one
    return read_splits(first.splits)


def _train_half(job: FoldJob, seconds: float | None) -> None:
    """Train or continue a network of the first stage; it is validated on the other half, but not measured further."""
    folder = job.run.fold(job.fold)
    begun = read_training_state(folder / CHECKPOINT)
    if (folder / MODEL).exists() and (begun is None or begun.finished):
        return
    until = math.inf if seconds is None else time.monotonic() + seconds
    training, _, _ = make_training(job, job.store_cases(), seconds, until, begun, 0, None)
    result = train_together(training, resume=True)
    if result.best_dice is not None:
        job.progress.note(f"{job.title}: Dice {result.best_dice:.3f} on the other half, in {result.steps:,} steps")


def _segment(job: FoldJob, stored: Sequence[StoredCase], first: RunFolder, splits: Sequence[Split]) -> list[StoredCase]:
    """Segment each case with the networks that have not trained on it, unless that is done."""
    unseen: dict[tuple[int, ...], list[str]] = {}
    for each in stored:
        networks = tuple(number for number, split in enumerate(splits) if each.id not in split.train)
        unseen.setdefault(networks, []).append(each.id)
    files = {number: first.fold(number) / MODEL for number in range(len(splits))}
    digests = {number: digest_file(file)[:8] for number, file in files.items()}
    names: Mapping[str, str] = {
        case: f"first-{'-'.join(digests[number] for number in networks)}"
        for networks, cases in unseen.items()
        for case in cases
    }
    done = {each.id: replace(each, first_stage=names[each.id]) for each in stored}
    left = {id for id, each in done.items() if not each.has(each.first_stage)}
    cases, show = {case.id: case for case in job.dataset.cases}, job.stage("segmenting with the first stage", "cases")
    for networks, ids in unseen.items():
        todo = [name for name in ids if name in left]
        if not todo:
            continue
        predictor = make_predictor([files[each] for each in networks], str(first.path), job.device, "torch")
        for name in todo:
            (found,) = predictor.predict_case(cases[name]).values()
            orientation = choose_orientation(open_case_image(cases[name], job.plan.data).geometry, job.plan.data)
            grid = done[name].label().shape
            write_segmentation(done[name], place_segmentation(found.segmentation, orientation, grid))
            left.remove(name)
            show(len(stored) - len(left), len(stored))
    return list(done.values())
