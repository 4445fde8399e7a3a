"""Deep supervision: one loss for each head, weighted (Zhou et al. 2018, section 3.2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from operator import index
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo

from unetpp.errors import UsageError
from unetpp.labels.coding_torch import CLASSES, RegionTensors, TensorCoding
from unetpp.losses.voxel_sums import VoxelSums, sum_voxels

SMOOTH = 1e-5
"""Added to numerator and denominator of Dice, as MONAI's DiceLoss does."""


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
ARGUMENTS = (
    "head_weights",
    "cross_entropy_weight",
    "dice_weight",
    "ignored",
    "distillation",
    "loss",
    "regions",
    "class_weights",
)


class DeepSupervisionLoss(nn.Module):
    """A loss at every head: cross entropy plus soft Dice (MONAI's DiceCELoss), or any loss of yours.

        criterion = unetpp.DeepSupervisionLoss()  # or DeepSupervisionLoss(loss=torch.nn.CrossEntropyLoss())
        loss = criterion(net(images, heads=True), target)

    The two terms are computed a piece of the batch at a time, and have no second derivative.

    Train with `heads=True`: a network that is trained by `net(images)` alone learns at its largest size, and its other
    heads, and what is pruned to them, return noise.

    The Dice term covers the foreground classes over the whole batch, so that patches without foreground do no harm. It
    is computed in float32 for any precision of the logits.

    Args:
        head_weights: a weight for each head, in the order of `net.head_depths`, or for each depth 1, 2, ..., with or
            without a head; scaled to sum 1. "equal": the same for all.
        cross_entropy_weight: weight of the cross entropy.
        dice_weight: weight of the Dice loss.
        ignored: class index of voxels that nobody labeled, which both terms leave out; None: there are none.
        distillation: the target of all heads but the last is the probabilities of the last one instead of the labels
            (in-place distillation; Yu and Huang 2019, section 3.2): small sizes learn what the largest can tell.
        loss: loss(logits, target) of a head instead of these two terms; it gets the target as it is.
        regions: class indices of each logit, as ((1, 2, 3), (2, 3), (3,)): regions that may overlap, each with a
            sigmoid and a binary cross entropy; None: exclusive classes with a softmax.
        class_weights: weight of the voxels of each class in the cross entropy, background first (with `regions`: of
            each region); None: all the same. Dice gives each class the same weight.

    Raises:
        UsageError: both terms have the weight 0, weights of heads that are no weights, a `loss` that is no function, or
            `ignored`, `distillation`, `regions` or `class_weights` with a `loss`, which has to do that itself.
    """

    def __init__(
        self,
        head_weights: Literal["equal"] | Sequence[float] = "equal",
        cross_entropy_weight: float = 1.0,
        dice_weight: float = 1.0,
        ignored: int | None = None,
        distillation: bool = False,
        *,
        loss: Loss | None = None,
        regions: Sequence[Sequence[int]] | None = None,
        class_weights: Sequence[float] | None = None,
        **others: Any,
    ) -> None:
        super().__init__()
        if others:
            name = next(iter(others))
            own = "`ignored` is" if name in ("ignore_index", "ignore_label") else ", ".join(ARGUMENTS) + " are"
            raise UsageError(name, "an unknown argument", f"those of DeepSupervisionLoss: {own} here", "Change it.")
        if min(cross_entropy_weight, dice_weight) < 0 or cross_entropy_weight + dice_weight <= 0:
            got = f"{cross_entropy_weight} and {dice_weight}"
            expected = "weights of at least 0, one of them above 0"
            raise UsageError("cross_entropy_weight, dice_weight", got, expected, "Use `dice_weight=1`.")
        own_loss: Any = loss
        if own_loss is not None and not callable(own_loss):
            action = "Pass a function or a module, such as torch.nn.CrossEntropyLoss()."
            raise UsageError("loss", repr(own_loss), "loss(logits, target)", action)
        if loss is not None:
            given = {"ignored": ignored, "distillation": distillation or None, "regions": regions}
            _require_none_of(given | {"class_weights": class_weights})
        self.head_weights = _check_weights(head_weights)
        self.cross_entropy_weight = cross_entropy_weight
        self.dice_weight = dice_weight
        self.ignored = ignored
        self.distillation = distillation
        self.loss = loss
        self.regions = () if regions is None else _check_regions(regions)
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", _check_class_weights(class_weights), persistent=False)
        self.coding: TensorCoding = RegionTensors(self.regions) if self.regions else CLASSES

    # dynamo cannot read the gradient of the sums; torch.compiler.disable imports it, which takes a second, at once
    @_disable_dynamo
    def forward(self, outputs: HeadLogits, target: Tensor) -> Tensor:
        """Compute the weighted sum of the losses of all heads.

        Args:
            outputs: logits of the heads, (B, classes, *spatial) each: what `net(images, heads=True)` returns.
            target: class indices (B, 1, *spatial) or (B, *spatial), of integers; for a `loss`, what it takes.

        Returns:
            The loss, a scalar, in float32 unless a `loss` returns another; 0 if nobody labeled a voxel of the batch.

        Raises:
            UsageError: logits of one head alone, another number of weights than of heads, one logit, which needs a
                `loss`, or a target that is no class indices.
        """
        if not hasattr(outputs, "logits"):
            action = "Call the network with `heads=True`: net(images, heads=True)."
            got = "a tensor" if isinstance(outputs, Tensor) else type(outputs).__name__
            raise UsageError("outputs", got, "the logits of all heads", action)
        if self.loss is None:
            return self.combine(self.list_sums(outputs, target), outputs.depths)
        return self._add_heads([self.loss(logits, target) for logits in outputs.logits], outputs.depths)

    def list_sums(self, outputs: HeadLogits, target: Tensor) -> Tensor:
        """Compute the sums of which the loss is made, for parts of a batch: those of all parts add up.

        Args:
            outputs: as for `forward`.
            target: class indices, as for `forward`.

        Returns:
            (heads, 5, C) float32, the input of `combine`.
        """
        *inner, last = outputs.logits
        channels = last.shape[1]
        if self.class_weights is not None and len(self.class_weights) != channels:
            expected = f"{channels}, one for each logit"
            raise UsageError("class_weights", f"{len(self.class_weights)} numbers", expected, "Change it.")
        target = _check_target(target, last, self.ignored, self._count_classes(channels))
        known = None if self.ignored is None else target != self.ignored
        answer = last.detach() if self.distillation else target
        pairs = [*((logits, answer) for logits in inner), (last, target)]
        return torch.stack([sum_voxels(*pair, known, self.coding) for pair in pairs])

    def combine(self, sums: Tensor, depths: tuple[int, ...]) -> Tensor:
        """Compute the loss of a batch from the sums of its parts, as `forward` does from the whole.

        Args:
            sums: those of `list_sums`, added up.
            depths: of the heads.
        """
        losses = []
        for head in (VoxelSums(*rows) for rows in sums):
            loss = sums.new_zeros(())
            if self.cross_entropy_weight:
                loss = loss + self.cross_entropy_weight * self._cross_entropy(head)
            if self.dice_weight:
                loss = loss + self.dice_weight * self._dice_loss(head)
            losses.append(loss)
        return self._add_heads(losses, depths)

    def _cross_entropy(self, sums: VoxelSums) -> Tensor:
        weights = 1.0 if self.class_weights is None else self.class_weights.to(sums.entropy.device)
        counted = (weights * sums.counted).sum()
        # a batch that nobody labeled has an entropy of 0
        return -(weights * sums.entropy).sum() / counted.where(counted > 0, 1.0)

    def _dice_loss(self, sums: VoxelSums) -> Tensor:
        """Compute the soft Dice loss of a batch, the mean over regions, or over classes without the background."""
        first = 0 if self.regions else 1
        both, predicted, labeled = (row[first:] for row in (sums.both, sums.predicted, sums.labeled))
        loss: Tensor = (1 - (2 * both + SMOOTH) / (predicted + labeled + SMOOTH)).mean()
        return loss

    def _add_heads(self, losses: Sequence[Tensor], depths: tuple[int, ...]) -> Tensor:
        weights = self._weights(depths)
        return torch.stack([weight * loss for weight, loss in zip(weights, losses, strict=True)]).sum()

    def _count_classes(self, channels: int) -> int:
        """Count the classes that targets of so many logits have, background included; raises UsageError."""
        if self.regions:
            if channels != len(self.regions):
                action = f"Build it with `out_channels={len(self.regions)}`, or change `regions`."
                expected = f"{len(self.regions)}, one for each of `regions`"
                raise UsageError("outputs", f"{channels} logits", expected, action)
            return 1 + max(map(max, self.regions))
        if channels == 1:
            action = "Build it with `out_channels=2`, or pass a loss such as torch.nn.BCEWithLogitsLoss()."
            raise UsageError("outputs", "one logit", "one for each class, background first", action)
        return channels

    def _weights(self, depths: tuple[int, ...]) -> list[float]:
        if self.head_weights == "equal":
            return [1 / len(depths)] * len(depths)
        given = list(map(float, self.head_weights))
        weights = given if len(given) == len(depths) else [given[at - 1] for at in depths if at <= len(given)]
        if len(given) not in (len(depths), max(depths)) or sum(weights) <= 0:
            expected = f"one for each head, one of them above 0; the heads are {list(depths)}"
            raise UsageError("head_weights", f"{list(self.head_weights)}", expected, "Change it.")
        return [weight / sum(weights) for weight in weights]


