"""What training left unmeasured because its time was over, measured later."""

from __future__ import annotations

from pathlib import Path

from unetpp.data.folds import read_splits
from unetpp.data.parts import split_dataset
from unetpp.errors import DataError
from unetpp.layouts.cases import find_cases
from unetpp.measure.depth_table import measure_depths
from unetpp.model.header import read_header
from unetpp.model_notes import Metrics
from unetpp.progress import Progress
from unetpp.run_folder import MODEL, FoldName, RunFolder
from unetpp.runtime.device import choose_device
from unetpp.verbs.fold import COSTS, measure, read_costs, write_metrics
from unetpp.verbs.preparation import recall_reading
from unetpp.verbs.request import read_reading
from unetpp.verbs.splits import choose_split


def finish_folds(run: RunFolder, progress: Progress) -> tuple[str, ...]:
    """Measure what the time of a training left unmeasured, on the device at hand.

    Args:
        run: run folder.
        progress: display.

    Returns:
        Why something cannot be measured, in words.

    Raises:
        PlanError: the plan of the run cannot be used.
    """
    folds = {fold: found for fold in run.started_folds() if (found := run.metrics(fold)) and found.unfinished}
    if not folds:
        return ()
    progress.note("The time of the training was over before everything was measured; the rest is measured now.")
    unscored = [fold for fold, found in folds.items() if not COSTS.issuperset(found.unfinished)]
    for fold in [fold for fold in folds if fold not in unscored]:
        _add_costs(run, fold, folds[fold], progress)
    if not unscored:
        return ()
    where = run.recall_data()
    splits = read_splits(run.splits, validated=False)
    try:
        dataset = split_dataset(find_cases(Path(where), tolerant=True), read_reading(recall_reading(run)))
        cases = {case.id: case for case in dataset.cases if case.labels}
        for fold in unscored:
            held_out = [cases[name] for name in choose_split(splits, fold).validation]
            header = read_header(run.fold(fold) / MODEL)
            if header.notes.training:
                measure(run, fold, held_out, header.plan, header.notes.training, choose_device("auto"), progress)
    except (DataError, KeyError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        return (f"not everything is measured, because the data in {where} cannot be used ({reason})",)
    return ()


def _add_costs(run: RunFolder, fold: FoldName, found: Metrics, progress: Progress) -> None:
    """Measure the costs of a fold whose cases are all scored; this needs no data."""
    model, device = run.fold(fold) / MODEL, str(choose_device("auto"))
    header = read_header(model)
    if header.notes.training:
        costs = read_costs(run, fold) or measure_depths(model, batch=1, device=device, progress=progress)
        complete = found.with_costs(costs).merge(Metrics(unfinished=()))
        write_metrics(run, fold, header.plan, header.notes.training, complete)
