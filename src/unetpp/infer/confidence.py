"""Confidence of a prediction, estimated without a reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from unetpp.infer.prediction import soft_dice
from unetpp.labels.classes_torch import entropy, soft_counts
from unetpp.measured import CALIBRATED_CASES, Calibration

REVIEW_FRACTION = 0.1
"""Fraction of the validation cases, those with the lowest confidence, that sets the level for review."""


class Disagreement:
    """Disagreement between predictions of the same voxels.

    0: all are equal; 1: each is certain of another class.
    It is their Jensen-Shannon divergence, the entropy of the mean minus the mean entropy: the part of the uncertainty
    that lies between the predictions (the mutual information of Houlsby et al. 2011, section 2).
    """

    def __init__(self) -> None:
        self._count = 0
        self._sum: Tensor | None = None
        self._entropies: Tensor | None = None

    def add(self, probabilities: Tensor) -> None:
        """Add a prediction: (B, channels, *spatial); for two classes, the probability of the second alone."""
        added = entropy(probabilities, dim=1)
        self._sum = probabilities.clone() if self._sum is None else self._sum.add_(probabilities)
        self._entropies = added if self._entropies is None else self._entropies.add_(added)
        self._count += 1

    def value(self) -> Tensor:
        """Return the disagreement (B, *spatial) of all predictions added; raises ValueError without any."""
        if self._sum is None or self._entropies is None:
            raise ValueError("predictions: got none; expected at least one.")
        return (entropy(self._sum / self._count, dim=1) - self._entropies / self._count).clamp_(0, 1)


class SoftDice:
    """Soft Dice confidence of an image, accumulated band by band.

    If the probabilities are calibrated, the Dice of a class is near
    2 * (probability within its voxels) / (number of its voxels + probability everywhere)
    (Borges et al. 2024, "Soft Dice Confidence", section 4).
    """

    def __init__(self) -> None:
        self._sums: Tensor | None = None

    def add(self, probabilities: Tensor, indices: Tensor) -> None:
        """Add voxels: probabilities (channels, ...), for two classes of the second alone, and class indices (...)."""
        sums = soft_counts(probabilities, indices)
        self._sums = sums if self._sums is None else self._sums + sums

    def sums(self) -> np.ndarray | None:
        """Return the sums over all voxels, as `soft_dice` takes them; None without any voxels."""
        return None if self._sums is None else self._sums.cpu().numpy()

    def value(self) -> float | None:
        """Return the mean over the foreground classes that were found; None without any."""
        sums = self.sums()
        return None if sums is None else soft_dice(sums)


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
