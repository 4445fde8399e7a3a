"""What comes before training: the data is read, the plan made or taken over, the splits drawn. Nothing is written until all is well."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unetpp.data.cases import find_cases
from unetpp.data.dataset import Dataset
from unetpp.data.folds import Split, make_splits, read_splits, write_splits
from unetpp.data.inspect import Inspection, inspect_dataset
from unetpp.errors import DataError, PlanError, Problem, UsageError
from unetpp.files import write_text
from unetpp.model.build import make_grid
from unetpp.plan import Plan, TrainPlan, read_plan
from unetpp.planning.cost import count_parameters, estimate_training_bytes
from unetpp.planning.fingerprint import Fingerprint, make_fingerprint
from unetpp.planning.planner import make_plan
from unetpp.progress import Progress
from unetpp.results import Planned
from unetpp.run_folder import RunFolder
from unetpp.settings import parse_settings, validate
from unetpp.train.speed import measure_step_seconds

SPLIT_SEED = 0
"""Of the folds: the same for all training seeds, so that runs are scored on the same cases."""


@dataclass(frozen=True)
class Source:
    """A data set that was read and has no problems."""

    dataset: Dataset
    inspection: Inspection
    fingerprint: Fingerprint


@dataclass(frozen=True)
class Wishes:
    """What the user asked of a plan."""

    minutes: float | None
    """For each fold."""
    epochs: int | None
    settings: dict[str, Any]
    seed: int | None

    def as_settings(self) -> dict[str, Any]:
        """All of them as settings of a plan that exists."""
        values: dict[str, Any] = {}
        if self.minutes is not None:
            values |= {"train.minutes": self.minutes}
        if self.epochs is not None:
            values |= {"train.epochs": self.epochs, "train.minutes": None}
        if self.seed is not None:
            values |= {"train.seed": self.seed}
        return values | self.settings


def read_wishes(
    minutes: float | None, epochs: int | None, values: Mapping[str, Any] | Sequence[str] | None, seed: int | None = None
) -> Wishes:
    """What the user asked by arguments and by `set`; a length may come by either.

    Raises:
        UsageError: a length that cannot be, or a setting that is none.
        PlanError: a length that is no number.
    """
    settings = read_settings(values)
    lengths = parse_settings(
        Plan, {key: settings.pop(key) for key in ("train.minutes", "train.epochs") if key in settings}
    )
    wishes = Wishes(lengths.get("train.minutes", minutes), lengths.get("train.epochs", epochs), settings, seed)
    _check_length(wishes.minutes, wishes.epochs)
    return wishes


def _check_length(minutes: float | None, epochs: int | None) -> None:
    if minutes is not None and epochs is not None:
        raise UsageError(
            f"`minutes={minutes:g}` and `epochs={epochs}`", "both", "one of them", "Leave one out.", setting="epochs"
        )
    if minutes is not None and not 0 < minutes < float("inf"):
        raise UsageError("minutes", f"{minutes:g}", "a number above 0, such as 20")
    if epochs is not None and epochs < 1:
        raise UsageError("epochs", str(epochs), "1 or more")


def fold_numbers(fold: int | str, count: int) -> list[int]:
    """The folds that the user named."""
    if fold == "all":
        return list(range(count))
    if not str(fold).isdecimal() or int(fold) >= count:
        raise UsageError("fold", repr(fold), f"0 to {count - 1}, or all")
    return [int(fold)]


def read_settings(values: Mapping[str, Any] | Sequence[str] | None) -> dict[str, Any]:
    """Settings as a dictionary, from one or from texts `section.key=value`."""
    if values is None or isinstance(values, Mapping):
        return dict(values or {})
    settings = {}
    for pair in [values] if isinstance(values, str) else values:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError("set", repr(pair), "section.key=value, such as train.batch=4")
        settings[key.strip()] = value.strip()
    return settings


def require_unstarted(folder: RunFolder, folds: Iterable[int], resume: bool) -> None:
    """Refuse to train over what was trained before."""
    if folder.path.exists() and not folder.path.is_dir():
        raise UsageError(folder.path, "a file", "a folder for the run", "Choose another `out`.", setting="out")
    started = [number for number in folds if folder.has_started(number)]
    if started and not resume:
        got = f"a run whose fold {started[0]} was trained before"
        raise UsageError(
            folder.path, got, "a new run", "Continue it with `resume=True`, or choose another `out`.", setting="out"
        )


def read_source(path: Path, progress: Progress) -> Source:
    """Find and read all cases.

    Raises:
        DataError: every problem at once.
    """
    dataset = find_cases(path, tolerant=True)
    inspection = inspect_dataset(dataset, progress.stage("Reading every file"))
    if inspection.problems:
        raise DataError(inspection.problems)
    for note in inspection.notes:
        progress.note(f"note: {note}")
    return Source(dataset, inspection, make_fingerprint(dataset, inspection))


def new_plan(source: Source, wishes: Wishes, device: torch.device) -> Plan:
    """A plan for this data, this machine and the user's wishes."""
    settings = wishes.settings if wishes.seed is None else {**wishes.settings, "train.seed": wishes.seed}
    made = make_plan(
        source.fingerprint,
        minutes=wishes.minutes,
        epochs=wishes.epochs,
        device=device,
        settings=settings,
        step_seconds=lambda model, patch, batch, precision: measure_step_seconds(
            model, train_plan(settings, patch, batch, precision), device
        ),
    )
    _require_head(made)
    return made


