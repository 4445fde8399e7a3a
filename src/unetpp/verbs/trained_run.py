"""What follows a training: choosing among its folds, its report, its summary. Whatever fails, the training is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from unetpp.deploy.select.runs import open_runs
from unetpp.errors import UnetppError
from unetpp.measure.pooled import pool_folds, pool_run
from unetpp.measure.verdict import judge_run, suggest_command
from unetpp.results import NEW_IMAGES, Run, TrainedFold, suggest_prediction
from unetpp.run_folder import FoldName
from unetpp.verbs.begun_folds import MORE_MINUTES
from unetpp.verbs.clean import clean
from unetpp.verbs.fold_time import Clock
from unetpp.verbs.report import write_page
from unetpp.verbs.select import choose
from unetpp.verbs.training_request import TrainingRequest
from unetpp.words import write_command

SELECTED_FOLDER = "selected"
"""Folder of a run into which `select=True` writes."""


def finish_run(training: TrainingRequest, folds: Sequence[TrainedFold]) -> Run:
    """Write the report, pool the scores of several folds, and say how the training stands and what to run next."""
    run = training.run
    if training.no_cache:
        _clean(training)
    report = _write_report(training)
    pooled = pool_folds([fold.metrics for fold in folds]) if len(folds) > 1 else None
    verdict, command = judge_run(run, [fold.fold for fold in folds]), ""
    if verdict and not verdict.is_settled:
        command = suggest_command(verdict, run.path, run.recall_data())
    prediction, seconds = suggest_prediction(run.path, pool_run(run)), Clock(training.started).seconds()
    return Run(run.path, tuple(folds), report, seconds, pooled, verdict, command, prediction=prediction)


def select_size(training: TrainingRequest, device: str, until: float) -> Path | None:
    """Choose among the sizes of all folds.

    Args:
        training: what the user asked for.
        device: device on which their predictions are made.
        until: time of `time.monotonic` at which no further one begins.

    Returns:
        The folder of what was chosen; None if that failed.
    """
    run, progress = training.run.path, training.progress
    out = run / SELECTED_FOLDER
    try:
        found = choose(open_runs([run]), out, None, device, progress, until=until)
    except Exception as error:
        progress.note(f"note: nothing was selected ({error}); `{write_command('select', run, '--out', out)}` does")
        return None
    progress.note(found.selection.reason)
    return out


def add_selected(run: Run, selected: Path) -> Run:
    """Add to a trained run what was selected: it is what to predict with."""
    prediction = write_command("predict", selected, NEW_IMAGES, "--out", "predictions")
    return replace(run, selected=selected, prediction=prediction)


def write_longer(training: TrainingRequest, folds: Sequence[FoldName]) -> str:
    """Write the command that trains a finished run longer: that of its verdict, if it wants more."""
    run = training.run
    verdict = judge_run(run, folds)
    if verdict and verdict.more_minutes is not None:
        return suggest_command(verdict, run.path, run.recall_data())
    return f"{run.write_resume(training.fold, str(training.data))} --minutes +{MORE_MINUTES}"


def _clean(training: TrainingRequest) -> None:
    """Remove the prepared cases."""
    try:
        clean(training.run.path, progress=training.progress)
    except UnetppError as error:
        training.progress.note(f"note: the prepared cases stay ({error})")


def _write_report(training: TrainingRequest) -> Path | None:
    run, progress = training.run.path, training.progress
    try:
        written = write_page(run, progress)
    except Exception as error:
        progress.note(f"note: no report was written ({error}); `{write_command('report', run)}` writes it")
        return None
    for text in written.left_out:
        progress.note(f"note: {text} cannot be read; the report leaves it out")
    return written.report
