"""A share of the cases of a run, prepared: one job of an array, before training begins."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unetpp.data.parts import split_dataset
from unetpp.data.store import store_cases
from unetpp.errors import DataError, UsageError
from unetpp.layouts.cases import find_cases
from unetpp.parts import Part
from unetpp.plan import read_plan
from unetpp.progress import Progress
from unetpp.results import Prepared
from unetpp.run_folder import RunFolder
from unetpp.verbs.request import read_reading
from unetpp.words import write_command


def prepare_part(data: Path, run: RunFolder, part: Part, settings: Mapping[str, Any], progress: Progress) -> Prepared:
    """Prepare a share of the cases by the plan of a run.

    Args:
        data: the data set.
        run: run folder.
        part: the share.
        settings: settings of the user.
        progress: shows the cases.

    Raises:
        UsageError: there is no plan.
        DataError: no case could be prepared.
    """
    started = time.monotonic()
    if not run.plan.exists():
        action = f"Make it first: `{write_command('plan', data, '--out', run.path)}`."
        raise UsageError(run.path, "no plan, by which all parts go", "a run with plan.json", action, setting="part")
    plan = read_plan(run.plan).changed(dict(settings))
    reading = read_reading({**_recall(run), **settings})
    dataset = split_dataset(find_cases(data, tolerant=True), reading)
    labeled = [case for case in dataset.cases if case.labels]
    mine, problems = part.choose(labeled), []
    try:
        store_cases(mine, plan.data, run.cache, progress.stage("Preparing cases", "cases"))
    except DataError as error:
        problems = error.problems
        if len(problems) >= len(mine):
            raise
    seconds = time.monotonic() - started
    return Prepared(data, run.path, str(part), len(mine) - len(problems), len(labeled), tuple(problems), seconds)


def _recall(run: RunFolder) -> dict[str, Any]:
    from unetpp.verbs.preparation import recall_reading  # imports torch

    return recall_reading(run)
