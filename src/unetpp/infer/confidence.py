"""How good a segmentation probably is, said without a reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from unetpp.labels.classes_torch import entropy, soft_counts
from unetpp.measured import Calibration

REVIEWED = 0.1
"""Share of the validation cases, those with the lowest expected Dice, that sets the level below which a case is one to look at."""


class Disagreement:
    """How far several answers for the same voxels are apart: 0 where they are the same, 1 where each is sure of something else.

    It is their Jensen-Shannon divergence, the entropy of the mean less the mean of the entropies: what of the doubt is between the answers, not within each
    (the mutual information of Houlsby et al. 2011, section 2).
    """

    def __init__(self) -> None:
        self._answers = 0
        self._sum: Tensor | None = None
        self._entropies: Tensor | None = None

    def add(self, probabilities: Tensor) -> None:
        """Add an answer: (B, channels, *spatial), of two classes the probability of the second."""
        own = entropy(probabilities, dim=1)
        self._sum = probabilities.clone() if self._sum is None else self._sum.add_(probabilities)
        self._entropies = own if self._entropies is None else self._entropies.add_(own)
        self._answers += 1

    def value(self) -> Tensor:
        """(B, *spatial) of all that was added."""
        if self._sum is None or self._entropies is None:
            raise ValueError("answers: got none; expected at least one.")
        return (entropy(self._sum / self._answers, dim=1) - self._entropies / self._answers).clamp_(0, 1)


class SoftDice:
    """The soft Dice confidence of an image, summed up band by band.

    If the probabilities are right, the Dice of a class is near 2 * (probability within its voxels) / (its voxels + probability everywhere) (Borges et al. 2024, "Soft
    Dice Confidence", section 4).
    """

    def __init__(self) -> None:
        self._sums: Tensor | None = None

    def add(self, probabilities: Tensor, indices: Tensor) -> None:
        """Add voxels: probabilities (channels, ...), of two classes that of the second, and the class of each."""
        sums = soft_counts(probabilities, indices)
        self._sums = sums if self._sums is None else self._sums + sums

    def value(self) -> float | None:
        """Mean over the foreground classes that were found; None where there are none."""
        if self._sums is None:
            return None
        total, hits, voxels = self._sums.cpu().numpy()
        found = voxels > 0
        return float(np.mean(2 * hits[found] / (voxels[found] + total[found]))) if found.any() else None


def calibrate(expected: Sequence[float | None], true: Sequence[float | None]) -> Calibration:
    """What expected Dice is worth, from validation cases that have both; empty for fewer than 5 of them.

    Returns:
        expected_dice_correlation: its rank correlation (Spearman) with the true Dice;
        review_below: the level below which a case should be looked at;
        predicted_dice_slope, predicted_dice_offset: the straight line from the expected Dice, which is too sure of itself, to the true one;
        predicted_dice_error: how far that is off, the mean over cases of which each is left out of the fit in turn.
    """
    pairs = np.array(
        [(guess, dice) for guess, dice in zip(expected, true, strict=True) if guess is not None and dice is not None]
    )
    if len(pairs) < 5:
        return Calibration()
    from scipy.stats import spearmanr

    constant = bool((pairs == pairs[0]).all(axis=0).any())
    others = [np.delete(pairs, number, axis=0) for number in range(len(pairs))]
    errors = [abs(np.polyval(_line(rest), guess) - dice) for rest, (guess, dice) in zip(others, pairs, strict=True)]
    slope, offset = _line(pairs)
    return Calibration(
        expected_dice_correlation=0.0 if constant else float(spearmanr(pairs[:, 0], pairs[:, 1]).statistic),
        review_below=float(np.quantile(pairs[:, 0], REVIEWED)),
        predicted_dice_slope=slope,
        predicted_dice_offset=offset,
        predicted_dice_error=float(np.mean(errors)),
    )


def _line(pairs: np.ndarray) -> tuple[float, float]:
    """Slope and offset of the line of least squares; it never falls, for a higher expected Dice promises no lower one."""
    guess, dice = pairs.T - pairs.mean(axis=0)[:, None]
    slope = max(0.0, float(guess @ dice / (guess @ guess))) if guess.any() else 0.0
    return slope, float(pairs[:, 1].mean() - slope * pairs[:, 0].mean())
