"""Scores of a model at every depth on labelled cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

import numpy as np

from unetpp.data.case_files import name_files, name_label, read_case_classes
from unetpp.errors import failures_of
from unetpp.infer.calibration import calibrate
from unetpp.infer.options import PredictOptions
from unetpp.infer.prediction import Prediction
from unetpp.layouts.dataset import Case
from unetpp.measure.pace import Pace, choose_order
from unetpp.measured import ScoredCase
from unetpp.metrics.scores import CaseScore, score_case, summarize
from unetpp.model_notes import Metrics
from unetpp.plan import Plan

Show = Callable[[int, int], None]
"""Called with (cases done, cases in all)."""
Look = Callable[[Case, np.ndarray, Mapping[int, Prediction]], None]
"""Called with a case, its reference (class indices) and its predictions by depth."""


class DepthPredictor(Protocol):
    """Predicts a case at several depths, as `infer.predictor.Predictor` does."""

    @property
    def plan(self) -> Plan: ...

    def predict_case(self, case: Case, options: PredictOptions) -> Mapping[int, Prediction]: ...


def evaluate_cases(
    predictor: DepthPredictor,
    cases: Sequence[Case],
    depths: Sequence[int] | Literal["all"] = "all",
    mean: bool = False,
    progress: Show = lambda done, total: None,
    until: float = math.inf,
    look: Look = lambda case, reference, predicted: None,
) -> dict[int, Metrics]:
    """Score a model on labelled cases, on the grid of their files; one pass computes all depths.

    If time is limited, the Dice of all cases comes first: distances between surfaces are measured only while there is
    time for the other cases too. At least one case is scored; cases are drawn at random, so that they stand for all.

    Args:
        predictor: the model.
        cases: cases with labels.
        depths: the depths to score.
        mean: score the mean of all heads too, at MEAN.
        progress: called with (cases done, cases in all).
        until: time of `time.monotonic` at which scoring ends.
        look: called with every case that has been predicted, such as to draw it.

    Returns:
        depth -> metrics as `summarize` returns them, with the expected Dice of each case and its calibration.

    Raises:
        DataError: an image or label that cannot be read.
    """
    plan = predictor.plan.data
    options = PredictOptions(depth="all and mean" if mean else "all")
    pace = Pace(len(cases), until)
    scores: dict[int, dict[int, CaseScore]] = {}
    confidence: dict[int, dict[int, float | None]] = {}
    for place in pace.limit(range(len(cases)) if until == math.inf else choose_order(len(cases))):
        case = cases[place]
        with failures_of(name_label(case)):
            reference = read_case_classes(case, plan)
        with failures_of(name_files(case.images)):
            predicted = predictor.predict_case(case, options)
        look(case, reference, predicted)
        with pace.extra() as surfaces:
            for depth, found in predicted.items():
                if depths == "all" or depth in depths:
                    spacing = found.geometry.spacing_mm
                    pair, number = (found.segmentation, reference), plan.num_classes
                    parts = plan.region_indices
                    score = score_case(case.id, *pair, number, spacing, surface_metrics=surfaces, regions=parts)
                    scores.setdefault(depth, {})[place] = score
                    confidence.setdefault(depth, {})[place] = found.confidence
        progress(pace.done, len(cases))
    places = sorted(next(iter(scores.values()), {}))  # in the order of the cases

    def summarize_depth(depth: int) -> Metrics:
        found = summarize([scores[depth][place] for place in places], (plan.classes[0], *plan.scored))
        return _calibrate(found, [confidence[depth][place] for place in places])

    return {depth: summarize_depth(depth) for depth in sorted(scores)}


def add_depths(chosen: Metrics, quality: Mapping[int, Metrics]) -> tuple[ScoredCase, ...]:
    """Add the Dice at every depth to the cases of one depth, so that folds can be pooled.

    Args:
        chosen: scores at one depth.
        quality: those at every depth, of the same cases in the same order.
    """
    each = zip(chosen.cases, *(found.cases for found in quality.values()), strict=True)
    return tuple(
        case.merge(ScoredCase(id=case.id, depths=dict(zip(quality, [at.mean.dice for at in all_], strict=True))))
        for case, *all_ in each
    )


def _calibrate(metrics: Metrics, confidence: Sequence[float | None]) -> Metrics:
    """Add the confidence and the expected Dice of each case, and the calibration of all of them."""
    calibration = calibrate(confidence, [case.mean.dice for case in metrics.cases])
    cases = [
        case.merge(ScoredCase(id=case.id, confidence=value, expected_dice=calibration.expect_dice(value)))
        for case, value in zip(metrics.cases, confidence, strict=True)
    ]
    return metrics.merge(Metrics(mean=metrics.mean.merge(calibration), cases=cases))
