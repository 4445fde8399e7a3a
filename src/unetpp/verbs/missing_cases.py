"""Prepared cases that were removed from a run, prepared again from its data."""

from __future__ import annotations

from pathlib import Path

from unetpp.data.folds import read_splits
from unetpp.data.parts import split_dataset
from unetpp.data.store import find_stored_cases, store_cases
from unetpp.errors import DataError, UsageError
from unetpp.layouts.cases import find_cases
from unetpp.layouts.dataset import Case
from unetpp.model.header import read_header
from unetpp.plan import read_plan
from unetpp.progress import Progress
from unetpp.run_folder import RunFolder
from unetpp.verbs.preparation import recall_reading
from unetpp.verbs.request import read_reading
from unetpp.words import count_noun


def prepare_missing(model: Path, progress: Progress, training: bool = True) -> None:
    """Prepare those cases of a fold again that are not in the cache of its run: `unetpp clean` removes them.

    Args:
        model: RUN/fold_K/model.safetensors; for a model file anywhere else nothing is done.
        progress: display.
        training: also those for training, not only those for validation.

    Raises:
        UsageError: the data of the run is not where it was, or lacks a case.
        DataError: a case that cannot be read.
        PlanError: RUN/plan.json cannot be used.
    """
    fold = model.absolute().parent
    run, name = RunFolder(fold.parent), fold.name.removeprefix("fold_")
    if not (run.splits.is_file() and run.plan.is_file() and name.isdecimal()):
        return
    splits, plan = read_splits(run.splits), read_plan(run.plan).data
    if int(name) >= len(splits) or read_header(model).plan.data != plan:
        return
    split = splits[int(name)]
    wanted = (*split.train, *split.validation) if training else split.validation
    stored = {case.id for case in find_stored_cases(wanted, run.cache)}
    if missing := [case for case in wanted if case not in stored]:
        cases = _find_cases(run, missing)
        store_cases(cases, plan, run.cache, progress.stage("Preparing the cases again", "cases"))


def _find_cases(run: RunFolder, names: list[str]) -> list[Case]:
    """Find labeled cases in the data of a run. Raises UsageError."""
    where = run.recall_data()
    try:
        dataset = split_dataset(find_cases(Path(where), tolerant=True), read_reading(recall_reading(run)))
        found = {case.id: case for case in dataset.cases if case.labels}
        reason = "" if found.keys() >= {*names} else "not all of its cases are there"
    except DataError as error:
        found, reason = {}, str(error).rstrip(".")
    if reason:
        got = (
            f"a run without {count_noun(len(names), 'prepared case')}, whose data in {where} cannot be used ({reason})"
        )
        action = f"Put the data back, or write its new path into {run.data}."
        raise UsageError(run.path, got, "prepared cases, or the data to prepare them from", action)
    return [found[name] for name in names]
