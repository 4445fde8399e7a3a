"""Scores of several folds together."""

from __future__ import annotations

import numpy as np
import pytest

from unetpp.infer.calibration import calibrate
from unetpp.measure.choose_depth import make_row
from unetpp.measure.pooled import pool_folds
from unetpp.measure.quality import add_depths
from unetpp.measured import DepthRow, DepthTable
from unetpp.metrics.scores import CaseScore, ClassScore, compare_dice, summarize
from unetpp.model_notes import Metrics, Verdict


def make_fold(names: str, lost: float, seed: int) -> Metrics:
    """A fold of one-letter cases, whose depth 1 is worse than depth 2 by about `lost`."""
    rng = np.random.default_rng(seed)
    deep = rng.uniform(0.7, 0.9, len(names))
    quality = {}
    for depth, dice in ((1, deep - lost - rng.uniform(0, 1e-3, len(names))), (2, deep)):
        scores = [CaseScore(name, (score(value), score(value)), "mm") for name, value in zip(names, dice, strict=True)]
        quality[depth] = summarize(scores, ("background", "a", "b"))
    costs = DepthTable(depths={1: DepthRow(latency_ms=1.0), 2: DepthRow(latency_ms=4.0)}, conditions="here")
    table = DepthTable(depths={depth: make_row(found, quality[2]) for depth, found in quality.items()})
    return quality[2].merge(Metrics(cases=add_depths(quality[2], quality))).merge(table.with_costs(costs))


def score(dice: float) -> ClassScore:
    return ClassScore(float(dice), float(dice) - 0.1, 2.0, 0.5, 1, 1, 2)


def test_all_cases_count_alike() -> None:
    folds = [make_fold("abcdef", 0.001, 0), make_fold("gh", 0.002, 1)]
    found = pool_folds(folds)
    dice = [case.mean.dice for fold in folds for case in fold.cases]
    assert found.mean.dice == pytest.approx(np.mean([each or 0.0 for each in dice]))
    assert found.mean.dice_interval and found.classes["b"].cases == 8
    assert found.depths[1].dice_lost == pytest.approx((6 * 0.0015 + 2 * 0.0025) / 8, abs=6e-4)
    assert (found.depths[2].latency_ms, found.conditions, len(found.cases)) == (4.0, "here", 8)
    assert found.recommended and found.recommended.depth == 1
    assert (found.scored, found.surfaces_scored) == ((8, 8), (8, 8))
    assert (found.classes["b"].volume_error, found.classes["b"].volume_limits) == (-50, (-50, -50))
    assert found.depths[2].classes["b"].dice == pytest.approx(found.classes["b"].dice)


def test_one_fold_is_as_it_was() -> None:
    fold = make_fold("abc", 0.001, 0)
    assert pool_folds([fold]) is fold
    lost, interval = compare_dice(fold, fold)
    assert (lost, interval) == (0.0, (0.0, 0.0))


def test_no_depth_is_recommended_without_the_cases_or_before_something_is_learned() -> None:
    folds = [make_fold("abc", 0.001, 0), make_fold("def", 0.001, 1)]
    old = [fold.merge(Metrics(cases=[case.model_copy(update={"depths": {}}) for case in fold.cases])) for fold in folds]
    found = pool_folds(old)
    assert found.recommended is None
    assert found.depths[1].dice == pytest.approx(pool_folds(folds).depths[1].dice)
    verdict = Verdict(kind="too short", reason="", advice="", learned=False)
    assert pool_folds([folds[0], folds[1].merge(Metrics(verdict=verdict))]).recommended is None


def test_cases_of_small_folds_are_calibrated_together() -> None:
    few = calibrate([0.8, 0.9, 0.95], [0.6, 0.8, 0.9])
    folds = [make_fold(names, 0.001, 0) for names in ("abc", "def")]
    folds = [
        fold.merge(Metrics(mean=fold.mean.merge(few), depths={d: row.merge(few) for d, row in fold.depths.items()}))
        for fold in folds
    ]
    found = pool_folds(folds)
    expected = calibrate([0.8, 0.9, 0.95] * 2, [0.6, 0.8, 0.9] * 2)
    for scores in (found.mean, *found.depths.values()):
        assert scores.expected_dice_slope == expected.expected_dice_slope == pytest.approx(2, abs=0.1)
        assert scores.review_below == expected.review_below


def test_nothing_measured_is_nothing() -> None:
    assert pool_folds([Metrics(), Metrics()]).depths == {}
