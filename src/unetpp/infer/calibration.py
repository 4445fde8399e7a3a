"""Calibration of the expected Dice: from confidence, which is too optimistic, to true Dice. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unetpp.measured import CALIBRATED_CASES, Calibration

REVIEW_FRACTION = 0.1
"""Fraction of the validation cases, those with the lowest confidence, that sets the level for review."""


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
        review_below=float(np.quantile(pairs[:, 0], REVIEW_FRACTION)),
        expected_dice_slope=slope,
        expected_dice_offset=offset,
        expected_dice_highest=float(pairs[:, 1].max()),
        expected_dice_error=float(np.mean(errors)),
    )


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
