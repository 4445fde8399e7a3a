"""Sums of which the loss of a batch is made: several processes, or parts of a batch, add up theirs.

The Dice loss of a batch is no mean over its parts, and neither is a cross entropy where parts differ in the number of
labeled voxels. Of both, the sums over voxels are.
"""

from __future__ import annotations

import torch
from torch import Tensor

SMOOTH = 1e-5
"""Added to numerator and denominator of Dice, as MONAI's DiceLoss does."""


def count_weight(logits: Tensor, target: Tensor, known: Tensor | None, weights: Tensor | None) -> Tensor:
    """Count what an average of the cross entropy divides by (`losses.cross_entropy`), before it is kept above 0.

    Args:
        logits: (B, C, *spatial).
        target: class indices, or probabilities of the shape of the logits.
        known: whether somebody labeled a voxel, (B, 1, *spatial); None: all are labeled.
        weights: of the voxels of each class; None: all the same, or of regions, whose average ignores them here.
    """
    if weights is not None:
        share = target * weights.view(1, -1, *[1] * (logits.ndim - 2))
        return (share if known is None else share * known).sum()
    return logits.new_tensor(logits[:, 0].numel()) if known is None else known.sum().to(logits.dtype)


def sum_overlap(probabilities: Tensor, classes: Tensor, known: Tensor | None) -> Tensor:
    """Sum what a soft Dice needs, over batch and voxels.

    Args:
        probabilities: (B, C, *spatial).
        classes: the target, of the same shape.
        known: as in `count_weight`; all else counts as neither predicted nor labeled.

    Returns:
        (3, C): intersections, predictions, labels.
    """
    if known is not None:
        probabilities, classes = probabilities * known, classes * known
    axes = [0, *range(2, probabilities.ndim)]
    return torch.stack([(probabilities * classes).sum(axes), probabilities.sum(axes), classes.sum(axes)])


def compute_dice_loss(sums: Tensor) -> Tensor:
    """Compute the soft Dice loss of a batch, the mean over classes, from the sums (3, C) of `sum_overlap`."""
    both, predicted, labeled = sums
    loss: Tensor = (1 - (2 * both + SMOOTH) / (predicted + labeled + SMOOTH)).mean()
    return loss
