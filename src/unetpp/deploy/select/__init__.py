"""Selection: candidates of several runs compared by cross-validation, and the choice as one folder that predicts."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unetpp.data.case_files import name_files, read_case_classes
from unetpp.deploy.select.calibrating import fit_temperature
from unetpp.deploy.select.candidates import Key, judge_candidates, list_candidates
from unetpp.deploy.select.post_processing import choose_steps, choose_thresholds
from unetpp.deploy.select.runs import ComparedRun, FoldPredictors, time_runs
from unetpp.deploy.select.scoring import score_candidates
from unetpp.deploy.select.study import study_cases
from unetpp.errors import failures_of
from unetpp.infer.calibration import calibrate
from unetpp.infer.prediction import Prediction
from unetpp.infer.selected import SelectedPredictor
from unetpp.labels.decision import MOST_PROBABLE
from unetpp.layouts.dataset import Case
from unetpp.measure.pace import Pace
from unetpp.measured import Scores
from unetpp.metrics.scores import score_case, summarize
from unetpp.plan import DataPlan
from unetpp.progress import Progress
from unetpp.selection import Member, Selection
from unetpp.version import __version__

COMPARED_BY, STUDIED_BY = 0.6, 0.8
"""Fractions of a limited time by which the candidates are compared, and the choice is studied."""


@dataclass(frozen=True, eq=False)
class Choosing:
    """What all stages of a selection share."""

    runs: Sequence[ComparedRun]
    cases: Sequence[Case]
    """Cases that all runs have validated."""
    device: torch.device
    progress: Progress
    started: float
    until: float
    """Time of `time.monotonic` at which it ends."""

    def by(self, share: float) -> float:
        """Time at which a stage ends that has this share of the whole."""
        return self.until if self.until == math.inf else self.started + share * (self.until - self.started)


def select_runs(
    runs: Sequence[ComparedRun],
    cases: Mapping[str, Case],
    device: torch.device,
    progress: Progress,
    max_ms: float | None = None,
    until: float = math.inf,
) -> Selection:
    """Compare all candidates, choose one, and fit its threshold, post-processing and temperature.

    If time is limited, fewer cases are compared, drawn at random.

    Args:
        runs: the runs, which can be compared.
        cases: cases that all have validated, by name.
        device: where to predict.
        progress: display.
        max_ms: milliseconds that an image may take.
        until: time of `time.monotonic` at which it ends.

    Returns:
        What was chosen, without the files of its members.

    Raises:
        UsageError: no candidate is as fast as that.
        DataError: an image or a label that cannot be read.
    """
    job = Choosing(runs, list(cases.values()), device, progress, time.monotonic(), until)
    time_runs(runs, device, progress, job.by(COMPARED_BY))
    predictors, keys = FoldPredictors(runs, device), list_candidates(runs)
    show = progress.stage(f"Comparing {len(keys)} candidates", "cases")
    scored = score_candidates(runs, keys, job.cases, predictors, show, job.by(COMPARED_BY))
    candidates, chosen, reason = judge_candidates(keys, runs, scored.counts, scored.tiles, max_ms)
    draft = Selection(
        format=1,
        unetpp=__version__,
        name=runs[0].plan.name,
        members=tuple(
            Member(run=runs[run].name, size=size, name=runs[run].name_size(size)) for run, size in chosen.members
        ),
        tta=chosen.tta,
        candidates=tuple(candidates),
        cases=tuple(case.id for case in scored.cases),
        cases_shared=len(cases),
        max_ms=max_ms,
        reason=reason,
        notes=tuple(_list_notes(runs, len(scored.cases), len(cases))),
    )
    finished = _fit(job, draft, _make_finder(predictors, chosen, draft), scored.cases)
    return _verify(job, finished, _make_finder(predictors, chosen, finished), scored.cases)


def _list_notes(runs: Sequence[ComparedRun], compared: int, shared: int) -> list[str]:
    """Say what was not compared, and what the figures leave open."""
    every = {case for run in runs for case in run.validated}
    notes = []
    if compared < shared:
        notes.append(
            f"{compared} of {shared} cases that all runs have validated were compared, because the time was over"
        )
    if shared < len(every):
        notes.append(f"{len(every) - shared} of {len(every)} validated cases were left out: not every run has them")
    if any(len(run.files) > 1 for run in runs):
        notes.append(
            "each case was predicted by the fold that has not seen it; all folds together predict other images"
        )
    if any(len(run.sizes.numbers) > 1 for run in runs) and len(runs) > 1:
        notes.append("pairs of runs were compared at their recommended and their largest sizes")
    return notes


def _make_finder(predictors: FoldPredictors, key: Key, selection: Selection) -> Callable[[str], SelectedPredictor]:
    """Make what finds the predictor of a case, of the folds that have not trained on it."""

    def find(case: str) -> SelectedPredictor:
        members = [predictors.find(run, case) for run, _ in key.members]
        return SelectedPredictor(members, selection, selection.name)

    return find


def _fit(job: Choosing, draft: Selection, find: Callable[[str], SelectedPredictor], cases: Sequence[Case]) -> Selection:
    """Fit the temperature, the threshold and the post-processing."""
    data, show = job.runs[0].plan.data, job.progress.stage("Predicting with the choice", "cases")
    with tempfile.TemporaryDirectory(prefix="unetpp-", ignore_cleanup_errors=True) as folder:
        store = study_cases(cases, find, Path(folder), data, show, job.by(STUDIED_BY))
        temperature = fit_temperature(store.probabilities, store.truth)
        thresholds, gain = choose_thresholds(store)
        tried = choose_steps(store, data.scored, job.progress.stage("Trying post-processing", "kinds"))
    return draft.merge(
        Selection(
            members=draft.members,
            temperature=temperature,
            **_name_thresholds(thresholds, data),
            threshold_gain=gain,
            tried=tuple(tried),
            steps=tuple(each.step for each in tried if each.kept),
        )
    )


def _name_thresholds(thresholds: Sequence[float], data: DataPlan) -> dict[str, Any]:
    """Name the thresholds as select.json does."""
    if data.regions is None:
        return {"threshold": thresholds[0]} if thresholds else {}
    pairs = zip(data.scored, thresholds, strict=True)
    return {"region_thresholds": {name: limit for name, limit in pairs if limit != MOST_PROBABLE.threshold}}


def _verify(
    job: Choosing, finished: Selection, find: Callable[[str], SelectedPredictor], cases: Sequence[Case]
) -> Selection:
    """Score the whole of it, as it will predict, and calibrate its expected Dice."""
    data, show = job.runs[0].plan.data, job.progress.stage("Scoring the whole", "cases")
    pace, scores, confidence = Pace(len(cases), job.until), [], []
    for case in pace.limit(cases):
        with failures_of(name_files(case.images)):
            predicted: Prediction = next(iter(find(case.id).predict_case(case).values()))
            reference = read_case_classes(case, data)
            pair = predicted.segmentation, reference
            regions = data.region_indices
            scores.append(score_case(case.id, *pair, data.num_classes, surface_metrics=False, regions=regions))
            confidence.append(predicted.confidence)
        with pace.extra():
            show(pace.done, len(cases))
    found = summarize(scores, (data.classes[0], *data.scored))
    mean = Scores(dice=found.mean.dice, dice_interval=found.mean.dice_interval)
    return finished.merge(
        Selection(
            members=finished.members,
            scores=mean,
            class_dice={name: each.dice for name, each in found.classes.items()},
            calibration=calibrate(confidence, [case.mean.dice for case in found.cases]),
        )
    )
