"""Sums over voxels of which cross entropy and soft Dice are made, and their gradient, a piece of the batch at a time.

Written with whole tensors, both losses keep a dozen of the size of the logits in float32: with 117 classes most of the
memory of a training step, and half of its time (docs/log.md). They are functions of the same few sums, which need the
probabilities of a piece only while it is in the processor's cache; the gradient of large ones computes them again. Sums
of several processes, or of parts of a batch, add up, which neither loss does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from unetpp.labels.coding_torch import RegionTensors, TensorCoding

PIECE: Final = 2**18
"""Number of logits of a piece on a CPU: 1 MB in float32."""
PIECE_ON_GPU: Final = 2**26
KEPT: Final = 2**20
"""Number of logits up to which their probabilities are kept for the gradient: 4 MB in float32."""
MANY_CLASSES: Final = 16
"""From so many contiguous classes on, a softmax along them is 1.5 to 12 times as fast as across (docs/log.md)."""


class VoxelSums(NamedTuple):
    """Sums over batch and voxels, (C,) float32 of each class or region, of p predicted and t labeled."""

    entropy: Tensor
    """Cross entropy: of t log p; of regions also of (1 - t) log(1 - p)."""
    both: Tensor
    """Of t p."""
    predicted: Tensor
    """Of p."""
    labeled: Tensor
    """Of t."""
    counted: Tensor
    """What the entropy is averaged over: t; of regions 1."""


def sum_voxels(logits: Tensor, target: Tensor, known: Tensor | None, coding: TensorCoding) -> Tensor:
    """Compute the sums of one head.

    Args:
        logits: (B, C, *spatial); the gradient goes to these alone.
        target: class indices (B, 1, *spatial), or logits of another head, whose probabilities are the target.
        known: whether somebody labeled a voxel, (B, 1, *spatial); the others are left out. None: all are labeled.
        coding: what the channels mean.

    Returns:
        The fields of `VoxelSums` as rows, (5, C).
    """
    found: Tensor = _Sum.apply(logits, target, known, coding)
    return found


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, known: Tensor | None, coding: TensorCoding) -> Tensor:
        ctx.save_for_backward(logits, target, known)
        ctx.coding, ctx.kept = coding, []
        keeps = logits.numel() <= KEPT and not logits.is_meta  # whose memory is counted for any size
        sums = torch.zeros(len(VoxelSums._fields), logits.shape[1], device=logits.device)
        for piece in _cut(coding, logits, target, known):
            for row, values in zip(sums, piece.find_sums(), strict=True):
                row += values.sum(piece.others)
            ctx.kept.append(piece.found if keeps else None)
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        logits, target, known = ctx.saved_tensors
        found = torch.empty_like(logits, memory_format=_find_format(logits))
        pieces = _cut(ctx.coding, logits, target, known)
        for piece, (place,), kept in zip(pieces, _cut_views(found), ctx.kept, strict=True):
            piece.found = kept
            place.copy_(piece.find_gradient(VoxelSums(*map(piece.along_classes, gradient))))
        return found, None, None, None


class _Piece:
    """Some voxels of exclusive classes.

    Args:
        coding: what the channels mean.
        dim: axis of the classes.
        logits: (B, C, voxels), or (B, voxels, C), a view.
        target: class indices (B, 1, voxels), or (B, voxels, 1), or logits of the form of the others.
        known: whether somebody labeled a voxel, as class indices; None: all are labeled.

    Attributes:
        others: the other axes.
        found: what is to be predicted, and what is, as probabilities; None: not computed yet.
    """

    def __init__(
        self, coding: TensorCoding, dim: int, logits: Tensor, target: Tensor, known: Tensor | None = None
    ) -> None:
        self.dim, self.others, self.logits = dim, (0, 3 - dim), logits
        self._coding, self._target, self._known = coding, target, known
        self.found: tuple[Tensor, Tensor] | None = None

    def find_sums(self) -> tuple[Tensor, ...]:
        """Compute the summands of the rows of `VoxelSums`."""
        target, log = self._find_target(), self._read(self.logits).log_softmax(self.dim)
        entropy = target * log.clamp_(min=torch.finfo(log.dtype).min)  # of a class that is masked: 0, not 0 * inf
        predicted = self._leave_out(log.exp_())
        self.found = target, predicted
        return entropy, target * predicted, predicted, target, target

    def find_gradient(self, sums: VoxelSums) -> Tensor:
        """Compute the gradient of the logits from that of the sums, each along the classes."""
        target, predicted = self._find_both()
        # through the softmax: p * (d - sum(p * d)); through its logarithm: d - p * sum(d)
        own = self._leave_out(sums.predicted + sums.both * target).mul_(predicted).addcmul_(sums.entropy, target)
        return own.addcmul_(predicted, own.sum(self.dim, keepdim=True), value=-1)

    def _find_both(self) -> tuple[Tensor, Tensor]:
        return self.found or (self._find_target(), self._predict(self._read(self.logits)))

    def _find_target(self) -> Tensor:
        """Find what is to be predicted, as probabilities; 0 where nobody labeled a voxel."""
        if self._target.is_floating_point():
            return self._leave_out(self._predict(self._read(self._target)))
        target = self._coding.make_targets(self._target.movedim(self.dim, 1), self.logits.shape[self.dim])
        return self._leave_out(target.movedim(1, self.dim))

    def along_classes(self, values: Tensor) -> Tensor:
        """View values (C,) so that they go along the classes."""
        return values.view(-1, 1) if self.dim == 1 else values

    def _predict(self, logits: Tensor) -> Tensor:
        return logits.softmax(self.dim)

    def _leave_out(self, values: Tensor) -> Tensor:
        """Make values 0, in place, where nobody labeled a voxel."""
        return values if self._known is None else values.mul_(self._known)

    @staticmethod
    def _read(logits: Tensor) -> Tensor:
        return logits.float().contiguous()


class _RegionPiece(_Piece):
    """Some voxels of regions that may overlap."""

    def find_sums(self) -> tuple[Tensor, ...]:
        target, logits = self._find_target(), self._read(self.logits)
        predicted = self._leave_out(logits.sigmoid())
        self.found = target, predicted
        entropy = self._leave_out(F.logsigmoid(-logits)).addcmul_(target, logits)  # log p = x + log(1 - p)
        return entropy, target * predicted, predicted, target, self._leave_out(torch.ones_like(target))

    def find_gradient(self, sums: VoxelSums) -> Tensor:
        target, predicted = self._find_both()
        own = (sums.predicted + sums.both * target).mul_(predicted * (1 - predicted))
        return self._leave_out(own.addcmul_(sums.entropy, target - predicted))

    def _predict(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()


def _cut(coding: TensorCoding, logits: Tensor, target: Tensor, known: Tensor | None) -> Iterator[_Piece]:
    """Cut a batch into pieces."""
    make = _RegionPiece if isinstance(coding, RegionTensors) else _Piece
    dim = _find_dim(logits)
    for views in _cut_views(logits, target, *([] if known is None else [known])):
        yield make(coding, dim, *views)


def _cut_views(logits: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Cut a batch: into some images or parts of one, or into voxels of all where these lie in one row."""
    layout, dim, channels = _find_format(logits), _find_dim(logits), logits.shape[1]
    views = [_flatten(each, layout, dim) for each in (logits, *others)]
    size = PIECE_ON_GPU if logits.device.type == "cuda" else PIECE
    images, length = max(1, size // max(1, views[0].shape[1:].numel())), max(1, size // channels)
    for batch in zip(*(each.split(images) for each in views), strict=True):
        yield from zip(*(each.split(length, 3 - dim) for each in batch), strict=True)


def _find_dim(logits: Tensor) -> int:
    """Find the axis of the classes in the views."""
    return 2 if _find_format(logits) != torch.contiguous_format and logits.shape[1] >= MANY_CLASSES else 1


def _find_format(logits: Tensor) -> torch.memory_format:
    """Find the memory format in which logits are read: channels last where they have it."""
    last = torch.channels_last_3d if logits.ndim == 5 else torch.channels_last
    is_last = logits.ndim in (4, 5) and not logits.is_contiguous() and logits.is_contiguous(memory_format=last)
    return last if is_last else torch.contiguous_format


def _flatten(values: Tensor, layout: torch.memory_format, dim: int) -> Tensor:
    """View values (B, C, *spatial) as (B, C, voxels), or (B, voxels, C) for `dim` 2; if channels last all as one B."""
    values = values.contiguous(memory_format=layout)
    if layout == torch.contiguous_format:
        return values.flatten(2)
    rows = values.movedim(1, -1).reshape(1, -1, values.shape[1])
    return rows if dim == 2 else rows.mT
