"""Calibration of the expected Dice: true Dice of validation cases, fitted on their confidence. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unetpp.measured import CALIBRATED_CASES, Calibration

REVIEW_FRACTION = 0.1
"""Fraction of the validation cases, those with the lowest confidence, that sets the level for review."""


def calibrate(confidence: Sequence[float | None], true: Sequence[float | None]) -> Calibration:
    """Fit true Dice on confidence over validation cases; empty for fewer than 5 cases that have both.

    Args:
        confidence: soft Dice confidence of each case.
        true: Dice against the reference of each case.
    """
    both = [
        (guess, dice) for guess, dice in zip(confidence, true, strict=True) if guess is not None and dice is not None
    ]
    if len(both) < CALIBRATED_CASES:
        return Calibration()
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
        expected_dice_error=float(np.mean(errors)),
    )


def _fit_line(pairs: np.ndarray) -> tuple[float, float]:
    """Fit slope and offset by least squares. The slope is at least 0: more confidence never predicts a lower Dice."""
    guess, dice = pairs.T - pairs.mean(axis=0)[:, None]
    slope = max(0.0, float(guess @ dice / (guess @ guess))) if guess.any() else 0.0
    return slope, float(pairs[:, 1].mean() - slope * pairs[:, 0].mean())