def train_plan(settings: Mapping[str, Any], patch: Sequence[int], batch: int, precision: str) -> TrainPlan:
    """Plan of a training whose step is timed before its length is known: what the user set, and defaults.

    Args:
        settings: `{"section.key": value}` of the user.
        patch: size in voxels.
        batch: patches in each step.
        precision: fp32, bf16 or fp16.

    Raises:
        PlanError: a setting has a value outside its range.
    """
    mine = {key.removeprefix("train."): value for key, value in parse_settings(Plan, settings).items()}
    fields = {key: value for key, value in mine.items() if key in TrainPlan.model_fields}
    chosen = {"patch": patch, "batch": batch, "precision": precision, "steps_per_epoch": 1, "epochs": 1}
    return validate(TrainPlan, fields | chosen)


def plan_of_run(folder: RunFolder, source: Source, wishes: Wishes, device: torch.device, progress: Progress) -> Plan:
    """The plan in the run, with the user's wishes, or a new one. Once a fold has started, the plan must not change."""
    if not folder.plan.exists():
        return new_plan(source, wishes, device)
    found = read_plan(folder.plan)
    _require_fit(found, source, folder.plan)
    wished = found.changed(wishes.as_settings())
    _require_head(wished)
    started = folder.started_folds()
    if not started:
        progress.note(f"Using the plan in {folder.plan}; delete it to have it made anew.")
        return wished
    for key, value in wishes.as_settings().items():
        if found.changed({key: value}).differences(found):
            expected = f"the value in {folder.plan}, with which fold {started[0]} was trained"
            raise UsageError(key, str(value), expected, "Leave it out, or choose another `out`.")
    return wished if wished.model_dump(exclude={"reasons"}) != found.model_dump(exclude={"reasons"}) else found


def _require_head(plan: Plan) -> None:
    """An encoder that stands alone may begin below the first heads."""
    heads = make_grid(plan.model).head_depths(plan.model.deep_supervision)
    if plan.predict.depth not in heads:
        expected = f"one of {list(heads)}, the depths at which this network has a head"
        raise PlanError("predict.depth", str(plan.predict.depth), expected, "Change it.")


_ANEW = "Delete the file to plan anew, or choose another `out`."


def _require_fit(found: Plan, source: Source, path: Path) -> None:
    facts = source.fingerprint
    for key, got, expected in (
        ("data.dims", found.data.dims, facts.dims),
        ("data.channels", len(found.data.channels), len(facts.channels)),
    ):
        if got != expected:
            raise UsageError(path, f"{key} {got}", f"{expected}, as in the data", _ANEW, setting=key)
    unknown = sorted({*facts.label_values} - {*found.data.label_values})
    if unknown and not found.data.instances:
        missing, action = f"a plan without the label values {unknown} of the data", "Add them, or choose another `out`."
        raise UsageError(path, missing, "all of them in data.label_values", action, setting="data.label_values")


def new_splits(dataset: Dataset) -> list[Split]:
    """Five folds, or the split that the data set declares."""
    return make_splits(dataset.cases, seed=SPLIT_SEED)


def splits_of_run(folder: RunFolder, dataset: Dataset) -> list[Split]:
    """The splits in the run, or new ones."""
    if not folder.splits.exists():
        return new_splits(dataset)
    splits = read_splits(folder.splits)
    named = {case for split in splits for case in (*split.train, *split.validation)}
    gone = sorted(named - {case.id for case in dataset.cases})
    bare = sorted(case.id for case in dataset.cases if case.id in named and not case.labels)
    problems = []
    if gone:
        got = f"{len(gone)} cases that are not in the data set: {_some(gone)}"
        problems.append(
            Problem(
                str(folder.splits),
                got,
                "cases of the data set",
                "Give the same data as before, or choose another `out`.",
            )
        )
    if bare:
        problems.append(
            Problem(
                str(folder.splits),
                f"{len(bare)} cases without a label: {_some(bare)}",
                "cases with a label",
                "Add their labels, or take them out of the file.",
            )
        )
    if problems:
        raise DataError(problems)
    return splits


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")


def write_plan(folder: RunFolder, fingerprint: Fingerprint, made: Plan, splits: Sequence[Split]) -> None:
    """Write all that decides what a run does."""
    write_text(folder.fingerprint, fingerprint.to_json())
    write_splits(folder.splits, splits)
    write_text(folder.plan, made.to_json())


def describe_cost(
    folder: RunFolder, made: Plan, split: Split, timed_on: torch.device | None, folds: int = 1
) -> Planned:
    """What a plan will take for so many folds; with a device, the time of its epochs is measured by a few steps."""
    train = made.train
    memory = estimate_training_bytes(made.model, train.patch, train.batch, train.precision) / 1e6
    minutes = train.minutes
    if minutes is None and timed_on is not None:
        minutes = measure_step_seconds(made.model, train, timed_on) * train.steps_per_epoch * train.epochs / 60
    minutes = None if minutes is None else minutes * folds
    return Planned(
        folder.path,
        made,
        count_parameters(made.model),
        memory,
        minutes,
        folds,
        len(split.train),
        len(split.validation),
        written=False,
    )
