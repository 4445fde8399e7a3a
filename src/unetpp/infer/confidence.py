"""Confidence of a prediction, estimated without a reference."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from unetpp.infer.prediction import soft_dice
from unetpp.labels.coding_torch import CLASSES, TensorCoding


class Disagreement:
    """Disagreement between predictions of the same voxels.

    0: all are equal; 1: each is certain of another class.
    It is their Jensen-Shannon divergence, the entropy of the mean minus the mean entropy: the part of the uncertainty
    that lies between the predictions (the mutual information of Houlsby et al. 2011, section 2).
    """

    def __init__(self, coding: TensorCoding = CLASSES) -> None:
        self._coding = coding
        self._count = 0
        self._sum: Tensor | None = None
        self._entropies: Tensor | None = None

    def add(self, probabilities: Tensor) -> None:
        """Add a prediction: (B, channels, *spatial), which may be compact."""
        added = self._coding.entropy(probabilities, dim=1)
        self._sum = probabilities.clone() if self._sum is None else self._sum.add_(probabilities)
        self._entropies = added if self._entropies is None else self._entropies.add_(added)
        self._count += 1

    def value(self) -> Tensor:
        """Return the disagreement (B, *spatial) of all predictions added; raises ValueError without any."""
        if self._sum is None or self._entropies is None:
            raise ValueError("predictions: got none; expected at least one.")
        return (self._coding.entropy(self._sum / self._count, dim=1) - self._entropies / self._count).clamp_(0, 1)


class SoftDice:
    """Soft Dice confidence of an image, accumulated band by band.

    If the probabilities are calibrated, the Dice of a class is near
    2 * (probability within its voxels) / (number of its voxels + probability everywhere)
    (Borges et al. 2024, "Soft Dice Confidence", section 4).
    """

    def __init__(self, coding: TensorCoding = CLASSES) -> None:
        self._coding = coding
        self._sums: Tensor | None = None

    def add(self, probabilities: Tensor, indices: Tensor) -> None:
        """Add voxels: probabilities (channels, ...), which may be compact, and class indices (...)."""
        sums = self._coding.soft_counts(probabilities, indices)
        self._sums = sums if self._sums is None else self._sums + sums

    def sums(self) -> np.ndarray | None:
        """Return the sums over all voxels, as `soft_dice` takes them; None without any voxels."""
        return None if self._sums is None else self._sums.cpu().numpy()

    def value(self) -> float | None:
        """Return the mean over the foreground classes that were found; None without any."""
        sums = self.sums()
        return None if sums is None else soft_dice(sums)
