"""Verdicts on the trainings of a run, that on the fold that most needs something done, and what comes next."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from unetpp.data.folds import read_splits
from unetpp.errors import DataError
from unetpp.measure.curves import read_curves
from unetpp.measure.training_rules import judge_training
from unetpp.measured import DepthTable
from unetpp.model_notes import DIVERGED, KINDS, OVER_FITTED, WEAK, Metrics, Verdict
from unetpp.results import suggest_prediction
from unetpp.run_folder import LOG, FoldName, RunFolder
from unetpp.train.log import read_log
from unetpp.words import write_command

SHOWN_BY_REPORT = (DIVERGED, WEAK)
"""Kinds after which the report comes next."""


def judge_fold(run: RunFolder, fold: FoldName, metrics: Metrics | None = None) -> Verdict | None:
    """Judge the training of a fold by its log and its scores; None without a log that says enough.

    Args:
        run: run folder.
        fold: name of the fold.
        metrics: its scores; None: those in its folder.
    """
    log = read_log(run.fold(fold) / LOG)[0]
    fractions = _read_fractions(run)
    return judge_training(read_curves(log, metrics or run.metrics(fold), run.start.exists(), fractions))


def _read_fractions(run: RunFolder) -> list[float]:
    """Read the fraction of the voxels of each class; empty if it is not known."""
    try:
        found = json.loads(run.fingerprint.read_text(encoding="utf-8"))["class_fractions"]
        return [float(each) for each in found]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def judge_run(run: RunFolder, folds: Iterable[FoldName]) -> Verdict | None:
    """Judge the trainings of some folds: the verdict on the one that most needs something done."""
    found = {fold: verdict for fold in folds if (verdict := judge_fold(run, fold))}
    return join_verdicts(found, _count_folds(run)) if found else None


def join_verdicts(found: Mapping[FoldName, Verdict], total: int = 0) -> Verdict:
    """Choose the verdict on the fold that most needs something done, and name its fold.

    Args:
        found: fold -> its verdict, at least one.
        total: number of folds of the run, trained or not; 0 if it is not known.
    """
    fold = min(found, key=lambda each: KINDS.index(found[each].kind))
    verdict = found[fold]
    if len(found) == 1:
        return verdict.model_copy(update={"fold": fold})
    reason, more = f"Fold {fold}: {verdict.reason[:1].lower()}{verdict.reason[1:]}", verdict.more_minutes
    if len(found) == total and {each.kind for each in found.values()} == {verdict.kind}:
        together = {"fold": "all", "more_minutes": more and more * len(found)}
        return verdict.model_copy(update={"reason": reason, **together})
    return verdict.model_copy(update={"reason": reason, "fold": fold})


def _count_folds(run: RunFolder) -> int:
    """Number of folds of a run, trained or not; 0 if it is not known."""
    try:
        return len(read_splits(run.splits, validated=False))
    except DataError:
        return 0


def suggest_for_model(model: Path, verdict: Verdict | None) -> str:
    """Write the command that follows the verdict in a model file of a run; empty for a file elsewhere."""
    fold = model.absolute().parent
    name, run = fold.name.removeprefix("fold_"), RunFolder(model.parent.parent if model.parent.name else fold.parent)
    if verdict is None or fold.name == name or not run.plan.is_file():
        return ""
    known = verdict.model_copy(update={"fold": int(name) if name.isdecimal() else name})
    return suggest_command(known, run.path, run.recall_data())


def suggest_command(verdict: Verdict, run: Path, data: Path | str = "DATA", found: DepthTable | None = None) -> str:
    """Write the command that follows a verdict.

    Args:
        verdict: of a run, as `judge_run` returns it.
        run: run folder.
        data: its data set.
        found: its scores, with the recommended size; None: they are not known.
    """
    if cascade := RunFolder(run).cascade:  # what its first stage needs is judged by the scores of the whole
        return write_command("report", cascade.path)
    if verdict.kind in SHOWN_BY_REPORT:
        return write_command("report", run)
    if verdict.is_settled:
        return suggest_prediction(run, found if verdict.learned else None)
    more = ["--fold", verdict.fold] if verdict.fold not in (None, 0) else []
    more += ["--add-cases"] if verdict.kind == OVER_FITTED else []
    more += ["--minutes", f"+{verdict.more_minutes:g}"] if verdict.more_minutes else []
    return write_command("train", data, "--out", run, "--resume", *more)
