"""What training left unmeasured because its time was over, measured later."""

from __future__ import annotations

from pathlib import Path

from unetpp.data.folds import read_splits
from unetpp.data.parts import split_dataset
from unetpp.errors import DataError
from unetpp.layouts.cases import find_cases
from unetpp.model.header import read_header
from unetpp.progress import Progress
from unetpp.run_folder import MODEL, RunFolder
from unetpp.runtime.device import choose_device
from unetpp.verbs.fold import measure
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
    folds = [fold for fold in run.started_folds() if (found := run.metrics(fold)) and found.unfinished]
    if not folds:
        return ()
    progress.note("The time of the training was over before everything was measured; the rest is measured now.")
    where = run.recall_data()
    splits = read_splits(run.splits, validated=False)
    try:
        dataset = split_dataset(find_cases(Path(where), tolerant=True), read_reading(recall_reading(run)))
        cases = {case.id: case for case in dataset.cases if case.labels}
        for fold in folds:
            held_out = [cases[name] for name in choose_split(splits, fold).validation]
            header = read_header(run.fold(fold) / MODEL)
            if header.notes.training:
                measure(run, fold, held_out, header.plan, header.notes.training, choose_device("auto"), progress)
    except (DataError, KeyError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        return (f"not everything is measured, because the data in {where} cannot be used ({reason})",)
    return ()
