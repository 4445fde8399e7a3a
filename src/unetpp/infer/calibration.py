"""Calibration of the expected Dice: from confidence, which is too optimistic, to true Dice. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unetpp.measured import Calibration
from unetpp.model_notes import CALIBRATED_CASES
from unetpp.results import LOW

REVIEW_FRACTION = 0.1
"""Fraction of images like the validation cases whose confidence is below the level for review."""
REVIEW_CASES = 9
"""Fewest cases of which a level for that fraction can be told. Of n cases and another one like them, each is the lowest
with a chance of 1/(n + 1): of fewer cases even the lowest is undercut more often."""


def calibrate(confidence: Sequence[float | None], true: Sequence[float | None]) -> Calibration:
    """Fit true Dice on confidence over validation cases; of fewer than 5 cases that have both, these are returned.

    Args:
        confidence: soft Dice confidence of each case.
        true: Dice against the reference of each case.
    """
    both = [
        (guess, dice) for guess, dice in zip(confidence, true, strict=True) if guess is not None and dice is not None
    ]
    if len(both) < CALIBRATED_CASES:
        return Calibration(confidence_and_dice=tuple(both)) if both else Calibration()
    from scipy.stats import spearmanr

    pairs = np.array(both)
    constant = bool((pairs == pairs[0]).all(axis=0).any())
    lines = [_fit_line(np.delete(pairs, number, axis=0)) for number in range(len(pairs))]
    errors = [abs(np.polyval(line, guess) - dice) for line, (guess, dice) in zip(lines, pairs, strict=True)]
    slope, offset = _fit_line(pairs)
    return Calibration(
        expected_dice_correlation=0.0 if constant else float(spearmanr(pairs[:, 0], pairs[:, 1]).statistic),
        review_below=float(np.quantile(pairs[:, 0], REVIEW_FRACTION, method="weibull")),  # of few, the lowest
        calibrated_cases=len(pairs),
        expected_dice_slope=slope,
        expected_dice_offset=offset,
        expected_dice_highest=float(pairs[:, 1].max()),
        expected_dice_error=float(np.mean(errors)),
    )


def join_levels(folds: Sequence[Calibration]) -> Calibration:
    """Join the levels for review of several folds: where one has few cases, the lowest of all.

    Returns:
        The number of cases of all, and that level; empty where it is not known of how many cases a level is.
    """
    known = [fold for fold in folds if fold.review_below is not None]
    cases = [fold.calibrated_cases for fold in known if fold.calibrated_cases is not None]
    if not cases or len(cases) < len(known):
        return Calibration()
    joined = Calibration(calibrated_cases=sum(cases))
    if min(cases) >= REVIEW_CASES:
        return joined
    return joined.merge(Calibration(review_below=min(fold.review_below or 0.0 for fold in known)))


def describe_low(calibration: Calibration) -> str:
    """Say why a case below the level for review is to be reviewed: of few cases, that it is below all of them."""
    cases = calibration.calibrated_cases
    if cases is None or cases >= REVIEW_CASES:  # an earlier version did not note the number
        return LOW
    level = "" if calibration.review_below is None else f"confidence below {calibration.review_below:.3g}; "
    return f"{LOW}, below all {cases} validation cases ({level}by chance 1 in {cases + 1})"


def calibrate_together(folds: Sequence[Calibration]) -> Calibration:
    """Fit one line over the cases of several folds, each of which has too few; empty if one of them has its own.

    Their networks differ, but were trained alike: what the confidence of one is worth, that of another is.
    """
    if any(fold.expected_dice_slope is not None for fold in folds):
        return Calibration()
    pairs = [pair for fold in folds for pair in fold.confidence_and_dice]
    return calibrate([confidence for confidence, _ in pairs], [dice for _, dice in pairs])


def _fit_line(pairs: np.ndarray) -> tuple[float, float]:
    """Fit slope and offset by least squares. The slope is at least 0: more confidence never predicts a lower Dice."""
    guess, dice = pairs.T - pairs.mean(axis=0)[:, None]
    slope = max(0.0, float(guess @ dice / (guess @ guess))) if guess.any() else 0.0
    return slope, float(pairs[:, 1].mean() - slope * pairs[:, 0].mean())
