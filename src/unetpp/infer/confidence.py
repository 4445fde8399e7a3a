"""How good a segmentation probably is, said without a reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

REVIEWED = 0.1
"""Share of the validation cases, those with the lowest expected Dice, that sets the level below which a case is one to look at."""


class SoftDice:
    """The soft Dice confidence of an image, summed up band by band.

    If the probabilities are right, the Dice of a class is near 2 * (probability within its voxels) / (its voxels + probability everywhere) (Borges et al. 2024, "Soft
    Dice Confidence", section 4).
    """

    def __init__(self) -> None:
        self._sums: Tensor | None = None

    def add(self, probabilities: Tensor, indices: Tensor) -> None:
        """Add voxels: probabilities (channels, ...), of two classes that of the second, and the class of each."""
        if len(probabilities) == 1:
            of_class = probabilities[0]
            sums = torch.stack([of_class.sum(), (of_class * indices).sum(), indices.sum()]).double()[:, None]
        else:
            flat, chosen = probabilities.flatten(1), indices.flatten()
            count = len(flat)
            hits = torch.bincount(chosen, weights=flat.gather(0, chosen[None])[0].double(), minlength=count)
            sums = torch.stack([flat.sum(dim=1), hits, torch.bincount(chosen, minlength=count)]).double()[:, 1:]
        self._sums = sums if self._sums is None else self._sums + sums

    def value(self) -> float | None:
        """Mean over the foreground classes that were found; None where there are none."""
        if self._sums is None:
            return None
        total, hits, voxels = self._sums.cpu().numpy()
        found = voxels > 0
        return float(np.mean(2 * hits[found] / (voxels[found] + total[found]))) if found.any() else None


def review_level(expected: Sequence[float | None], true: Sequence[float | None]) -> dict[str, float] | None:
    """What expected Dice is worth, from validation cases: its rank correlation (Spearman) with the true one, and the level below which a case should be looked at.

    None for fewer than 5 cases that have both.
    """
    pairs = np.array([(guess, dice) for guess, dice in zip(expected, true, strict=True) if guess is not None and dice is not None])
    if len(pairs) < 5:
        return None
    from scipy.stats import spearmanr

    constant = bool((pairs == pairs[0]).all(axis=0).any())
    correlation = 0.0 if constant else float(spearmanr(pairs[:, 0], pairs[:, 1]).statistic)
    return {"expected_dice_correlation": correlation, "review_below": float(np.quantile(pairs[:, 0], REVIEWED))}
