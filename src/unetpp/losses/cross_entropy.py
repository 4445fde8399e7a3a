"""Cross entropy of a head, averaged over labeled voxels: of class indices, of probabilities of classes, of regions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def average_indices(logits: Tensor, target: Tensor, ignored: int | None) -> Tensor:
    """Average the cross entropy of class indices.

    Args:
        logits: (B, classes, *spatial).
        target: class indices (B, 1, *spatial).
        ignored: class index of voxels that nobody labeled, of which a batch may have no other; None: there are none.
    """
    if ignored is None:
        return F.cross_entropy(logits, target[:, 0])
    total = F.cross_entropy(logits, target[:, 0], ignore_index=ignored, reduction="sum")
    return total / (target != ignored).sum().clamp(min=1)


def average_probabilities(logits: Tensor, target: Tensor, known: Tensor | None, weights: Tensor | None) -> Tensor:
    """Average the cross entropy of probabilities of classes.

    Args:
        logits: (B, classes, *spatial).
        target: probabilities of the same shape.
        known: whether somebody labeled a voxel, (B, 1, *spatial); None: all are labeled.
        weights: of the voxels of each class; a voxel of several classes has the mean of theirs. None: all the same.
    """
    if weights is not None:
        share = target * _along_channels(weights, logits)
        share = share if known is None else share * known
        return -(share * logits.log_softmax(dim=1)).sum() / share.sum().clamp(min=torch.finfo(share.dtype).tiny)
    if known is None:
        return F.cross_entropy(logits, target)
    return (F.cross_entropy(logits, target, reduction="none") * known[:, 0]).sum() / known.sum().clamp(min=1)


def average_regions(logits: Tensor, target: Tensor, known: Tensor | None, weights: Tensor | None) -> Tensor:
    """Average the binary cross entropy over voxels and regions.

    Args:
        logits: (B, regions, *spatial).
        target: probabilities of the same shape.
        known: as in `average_probabilities`.
        weights: of each region; None: all the same.
    """
    every = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    if weights is not None:
        every = every * _along_channels(weights / weights.mean(), logits)
    every = every.mean(dim=1, keepdim=True)
    return every.mean() if known is None else (every * known).sum() / known.sum().clamp(min=1)


def _along_channels(weights: Tensor, logits: Tensor) -> Tensor:
    return weights.view(1, -1, *[1] * (logits.ndim - 2))
