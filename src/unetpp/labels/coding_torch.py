"""What the channels of a network mean, for tensors: labels to targets, logits to probabilities and classes.

Probabilities may be compact, to need less memory; every method accepts both forms.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import reduce
from math import log
from typing import final

import torch
from torch import Tensor

from unetpp.labels.decision import Threshold, list_thresholds
from unetpp.plan import DataPlan


class TensorCoding(ABC):
    """The meaning of the channels of a network; the loss, every prediction and exported files go by one of these."""

    @abstractmethod
    def make_targets(self, indices: Tensor, outputs: int) -> Tensor:
        """Encode class indices (B, 1, *spatial) as float32 (B, outputs, *spatial): what probabilities ought to be."""

    @abstractmethod
    def to_probabilities(self, logits: Tensor) -> Tensor:
        """Convert logits (B, outputs, *spatial) to probabilities of the same shape."""

    @abstractmethod
    def compact(self, logits: Tensor) -> Tensor:
        """Convert logits (B, outputs, *spatial) to float32 probabilities, compact if there is such a form."""

    @abstractmethod
    def expand(self, probabilities: Tensor, dim: int = 0) -> Tensor:
        """Expand compact probabilities along `dim` to those of all outputs."""

    @abstractmethod
    def count_outputs(self, channels: int) -> int:
        """Return the number of outputs whose probabilities have so many channels, which may be compact."""

    @abstractmethod
    def count_classes(self, outputs: int) -> int:
        """Return the number of classes, background included, that segmentations of so many outputs have."""

    @abstractmethod
    def class_indices(self, probabilities: Tensor, threshold: Threshold = 0.5) -> Tensor:
        """Find the class of each voxel from probabilities (channels, ...); for the threshold see `Decision`."""

    @abstractmethod
    def find_certainty(self, probabilities: Tensor, dim: int = 0) -> tuple[Tensor, Tensor]:
        """Find the probability of what each voxel is taken for, and where that is foreground; `dim` is removed."""

    @abstractmethod
    def entropy(self, probabilities: Tensor, dim: int = 0) -> Tensor:
        """Compute the entropy along `dim`, which is removed, as a fraction of the largest that there may be: 0 to 1."""

    @abstractmethod
    def soft_counts(self, probabilities: Tensor, indices: Tensor) -> Tensor:
        """Count voxels for soft Dice.

        Args:
            probabilities: probabilities (channels, ...).
            indices: class indices (...).

        Returns:
            (3, scored) float64: for each class or region that is scored the sum of its probabilities, their sum over
            its voxels, and the number of these voxels.
        """


@final
class ClassTensors(TensorCoding):
    """Exclusive classes with a softmax, background first. Compact: of two classes the probability of the second."""

    def make_targets(self, indices: Tensor, outputs: int) -> Tensor:
        """Encode class indices as one-hot."""
        classes = torch.arange(outputs, device=indices.device).view(1, outputs, *[1] * (indices.ndim - 2))
        return (indices == classes).float()

    def to_probabilities(self, logits: Tensor) -> Tensor:
        """Apply softmax over the classes (dimension 1), or a sigmoid to a single channel."""
        return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)

    def compact(self, logits: Tensor) -> Tensor:
        """Convert logits to float32 probabilities, those of two classes in compact form."""
        logits = logits.float()
        return (logits[:, 1:] - logits[:, :1]).sigmoid() if logits.shape[1] == 2 else self.to_probabilities(logits)

    def expand(self, probabilities: Tensor, dim: int = 0) -> Tensor:
        """Expand compact probabilities along `dim` to those of all classes."""
        if probabilities.shape[dim] > 1:
            return probabilities
        # blended tiles may exceed 1 by rounding
        return torch.cat([(1 - probabilities).clamp_(min=0), probabilities], dim)

    def count_outputs(self, channels: int) -> int:
        """Return the number of channels, 2 for a single one."""
        return max(2, channels)

    def count_classes(self, outputs: int) -> int:
        """Return the number of outputs."""
        return outputs

    def class_indices(self, probabilities: Tensor, threshold: Threshold = 0.5) -> Tensor:
        """Find the most probable class; of equal ones the first. Two classes in compact form go by the threshold."""
        (limit,) = list_thresholds(threshold, 1)
        return probabilities[0] > limit if len(probabilities) == 1 else self.most_probable(probabilities)[1]

    def most_probable(self, probabilities: Tensor, dim: int = 0) -> tuple[Tensor, Tensor]:
        """Find the highest probability along `dim`, which is removed, and its class; of equal ones the first."""
        if probabilities.shape[dim] == 1:
            second = probabilities.select(dim, 0)
            return torch.maximum(second, 1 - second), second > 0.5
        # max returns the first of equal ones, as argmax does, in a third to a fifteenth of the time
        highest, indices = torch.max(probabilities, dim=dim)
        return highest, indices

    def find_certainty(self, probabilities: Tensor, dim: int = 0) -> tuple[Tensor, Tensor]:
        """Find the highest probability along `dim`, which is removed, and where it is of a foreground class."""
        highest, indices = self.most_probable(probabilities, dim)
        return highest, indices > 0

    def entropy(self, probabilities: Tensor, dim: int = 0) -> Tensor:
        """Compute the entropy along `dim`, which is removed, as a fraction of that of equally probable classes."""
        every = self.expand(probabilities, dim).clamp(min=0)  # negative numbers have no logarithm
        negative: Tensor = torch.special.xlogy(every, every).sum(dim).div_(log(every.shape[dim])).clamp_(-1, 0)
        return -negative

    def soft_counts(self, probabilities: Tensor, indices: Tensor) -> Tensor:
        """Count voxels for soft Dice, of each foreground class."""
        if len(probabilities) == 1:
            second = probabilities[0]
            return torch.stack([second.sum(), (second * indices).sum(), indices.sum()]).double()[:, None]
        flat, chosen = probabilities.flatten(1), indices.flatten()
        count = len(flat)
        hits = torch.bincount(chosen, weights=flat.gather(0, chosen[None])[0].double(), minlength=count)
        return torch.stack([flat.sum(dim=1), hits, torch.bincount(chosen, minlength=count)]).double()[:, 1:]


CLASSES = ClassTensors()
"""The meaning of channels where no plan says another."""


@final
class RegionTensors(TensorCoding):
    """Regions with a sigmoid each, which may overlap. There is no compact form.

    Args:
        regions: class indices of each region; the first is that of voxels where it is the last region that was found.
        num_classes: number of classes, background included; None: up to the largest index.
    """

    def __init__(self, regions: Sequence[Sequence[int]], num_classes: int | None = None) -> None:
        self.regions = tuple(map(tuple, regions))
        self.num_classes = num_classes or 1 + max(map(max, self.regions))

    def make_targets(self, indices: Tensor, outputs: int) -> Tensor:
        """Encode class indices as one binary channel for each region."""
        return torch.cat([self._find(indices, region) for region in self.regions], dim=1).float()

    def to_probabilities(self, logits: Tensor) -> Tensor:
        """Apply a sigmoid to each region."""
        return logits.sigmoid()

    def compact(self, logits: Tensor) -> Tensor:
        """Convert logits to float32 probabilities."""
        return logits.float().sigmoid()

    def expand(self, probabilities: Tensor, dim: int = 0) -> Tensor:
        """Return the probabilities themselves, of which blended tiles may exceed 1 by rounding."""
        return probabilities.clamp(max=1)

    def count_outputs(self, channels: int) -> int:
        """Return the number of channels."""
        return channels

    def count_classes(self, outputs: int) -> int:
        """Return the number of classes that regions are unions of."""
        return self.num_classes

    def class_indices(self, probabilities: Tensor, threshold: Threshold = 0.5) -> Tensor:
        """Write each region whose probability is above its threshold, later ones over earlier ones."""
        found = torch.zeros(probabilities.shape[1:], dtype=torch.long, device=probabilities.device)
        limits = list_thresholds(threshold, len(self.regions))
        for region, probability, limit in zip(self.regions, probabilities, limits, strict=True):
            found.masked_fill_(probability > limit, region[0])
        return found

    def find_certainty(self, probabilities: Tensor, dim: int = 0) -> tuple[Tensor, Tensor]:
        """Find the certainty of the least certain region along `dim`, which is removed, and where there is any."""
        return torch.maximum(probabilities, 1 - probabilities).amin(dim), (probabilities > 0.5).any(dim)

    def entropy(self, probabilities: Tensor, dim: int = 0) -> Tensor:
        """Average the entropy over the regions along `dim`, which is removed, as a fraction of that of 0.5."""
        found = probabilities.clamp(0, 1)
        total = torch.special.xlogy(found, found) + torch.special.xlogy(1 - found, 1 - found)
        negative: Tensor = total.mean(dim).div_(log(2)).clamp_(-1, 0)
        return -negative

    def soft_counts(self, probabilities: Tensor, indices: Tensor) -> Tensor:
        """Count voxels for soft Dice, of each region."""
        found = []
        for region, probability in zip(self.regions, probabilities, strict=True):
            chosen = self._find(indices, region)
            hits = (probability * chosen).sum(dtype=torch.float64)
            found.append(torch.stack([probability.sum(dtype=torch.float64), hits, chosen.sum().double()]))
        return torch.stack(found, dim=1)

    @staticmethod
    def _find(indices: Tensor, region: Sequence[int]) -> Tensor:
        return reduce(Tensor.logical_or, (indices == index for index in region))


def make_tensor_coding(data: DataPlan) -> TensorCoding:
    """Make what knows the meaning of a network's logits."""
    regions = data.region_indices
    return CLASSES if regions is None else RegionTensors(regions, data.num_classes)


def choose_regions(outputs: int) -> tuple[tuple[int, ...], ...] | None:
    """Choose regions that so many outputs can have, where only their cost counts: a softmax needs two of them."""
    return ((1,),) if outputs == 1 else None


def code_outputs(outputs: int) -> TensorCoding:
    """Make a meaning that so many outputs can have, where only their cost counts."""
    regions = choose_regions(outputs)
    return RegionTensors(regions) if regions else CLASSES
