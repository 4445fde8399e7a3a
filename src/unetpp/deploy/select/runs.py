"""Runs that are compared: their folds, sizes and validation cases, and whether they can be compared at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path

import torch

from unetpp.data.folds import read_splits
from unetpp.dial import add_sizes, describe_size, name_sizes
from unetpp.errors import UsageError
from unetpp.infer.first_stage import COMPARED, find_first_stage
from unetpp.infer.predictor import Predictor, make_predictor
from unetpp.measure.depth_table import measure_depths
from unetpp.measure.pooled import pool_run
from unetpp.measured import DepthTable
from unetpp.model.header import read_header
from unetpp.model_notes import Metrics
from unetpp.plan import Plan
from unetpp.progress import Progress
from unetpp.run_folder import MODEL, NO_VALIDATION, FoldName, RunFolder
from unetpp.selection import is_selection
from unetpp.size_names import SizeNames
from unetpp.words import count_noun


@dataclass(eq=False)
class ComparedRun:
    """A run with scores."""

    folder: RunFolder
    name: str
    """Name of its folder, with a number if several have that name."""
    files: dict[FoldName, Path]
    """Model file of each fold."""
    validated: dict[str, FoldName]
    """Case -> the fold that has not trained on it."""
    plan: Plan
    sizes: SizeNames
    scores: Metrics
    """Scores and costs of all folds together."""
    latencies: dict[int, float]
    """Milliseconds of one tile at each size."""
    first_latency: float = math.nan
    """Of one tile of the first stage of a cascade, with all of its networks of a fold."""

    def name_size(self, number: int) -> str:
        """Name a size, as in "depth 2"."""
        return describe_size(self.scores, number)

    @property
    def favored(self) -> list[int]:
        """The recommended size and the largest one: what is averaged with other runs."""
        recommended = self.scores.recommended
        sizes = [recommended.depth] if recommended and recommended.depth in self.sizes.numbers else []
        return sorted({*sizes, self.sizes.numbers[-1]})


def open_runs(paths: Sequence[str | PathLike[str]]) -> list[ComparedRun]:
    """Open the runs that are compared.

    Args:
        paths: run folders.

    Raises:
        UsageError: no run, one that is not finished or has no scores, or runs that cannot be compared.
        ModelFileError: a model file that cannot be used.
    """
    folders = [RunFolder(Path(path)) for path in paths]
    if not folders:
        raise UsageError("runs", "none", "one or more run folders", "Name runs that `unetpp train` wrote.")
    places = [folder.path.resolve() for folder in folders]
    if twice := [folder.path for folder, place in zip(folders, places, strict=True) if places.count(place) > 1]:
        raise UsageError("runs", f"{twice[0]} twice", "different runs", "Leave one out.")
    for folder in folders:
        _require_finished(folder)
    runs = [_open_run(folder, name) for folder, name in zip(folders, _name_runs(places), strict=True)]
    for run in runs[1:]:
        _require_alike(runs[0], run)
    return runs


def _name_runs(places: Sequence[Path]) -> list[str]:
    """Name runs after their folders; of several with one name the later ones have a number."""
    names: list[str] = []
    for place in places:
        number = sum(name.partition(" (")[0] == place.name for name in names)
        names.append(f"{place.name} ({number + 1})" if number else place.name)
    return names


def _require_finished(run: RunFolder) -> None:
    """Raise UsageError for what is no run, for a training that has not ended, and for one without scores."""
    if is_selection(run.path):
        got, action = f"{run.path}, which `unetpp select` wrote", "Name the runs that it was made of."
        raise UsageError("runs", got, "run folders", action)
    if not run.plan.is_file() or not run.splits.is_file():
        got = f"{run.path}, {'no run folder' if run.path.exists() else 'where nothing is'}"
        raise UsageError("runs", got, "a run folder that `unetpp train` wrote", "Check the path.")
    if run.cascade:
        got, action = f"{run.path}, the first stage of a cascade", f"Name {run.cascade.path}, which it is part of."
        raise UsageError("runs", got, "runs with validated folds", action)
    folds = [fold for fold in run.started_folds() if fold != NO_VALIDATION]
    unfinished = [fold for fold in folds if run.metrics(fold) is None]
    if unfinished:
        got, action = f"{run.path}, {run.describe_state(unfinished[0])}", f"Run `{run.write_resume(unfinished[0])}`."
        raise UsageError("runs", got, "runs that are finished", action)
    if not folds:
        why = "whose only model was trained on all cases" if run.has_started(NO_VALIDATION) else "with no trained fold"
        got, action = f"{run.path}, {why}: it has no scores", f"Run `{run.write_resume(0).removesuffix(' --resume')}`."
        raise UsageError("runs", got, "runs with validated folds", action)


def _open_run(run: RunFolder, name: str) -> ComparedRun:
    splits = read_splits(run.splits, validated=False)
    folds = [fold for fold in run.started_folds() if isinstance(fold, int) and fold < len(splits)]
    files: dict[FoldName, Path] = {fold: run.fold(fold) / MODEL for fold in folds}
    headers = [read_header(file) for file in files.values()]
    plan, pooled = headers[0].plan, pool_run(run)
    cases: dict[str, FoldName] = {case: fold for fold in folds for case in splits[fold].validation}
    if pooled is None or not cases:
        got, action = f"{run.path}, of which no fold has validation cases", "Train folds with validation cases."
        raise UsageError("runs", got, "runs with validated folds", action)
    scores = add_sizes(pooled, plan.model)
    sizes = name_sizes(headers[0].notes, tuple(scores.depths) or plan.model.list_sizes(), plan.model)
    return ComparedRun(run, name, files, cases, plan, sizes, scores, _list_latencies(scores))


def _list_latencies(table: DepthTable) -> dict[int, float]:
    return {size: row.latency_ms for size, row in table.depths.items() if row.latency_ms}


def _require_alike(first: ComparedRun, other: ComparedRun) -> None:
    """Raise UsageError for runs of different data or classes."""
    mine, theirs = first.folder.recall_data(), other.folder.recall_data()
    if mine != theirs:
        got = f"{first.folder.path} of {mine}, {other.folder.path} of {theirs}"
        raise UsageError("runs", got, "runs of one data set", "Leave one out, or train both on the same data.")
    for name in COMPARED:
        values = [getattr(run.plan.data, name) for run in (first, other)]
        if values[0] != values[1]:
            got = f"{first.folder.path} with data.{name} {values[0]}, {other.folder.path} with {values[1]}"
            raise UsageError("runs", got, "the same in all runs", "Leave one out.")


def find_shared(runs: Sequence[ComparedRun]) -> list[str]:
    """Find the cases that every run has validated.

    Raises:
        UsageError: there are none.
    """
    shared = [case for case in runs[0].validated if all(case in run.validated for run in runs)]
    if not shared:
        told = "; ".join(f"{run.name}: {count_noun(len(run.validated), 'case')}" for run in runs)
        action = "Train the same folds of each: `--fold all`, with the same splits.json."
        raise UsageError("runs", f"no case that all have validated ({told})", "cases to compare them on", action)
    return shared


def time_runs(runs: Sequence[ComparedRun], device: torch.device, progress: Progress, until: float = math.inf) -> None:
    """Time the sizes of several runs on this machine, so that their times compare; those of a single run are kept.

    Without time for it until `until` (of `time.monotonic`) they are not known.
    """
    timed = partial(measure_depths, batch=1, device=str(device), memory=False, progress=progress, until=until)
    for run in runs:
        file = next(iter(run.files.values()))
        if len(runs) > 1 or len(run.latencies) < len(run.sizes.numbers):
            run.latencies.update(_list_latencies(timed(file)))
        if run.plan.data.resolution == "cascade":
            files = find_first_stage([file], run.plan.data)
            size = read_header(files[0]).plan.predict.depth
            run.first_latency = len(files) * _list_latencies(timed(files[0])).get(size, math.nan)


class FoldPredictors:
    """The predictors of the folds of some runs; of each run the last one is kept."""

    def __init__(self, runs: Sequence[ComparedRun], device: torch.device) -> None:
        self._runs, self._device = runs, device
        self._last: dict[int, tuple[FoldName, Predictor]] = {}

    def find(self, run: int, case: str) -> Predictor:
        """Return the predictor of the fold of a run that has not trained on a case."""
        fold = self._runs[run].validated[case]
        if run not in self._last or self._last[run][0] != fold:
            self._last.pop(run, None)  # before the next one is loaded
            file = self._runs[run].files[fold]
            self._last[run] = fold, make_predictor([file], str(file), self._device, "torch")
        return self._last[run][1]