def _require_none_of(given: Mapping[str, Any]) -> None:
    """Refuse what only the two terms of this class have, beside a loss of the user's own; raises UsageError."""
    for name, value in given.items():
        if value is not None:
            action = f"Leave out `{name}`, which needs the cross entropy and Dice of this class."
            if name == "ignored":
                action = "Give it to your loss, such as torch.nn.CrossEntropyLoss(ignore_index=255)."
            raise UsageError(name, f"{value} with a loss of your own", "one of the two", action)


def _check_weights(weights: Any) -> Literal["equal"] | tuple[float, ...]:
    """Check weights of heads; raises UsageError."""
    if isinstance(weights, str) and weights == "equal":
        return "equal"
    try:
        numbers = tuple(float(weight) for weight in weights)
    except (TypeError, ValueError):
        numbers = ()
    if not numbers or not all(0 <= weight < math.inf for weight in numbers):
        expected = '"equal", or a number of at least 0 for each head, smallest first'
        raise UsageError("head_weights", repr(weights), expected, "Change it.")
    return numbers


def _check_class_weights(weights: Any) -> Tensor | None:
    """Check weights of classes; raises UsageError."""
    try:
        found = None if weights is None else torch.tensor([float(weight) for weight in weights])
    except (TypeError, ValueError):
        found = torch.zeros(0)
    if found is not None and not (len(found) and bool((found > 0).all()) and bool(found.isfinite().all())):
        expected = "a number above 0 for each class, background first"
        raise UsageError("class_weights", repr(weights), expected, "Change it.")
    return found


