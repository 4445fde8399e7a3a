"""What the channels of a network mean, for NumPy arrays; `coding_torch` has the same for tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

import numpy as np

from unetpp.labels.classes import find_region
from unetpp.labels.decision import Threshold, list_thresholds


class Coding(ABC):
    """The meaning of the channels of a network: from probabilities (outputs, *spatial) to class indices and numbers."""

    @abstractmethod
    def fill_indices(self, probabilities: np.ndarray, indices: np.ndarray, threshold: Threshold = 0.5) -> np.ndarray:
        """Find the class of each voxel.

        Args:
            probabilities: (outputs, *spatial).
            indices: array (*spatial) to fill with class indices.
            threshold: see `Decision`.

        Returns:
            `indices`.
        """

    @abstractmethod
    def entropy(self, probabilities: np.ndarray) -> np.ndarray:
        """Compute the entropy (*spatial), as a fraction of the largest that there may be: 0 to 1."""

    @abstractmethod
    def soft_counts(self, probabilities: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Count voxels for soft Dice; arguments and result as of `TensorCoding.soft_counts`, not compact."""


@final
class ClassArrays(Coding):
    """Exclusive classes, background first."""

    def fill_indices(self, probabilities: np.ndarray, indices: np.ndarray, threshold: Threshold = 0.5) -> np.ndarray:
        """Find the most probable class of each voxel; of equal ones the first. Two classes go by the threshold."""
        (limit,) = list_thresholds(threshold, 1)
        if len(probabilities) == 2 and limit != 0.5:
            indices[...] = probabilities[1] > limit
            return indices
        best = np.full(indices.shape, -np.inf, dtype=np.float32)
        indices[...] = 0
        for index, probability in enumerate(probabilities):
            indices[probability > best] = index
            np.maximum(best, probability, out=best)
        return indices

    def entropy(self, probabilities: np.ndarray) -> np.ndarray:
        """Compute the entropy along the first axis, as a fraction of that of equally probable classes: 0 to 1."""
        total = np.zeros(probabilities.shape[1:], dtype=np.float32)
        for probability in probabilities:
            total += probability * np.log(np.maximum(probability, np.finfo(np.float32).tiny))
        uncertainty: np.ndarray = np.clip(-total / np.log(len(probabilities)), 0, 1)
        return uncertainty

    def soft_counts(self, probabilities: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Count voxels for soft Dice, of each foreground class."""
        found = []
        for index, probability in enumerate(probabilities[1:], start=1):
            chosen = indices == index
            hits = probability.sum(where=chosen, dtype=np.float64)
            found.append((probability.sum(dtype=np.float64), hits, chosen.sum()))
        return np.array(found, dtype=np.float64).T


@final
class RegionArrays(Coding):
    """Regions that may overlap, each with a probability of its own.

    Args:
        regions: class indices of each region; the first is that of voxels where it is the last region that was found.
    """

    def __init__(self, regions: Sequence[Sequence[int]]) -> None:
        self.regions = regions

    def fill_indices(self, probabilities: np.ndarray, indices: np.ndarray, threshold: Threshold = 0.5) -> np.ndarray:
        """Write each region whose probability is above its threshold, later ones over earlier ones."""
        indices[...] = 0
        limits = list_thresholds(threshold, len(self.regions))
        for region, probability, limit in zip(self.regions, probabilities, limits, strict=True):
            indices[probability > limit] = region[0]
        return indices

    def entropy(self, probabilities: np.ndarray) -> np.ndarray:
        """Average the entropy over the regions, as a fraction of that of 0.5: 0 to 1."""
        tiny, total = np.finfo(np.float32).tiny, np.zeros(probabilities.shape[1:], dtype=np.float32)
        for probability in probabilities:
            for each in (probability, 1 - probability):
                total += each * np.log2(np.maximum(each, tiny))
        uncertainty: np.ndarray = np.clip(-total / len(probabilities), 0, 1)
        return uncertainty

    def soft_counts(self, probabilities: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Count voxels for soft Dice, of each region."""
        found = []
        for region, probability in zip(self.regions, probabilities, strict=True):
            chosen = find_region(indices, region)
            hits = probability.sum(where=chosen, dtype=np.float64)
            found.append((probability.sum(dtype=np.float64), hits, chosen.sum()))
        return np.array(found, dtype=np.float64).T
