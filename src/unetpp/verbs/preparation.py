"""Preparation of a training: read the data, create or reuse the plan, draw the splits.

Nothing is written until everything was checked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch

from unetpp.cluster.engine import HERE, Engine
from unetpp.data.folds import Split, write_splits
from unetpp.data.inspect import Inspection, inspect_dataset
from unetpp.data.known_cases import KnownCases
from unetpp.data.parts import split_dataset
from unetpp.errors import DataError, PlanError, UsageError
from unetpp.files import hold_lock, write_text
from unetpp.infer.memory import estimate_prediction_bytes
from unetpp.json_files import format_json
from unetpp.labels.counts import count_classes
from unetpp.layouts.cases import find_cases
from unetpp.layouts.dataset import Dataset
from unetpp.model.build import make_grid
from unetpp.model.weight_count import count_parameters
from unetpp.plan import SET_BY_USER, ModelPlan, Plan, ReadPlan, TrainPlan, read_plan
from unetpp.plan_text import SCHEMA_FILE, make_schema
from unetpp.planning import rules
from unetpp.planning.fingerprint import Fingerprint, make_fingerprint, resolve_labels
from unetpp.planning.planner import Start, make_plan
from unetpp.planning.room import is_elsewhere
from unetpp.progress import Progress
from unetpp.results import Planned
from unetpp.run_folder import LOCK, FoldName, RunFolder
from unetpp.runtime.device import choose_device
from unetpp.settings import parse_settings, validate
from unetpp.sizes import find_size
from unetpp.train.checkpoint import CHOOSE_SIZE
from unetpp.train.memory import SHORT_MINUTES, estimate_training_bytes
from unetpp.train.speed import measure_mean_step_seconds
from unetpp.verbs.request import Request, read_reading
from unetpp.verbs.rest import Rest
from unetpp.verbs.start import copy_start
from unetpp.words import list_some

CPU = torch.device("cpu")
_INSTEAD = {
    "train.minutes": 'To train finished folds longer: `resume=True` with a plus, such as `minutes="+10"`.',
    "train.epochs": 'To train finished folds longer: `resume=True` with a plus, such as `epochs="+5"`.',
    "predict.depth": f"Leave it out. {CHOOSE_SIZE}",
    "predict.size": f"Leave it out. {CHOOSE_SIZE}",
}
"""Advice on a setting that differs from the plan of a run."""


class ReadData(NamedTuple):
    """A data set, what is known of it, and what its cases show."""

    dataset: Dataset
    fingerprint: Fingerprint
    inspection: Inspection
    known: KnownCases
    """The cases that were read, for the commands that follow."""

    def list_classes(self) -> dict[str, tuple[int, ...]]:
        """List the classes that each case has, for folds in which all of them validate."""
        facts, meaning = self.inspection.facts, self.inspection.meaning
        counts = {fact.id: count_classes(fact.label, meaning) for fact in facts if fact.label is not None}
        return {id: tuple(number for number, voxels in enumerate(found) if voxels) for id, found in counts.items()}


def read_data(
    path: Path,
    settings: Mapping[str, Any],
    progress: Progress,
    folder: RunFolder | None = None,
    engine: Engine = HERE,
    known: KnownCases | None = None,
) -> ReadData:
    """Find and read all cases.

    Args:
        path: the data set.
        settings: settings of the user; those of `ReadPlan` say how files are read.
        progress: shows the files.
        folder: run folder, whose plan says how files are read where the user does not; None: there is no plan yet.
        engine: where they are read.
        known: cases that a run has read before; None: those of `folder`.

    Returns:
        The data set, what is known of it, and what its cases show.

    Raises:
        DataError: all problems at once.
        PlanError: a wrong setting.
    """
    reading = read_reading({**(recall_reading(folder) if folder else {}), **settings})
    dataset = split_dataset(find_cases(path, tolerant=True), reading)
    known = known or KnownCases(folder.known_cases if folder else None)
    inspection = inspect_dataset(dataset, reading, progress.stage("Reading every file", "cases"), engine, known)
    if inspection.problems:
        raise DataError(inspection.problems)
    for note in inspection.notes:
        progress.note(f"note: {note}")
    as_stored = "data.orientation" in settings and parse_settings(Plan, settings)["data.orientation"] is None
    return ReadData(dataset, make_fingerprint(dataset, inspection, may_turn=not as_stored), inspection, known)


def recall_reading(folder: RunFolder) -> dict[str, Any]:
    """Recall how files are read, where the user said it when the plan of a run was made.

    Other values of a plan were found in its data: they must not decide how other data is read.

    Raises:
        PlanError: a plan that cannot be used.
    """
    if not folder.plan.exists():
        return {}
    plan = read_plan(folder.plan)
    names = [name for name in ReadPlan.model_fields if plan.reasons.get(f"data.{name}") == SET_BY_USER]
    return {f"data.{name}": value for name, value in plan.data.model_dump(mode="json", include=set(names)).items()}


class Place(NamedTuple):
    """The device that is planned for."""

    device: torch.device
    timed_on: torch.device | None
    """The same; None: it is in another machine, where nothing can be timed from here."""


def choose_place(name: str, vram_gb: float | None) -> Place:
    """Choose the device to plan for: with `vram_gb` a GPU, which need not be in this machine.

    Raises:
        UsageError: no such device, or `vram_gb` for a processor.
    """
    if vram_gb is not None and not name.startswith("cuda") and name != "auto":
        action = "Leave out one of the two."
        raise UsageError("vram_gb", f'{vram_gb:g} with `device="{name}"`', "a GPU, of which it is the memory", action)
    if is_elsewhere(vram_gb):
        return Place(torch.device("cuda"), None)
    device = choose_device(name)
    return Place(device, device)


def create_plan(
    fingerprint: Fingerprint,
    request: Request,
    device: torch.device,
    progress: Progress,
    start: Start | None = None,
    is_first: bool = False,
) -> Plan:
    """Create a plan for the data, the machine and the settings of the user.

    Args:
        fingerprint: the data.
        request: settings of the user.
        device: where training runs.
        progress: shows the measuring of the machine.
        start: the model that training starts from.
        is_first: it is the first stage of a cascade.

    Returns:
        The plan, with a reason for each value.

    Raises:
        PlanError: a setting that does not fit.
    """
    settings = request.settings
    can_time = not is_elsewhere(request.vram_gb)
    if request.minutes and can_time:
        progress.stage("Measuring this machine")

    def measure(model: ModelPlan, patch: Sequence[int], batch: int, precision: str) -> float:
        train = plan_step(settings, patch, batch, precision).model_copy(update={"minutes": request.minutes})
        return measure_mean_step_seconds(model, train, device)

    made = make_plan(
        fingerprint,
        minutes=request.minutes,
        epochs=request.epochs,
        device=device,
        settings=settings,
        start=start,
        is_first=is_first,
        vram_gb=request.vram_gb,
        step_seconds=measure if can_time else None,
        count_bytes=lambda model, train: estimate_training_bytes(model, train, device),
        count_tile_bytes=lambda model, predict: estimate_prediction_bytes(model, predict, device),
        warn=progress.note,
    )
    return _require_head(made)


def plan_step(settings: Mapping[str, Any], patch: Sequence[int], batch: int, precision: str) -> TrainPlan:
    """Plan a training whose step is timed before its length is known, from the settings of the user and defaults.

    Args:
        settings: `{"section.key": value}` of the user.
        patch: size in voxels.
        batch: patches in each step.
        precision: fp32, bf16 or fp16.

    Returns:
        A training of one step.

    Raises:
        PlanError: a setting has a value outside its range.
    """
    mine = {key.removeprefix("train."): value for key, value in parse_settings(Plan, settings).items()}
    fields = {key: value for key, value in mine.items() if key in TrainPlan.model_fields}
    chosen = {"patch": patch, "batch": batch, "precision": precision, "steps_per_epoch": 1, "epochs": 1}
    return validate(TrainPlan, fields | chosen)


def reuse_plan(
    folder: RunFolder,
    fingerprint: Fingerprint,
    request: Request,
    device: torch.device,
    progress: Progress,
    start: Start | None = None,
    ours: Collection[FoldName] = (),
) -> Plan:
    """Read the plan of a run and apply the settings of the user, or create a plan.

    Args:
        folder: run folder.
        fingerprint: the data.
        request: settings of the user.
        device: where training runs.
        progress: is told when a plan is reused.
        start: the model that training starts from.
        ours: folds that this process holds.

    Returns:
        The plan to train with.

    Raises:
        UsageError: the plan does not fit the data, or a fold was trained with other settings.
        PlanError: a setting that does not fit.
    """
    if not folder.plan.exists():
        return create_plan(fingerprint, request, device, progress, start)
    found, settings = read_plan(folder.plan), resolve_labels(request.as_settings(), fingerprint)
    # a new plan would not be that of the networks that are trained
    action = (
        "Choose another `out`."
        if folder.started_folds()
        else "Delete that file to plan again, or choose another `out`."
    )
    if (wanted := settings.get("data.resolution", found.data.resolution)) != found.data.resolution:
        got, expected = f"{wanted}, but {folder.plan} was made for {found.data.resolution}", "the same"
        raise UsageError("resolution", got, expected, action)
    _require_fit(found, fingerprint, folder.plan)
    if request.vram_gb is not None:
        got = f"{request.vram_gb:g}, but {folder.plan} is there"
        raise UsageError("vram_gb", got, "a new plan", f"Leave it out. {action}")
    if start and start.origin != found.train.start:
        got = f"{start.origin}, but {folder.plan} was made for {found.train.start or 'random weights'}"
        raise UsageError("from_", got, "the same", action)
    started = folder.started_folds()
    if not started:
        changed = _require_head(found.changed(settings))
        others = [fold for fold in folder.folds() if fold not in ours and (folder.fold(fold) / LOCK).exists()]
        progress.note(f"Using the plan in {folder.plan}{'' if others else '; delete it to plan again'}.")
        if rules.NOT_TIMED in found.reasons.get("train.minutes", "") and device.type == "cpu":
            progress.note(_describe_elsewhere(changed.train))
        return changed
    for key, value in settings.items():
        if _differs(found, key, value):
            expected = f"the value in {folder.plan}, with which fold {started[0]} was trained"
            raise UsageError(key, str(value), expected, _INSTEAD.get(key, "Leave it out, or choose another `out`."))
    changed = _require_head(found.changed(settings))
    return found if changed.model_dump(exclude={"reasons"}) == found.model_dump(exclude={"reasons"}) else changed


def _describe_elsewhere(train: TrainPlan) -> str:
    """Say what the processor does with a plan that was made for a GPU."""
    patch = " x ".join(map(str, train.patch))
    return (
        f"note: this plan was made for the memory of a GPU, with patches of {patch} and `train.batch={train.batch}`; "
        "the processor trains just that, which may take long and much memory"
    )


def _differs(plan: Plan, key: str, value: Any) -> bool:
    """Tell whether a setting changes a plan, or fits nothing else in it."""
    parse_settings(Plan, {key: value})
    try:
        return bool(plan.changed({key: value}).differences(plan))
    except PlanError:
        return True


def settle_plan(
    folder: RunFolder,
    fingerprint: Fingerprint,
    splits: Sequence[Split],
    request: Request,
    device: torch.device,
    progress: Progress,
    start: Start | None = None,
    ours: Collection[FoldName] = (),
) -> Plan:
    """Reuse or create the plan of a run and write it; of several processes that begin at once, one creates it.

    Args:
        folder: run folder.
        fingerprint: the data.
        splits: cases of each fold, written with a new plan.
        request: settings of the user.
        device: where training runs.
        progress: is told when a plan is reused.
        start: the model that training starts from.
        ours: folds that this process holds.

    Returns:
        The plan to train with.

    Raises:
        UsageError: as `reuse_plan`.
        PlanError: as `reuse_plan`.
    """
    with ExitStack() as locks:
        if not locks.enter_context(hold_lock(folder.path / LOCK)):
            progress.note("Waiting for another job, which makes the plan of this run.")
            locks.enter_context(hold_lock(folder.path / LOCK, wait=True))
        made = reuse_plan(folder, fingerprint, request, device, progress, start, ours)
        write_plan(folder, fingerprint, made, splits, start)
    return made


def _require_head(plan: Plan) -> Plan:
    """Raise PlanError if the network has no head at the depth of prediction: heads may begin below depth 1."""
    heads = make_grid(plan.model).head_depths(plan.model.deep_supervision)
    if find_size(plan.predict.depth, plan.model.depth).depth not in heads:
        expected = f"one of {list(heads)}, the depths at which this network has a head"
        raise PlanError("predict.depth", str(plan.predict.depth), expected, "Change it.")
    return plan


def _require_cases(plan: Plan, splits: Sequence[Split]) -> None:
    """Raise PlanError if a case that has a weight is not there."""
    known = {case for split in splits for case in (*split.train, *split.validation)}
    if unknown := sorted({*plan.train.case_weights} - known):
        expected = f"ids of cases, such as {list_some(sorted(known))}"
        raise PlanError("train.case_weights", list_some(unknown), expected, "Change it.")


def _require_fit(plan: Plan, fingerprint: Fingerprint, path: Path) -> None:
    data, action = plan.data, "Delete the file to plan again, or choose another `out`."
    for key, got, expected in (
        ("data.dims", data.dims, fingerprint.dims),
        ("data.channels", len(data.channels), len(fingerprint.channels)),
    ):
        if got != expected:
            raise UsageError(path, f"{key} {got}", f"{expected}, as in the data", action, setting=key)
    unknown = sorted({*fingerprint.label_values} - {*data.label_values})
    if unknown and data.labels.kind == "classes":
        missing, action = f"a plan without the label values {unknown} of the data", "Add them, or choose another `out`."
        raise UsageError(path, missing, "all of them in data.label_values", action, setting="data.label_values")


def write_plan(
    folder: RunFolder, fingerprint: Fingerprint, plan: Plan, splits: Sequence[Split], start: Start | None = None
) -> None:
    """Write fingerprint.json, splits.json, and plan.json with its schema; copy the model that it starts from.

    Raises:
        PlanError: a case that has a weight is not there.
    """
    _require_cases(plan, splits)
    if start:
        copy_start(start.file, folder)
    write_text(folder.fingerprint, fingerprint.to_json())
    write_splits(folder.splits, splits)
    write_text(folder.path / SCHEMA_FILE, format_json(make_schema(Plan)) + "\n")
    write_text(folder.plan, plan.to_json())


def estimate_cost(
    data: Path,
    folder: RunFolder,
    plan: Plan,
    split: Split,
    timed_on: torch.device | None = None,
    folds: int = 1,
    rest: Rest | None = None,
    device: torch.device = CPU,
    first: Plan | None = None,
) -> Planned:
    """Estimate the time and memory that training takes.

    Args:
        data: the data set.
        folder: run folder.
        plan: plan of the run.
        split: cases of a fold.
        timed_on: device on which a few steps are timed for a plan in epochs; None: its minutes stay unknown.
        folds: number of folds to train.
        rest: what is left of a training that is continued, if it is.
        device: where training runs, if nothing is timed.
        first: plan of the first stage of a cascade.

    Returns:
        Memory in MB and time in minutes, with the plan.
    """
    train = plan.train
    memory = max(estimate_training_bytes(each.model, each.train, timed_on or device) for each in (first or plan, plan))
    is_short = train.minutes is not None and train.minutes < SHORT_MINUTES
    tiles = None if is_short else estimate_prediction_bytes(plan.model, plan.predict, timed_on or device) / 1e6
    seconds = rest.seconds if rest else train.minutes and 60 * train.minutes * folds
    steps = None if seconds is not None else rest.steps if rest else train.steps_per_epoch * train.epochs * folds
    if steps is not None and timed_on is not None:
        seconds = measure_mean_step_seconds(plan.model, train, timed_on) * steps
        if first:
            length = 2 * folds * first.train.steps_per_epoch * first.train.epochs
            seconds += measure_mean_step_seconds(first.model, first.train, timed_on) * length
    minutes = None if seconds is None else seconds / 60
    return Planned(
        data,
        folder.path,
        plan,
        count_parameters(plan.model),
        memory / 1e6,
        tiles,
        minutes,
        folds,
        training_cases=len(split.train),
        validation_cases=len(split.validation),
        rest=rest.text if rest else "",
        from_start=rest is None or rest.from_start,
        steps=steps,
        first=first,
    )
