"""The verb `select`: the best of several runs for a cost, as one folder that predicts."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unetpp.console import shows_progress
from unetpp.errors import UsageError
from unetpp.progress import Progress, ShowProgress, Silence
from unetpp.results import Selected
from unetpp.selection import PAGE
from unetpp.verbs.arguments import AnyPath, list_paths
from unetpp.words import list_some

if TYPE_CHECKING:
    from unetpp.deploy.select.runs import ComparedRun
    from unetpp.layouts.dataset import Case


@shows_progress
def select(
    runs: AnyPath | Sequence[AnyPath],
    out: AnyPath,
    *,
    max_ms: float | None = None,
    minutes: float | None = None,
    dataset: AnyPath | None = None,
    device: str = "auto",
    progress: ShowProgress = None,
) -> Selected:
    """Choose among runs: size, mirroring, average of two, post-processing and temperature, as one model folder.

    Compared on the cases that all runs have validated. Taken is the cheapest candidate whose difference to the best is
    not clear. `unetpp predict`, export and info take the folder like a run.

    Args:
        runs: Run folders of the same data, each with one or more trained folds.
        out: Folder for the choice: its model files, select.json and the page select.html.
        max_ms: Milliseconds that an image may take, of the median size of the compared, with all folds. By default any.
        minutes: Time for all of it; fewer cases are compared where it is short.
        dataset: The data set, if it is no longer where the runs found it.
        device: auto, cpu, cuda or cuda:K.

    Returns:
        What was chosen, what was compared, and the folder.

    Raises:
        UsageError: runs that are not finished, have no scores or cannot be compared; nothing is as fast as `max_ms`.
        DataError: the data set cannot be read.

    Example:
        unetpp.select(["runs/nuclei", "runs/nuclei_unet"], "selected")
    """
    started = time.monotonic()
    from unetpp.deploy.select.folder import require_free
    from unetpp.deploy.select.runs import open_runs
    from unetpp.runtime.device import choose_device, keep_freed_memory

    for name, value in {"max_ms": max_ms, "minutes": minutes}.items():
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise UsageError(name, f"{value:g}", "a number above 0", "Change it, or leave it out.")
    shown, target = progress or Silence(), Path(out)
    require_free(target)
    opened = open_runs(list_paths(runs))
    place = choose_device(device)
    keep_freed_memory()
    until = math.inf if minutes is None else started + 60 * minutes
    return choose(opened, target, None if dataset is None else Path(dataset), str(place), shown, max_ms, until)


def choose(
    runs: Sequence[ComparedRun],
    out: Path,
    data: Path | None,
    device: str,
    progress: Progress,
    max_ms: float | None = None,
    until: float = math.inf,
) -> Selected:
    """Compare opened runs, and write the folder of the choice.

    Args:
        runs: the runs.
        out: the folder.
        data: the data set; None: where the runs found it.
        device: where to predict.
        progress: display.
        max_ms: milliseconds that an image may take.
        until: time of `time.monotonic` at which it ends.
    """
    import torch

    from unetpp.deploy.select import select_runs
    from unetpp.deploy.select.folder import write_folder
    from unetpp.deploy.select.runs import find_shared
    from unetpp.report.select_page import write_select_page

    cases = _find_cases(runs, find_shared(runs), data)
    selection = select_runs(runs, cases, torch.device(device), progress, max_ms, until)
    plan = runs[0].plan.data
    written = write_folder(selection, runs, out)
    write_select_page(written, plan, out / PAGE)
    return Selected(out, out / PAGE, written, plan.classes)


def _find_cases(runs: Sequence[ComparedRun], names: Sequence[str], data: Path | None) -> Mapping[str, Case]:
    """Find the cases of these names in the data set.

    Raises:
        DataError: the data set cannot be read.
        UsageError: it lacks some of them.
    """
    from unetpp.data.parts import split_dataset
    from unetpp.layouts.cases import find_cases
    from unetpp.verbs.preparation import recall_reading
    from unetpp.verbs.request import read_reading

    run = runs[0].folder
    where = data or Path(run.recall_data())
    if not where.exists():
        got = f"{where}, where the runs found their data and nothing is now"
        raise UsageError("dataset", got, "the data set of the runs", "Say with `dataset` where it is.")
    found = split_dataset(find_cases(where, tolerant=True), read_reading(recall_reading(run)))
    cases = {case.id: case for case in found.cases if case.labels}
    if missing := [name for name in names if name not in cases]:
        got = f"{where} without {list_some(missing)}, which the runs have validated"
        raise UsageError("dataset", got, "the data set of the runs", "Say with `dataset` where it is.")
    return {name: cases[name] for name in names}