def _check_regions(regions: Any) -> tuple[tuple[int, ...], ...]:
    """Check class indices of regions; raises UsageError."""
    try:
        found = tuple(tuple(map(index, region)) for region in regions)
    except TypeError:
        found = ()
    if not found or not all(region and min(region) > 0 for region in found):
        expected = "the class indices of each logit, such as ((1, 2, 3), (2, 3), (3,)), without the background 0"
        raise UsageError("regions", repr(regions), expected, "Change them.")
    return found


def _check_target(target: Tensor, logits: Tensor, ignored: int | None, classes: int) -> Tensor:
    """Return class indices as (B, 1, *spatial) of int64; raises UsageError where they are none.

    On a GPU, where reading the values would wait for it, wrong ones end the process, as in torch's own losses.
    """
    shape = tuple(logits.shape)
    expected = f"integers, the class indices 0 to {classes - 1}, of shape {(shape[0], 1, *shape[2:])}"
    expected += f" or {(shape[0], *shape[2:])}"
    if target.ndim == logits.ndim and target.shape[1] == shape[1] > 1:
        action = "Turn one-hot into class indices: `target.argmax(1)`."
        raise UsageError("target", f"{target.dtype} of shape {tuple(target.shape)}", expected, action)
    given, target = target, target if target.ndim == logits.ndim else target[:, None]
    is_integer = not (target.is_floating_point() or target.is_complex())
    if not is_integer or tuple(target.shape) != (shape[0], 1, *shape[2:]):
        action = "Use `target.long()`." if not is_integer else "Change its shape."
        raise UsageError("target", f"{given.dtype} of shape {tuple(given.shape)}", expected, action)
    target = target.long()
    if target.device.type == "cuda":
        right = (target >= 0) & (target < classes)
        torch._assert_async((right if ignored is None else right | (target == ignored)).all())
    elif target.device.type == "cpu":
        wrong = target[(target < 0) | (target >= classes)]
        wrong = wrong if ignored is None else wrong[wrong != ignored]
        if len(wrong):
            action = (
                "Make them class indices, such as `(target > 0).long()`, or name voxels without a label: `ignored`."
            )
            raise UsageError("target", f"the value {int(wrong[0])}", expected, action)
    return target
