"""Deep supervision: one loss for each head, weighted (Zhou et al. 2018, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unetpp.errors import UsageError
from unetpp.labels.classes_torch import one_hot


class HeadLogits(Protocol):
    """Logits of several heads, such as `model.network.HeadOutputs`."""

    @property
    def depths(self) -> tuple[int, ...]:
        """Depths of the heads."""

    @property
    def logits(self) -> tuple[Tensor, ...]:
        """Logits (B, classes, *spatial) of each head."""


Loss = Callable[[Tensor, Tensor], Tensor]
"""From logits (B, classes, *spatial) and the target to a scalar."""


class DeepSupervisionLoss(nn.Module):
    """A loss at every head: cross entropy plus soft Dice (MONAI's DiceCELoss), or any loss of yours.

        criterion = unetpp.DeepSupervisionLoss()  # or DeepSupervisionLoss(loss=torch.nn.CrossEntropyLoss())
        loss = criterion(net(images, heads=True), target)

    Train with `heads=True`: a network that is trained by `net(images)` alone learns at its deepest head, and its
    shallow heads, and what is pruned to them, return noise.

    The Dice term covers the foreground classes over the whole batch, so that patches without foreground do no harm. It
    is computed in float32 for any precision of the logits.

    Args:
        head_weights: weight of the head of depth 1, 2, ..., scaled to sum 1 over the heads of the output; "equal": the
            same for all.
        cross_entropy_weight: weight of the cross entropy.
        dice_weight: weight of the Dice loss.
        ignored: class index of voxels that nobody labeled, which both terms leave out; None: there are none.
        loss: loss(logits, target) of a head instead of these two terms; it gets the target as it is.

    Raises:
        UsageError: both terms have the weight 0, or `ignored` is given with a `loss`, which has to do that itself.
    """

    def __init__(
        self,
        head_weights: Literal["equal"] | Sequence[float] = "equal",
        cross_entropy_weight: float = 1.0,
        dice_weight: float = 1.0,
        ignored: int | None = None,
        *,
        loss: Loss | None = None,
    ) -> None:
        super().__init__()
        if cross_entropy_weight + dice_weight <= 0:
            raise UsageError(
                "train.cross_entropy_weight, train.dice_weight",
                f"{cross_entropy_weight} and {dice_weight}",
                "one of them above 0",
                "Use `train.dice_weight=1`.",
                setting="train.dice_weight",
            )
        if loss is not None and ignored is not None:
            action = "Give it to your loss, such as torch.nn.CrossEntropyLoss(ignore_index=255)."
            raise UsageError("ignored", f"{ignored} with a loss of your own", "one of the two", action)
        self.head_weights = head_weights if isinstance(head_weights, str) else tuple(head_weights)
        self.cross_entropy_weight = cross_entropy_weight
        self.dice_weight = dice_weight
        self.ignored = ignored
        self.loss = loss
        if loss is None:
            from monai.losses import DiceLoss, MaskedDiceLoss  # here, because importing MONAI takes seconds

            dice = DiceLoss if ignored is None else MaskedDiceLoss
            self.dice = dice(softmax=True, batch=True, include_background=False)

    def forward(self, outputs: HeadLogits, target: Tensor) -> Tensor:
        """Compute the weighted sum of the losses of all heads.

        Args:
            outputs: logits of the heads, (B, classes, *spatial) each: what `net(images, heads=True)` returns.
            target: class indices (B, 1, *spatial) or (B, *spatial), of integers; for a `loss`, what it takes.

        Returns:
            The loss, a scalar, in float32 unless a `loss` returns another; 0 if nobody labeled a voxel of the batch.

        Raises:
            UsageError: logits of one head alone, fewer weights than heads, or one logit, which needs a `loss`.
        """
        if isinstance(outputs, Tensor):
            action = "Call the network with `heads=True`: net(images, heads=True)."
            raise UsageError("outputs", "a tensor", "the logits of all heads", action)
        losses = self._head_losses(outputs.logits, target)
        weights = self._weights(outputs.depths)
        return torch.stack([weight * loss for weight, loss in zip(weights, losses, strict=True)]).sum()

    def _head_losses(self, heads: Sequence[Tensor], target: Tensor) -> list[Tensor]:
        if self.loss is not None:
            return [self.loss(logits, target) for logits in heads]
        channels = heads[0].shape[1]
        if channels == 1:
            action = "Build it with `out_channels=2`, or pass a loss such as monai.losses.DiceCELoss(sigmoid=True)."
            raise UsageError("outputs", "one logit", "one for each class, background first", action)
        target = (target if target.ndim == heads[0].ndim else target[:, None]).long()
        classes = one_hot(target, channels) if self.dice_weight else None
        return [self._head_loss(logits.float(), target, classes) for logits in heads]

    def _head_loss(self, logits: Tensor, target: Tensor, classes: Tensor | None) -> Tensor:
        loss = logits.new_zeros(())
        if self.cross_entropy_weight:
            loss = loss + self.cross_entropy_weight * self._cross_entropy(logits, target)
        if classes is not None:
            mask = () if self.ignored is None else ((target != self.ignored).float(),)
            loss = loss + self.dice_weight * self.dice(logits, classes, *mask)
        return loss

    def _cross_entropy(self, logits: Tensor, target: Tensor) -> Tensor:
        """Average over the labeled voxels; a batch may have none."""
        if self.ignored is None:
            return F.cross_entropy(logits, target[:, 0])
        total = F.cross_entropy(logits, target[:, 0], ignore_index=self.ignored, reduction="sum")
        return total / (target != self.ignored).sum().clamp(min=1)

    def _weights(self, depths: tuple[int, ...]) -> list[float]:
        if self.head_weights == "equal":
            return [1 / len(depths)] * len(depths)
        if max(depths) > len(self.head_weights):
            expected = f"one for each head up to depth {max(depths)}"
            raise UsageError("train.head_weights", f"{len(self.head_weights)} numbers", expected, "Change it.")
        weights = [float(self.head_weights[depth - 1]) for depth in depths]
        return [weight / sum(weights) for weight in weights]
