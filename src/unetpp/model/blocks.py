"""Layers and blocks of the nodes. No class has subclasses; 2D and 3D differ in one number, `dims`.

Tensors are (B, C, *spatial), spatial = (Z, Y, X) or (Y, X).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from unetpp.errors import PlanError
from unetpp.model.convolution import Conv3d
from unetpp.model.deferred import Parts, compute_deferred, concatenate, convolve_parts

# by dims; typed loosely, because torch types the sizes of 2D and 3D layers differently
CONV: dict[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: Conv3d}
AVERAGE_POOL: dict[int, Callable[..., nn.Module]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
BATCH_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
CONV_LAYERS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)

Factory = Callable[[], nn.Module]


def crop_or_pad(x: Tensor, size: Sequence[int | torch.SymInt]) -> Tensor:
    """Crop `x` to `size` at the end of each axis, or pad it there with its last values."""
    if torch.compiler.is_compiling():
        return _crop_or_pad_by_index(x, size)
    missing = [max(0, int(wanted) - have) for wanted, have in zip(size, x.shape[2:], strict=True)]
    if any(missing):
        x = functional.pad(x, [n for length in reversed(missing) for n in (0, length)], mode="replicate")
    corner: tuple[Any, ...] = (..., *(slice(length) for length in size))
    return x[corner]


def _crop_or_pad_by_index(x: Tensor, size: Sequence[int | torch.SymInt]) -> Tensor:
    """Do the same for graphs of any size: slices and paddings would tie a traced graph to, say, even sizes."""
    from torch.fx.experimental.symbolic_shapes import statically_known_true  # here, because importing it takes a second

    for axis, wanted in enumerate(size, start=2):
        if not statically_known_true(wanted == x.shape[axis]):
            x = x.index_select(axis, torch.arange(wanted, device=x.device).clamp(max=x.shape[axis] - 1))
    return x


def round_up(size: Sequence[int], steps: Sequence[int]) -> list[int]:
    """Round each length up to whole steps. Only positive numbers are divided, because ONNX divides towards zero."""
    return [(length + step - 1) // step * step for length, step in zip(size, steps, strict=True)]


def make_activation(kind: str, leaky_slope: float = 0.01) -> nn.Module:
    """Make the activation that `model.activation` names."""
    if kind == "leaky_relu":
        return nn.LeakyReLU(leaky_slope, inplace=True)
    if kind == "gelu":
        return nn.GELU()
    return nn.SiLU(inplace=True) if kind == "silu" else nn.ReLU(inplace=True)


class GroupNorm(nn.Module):
    """Group normalization, or with `groups=None` instance normalization, with scale and shift.

    A bottleneck of one value in each group, which torch's layers refuse, becomes the shift.
    """

    def __init__(self, channels: int, groups: int | None, eps: float = 1e-5) -> None:
        super().__init__()
        if groups and channels % groups:
            expected = f"a divisor of {channels}, the channels of a node"
            raise PlanError("model.norm_groups", str(groups), expected, "Change it, or model.widths.")
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.groups = groups
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        # torch's layers ask for the size of the image, which an exported graph does not have: call what is below them
        if self.groups is None:
            return torch.instance_norm(
                x, self.weight, self.bias, None, None, True, 0.0, self.eps, torch.backends.cudnn.enabled
            )
        if x.is_cuda and x.dtype != self.weight.dtype:
            # autocast would make the largest tensors of the network float32; the kernel sums in float32 anyway
            with torch.autocast("cuda", enabled=False):
                return torch.group_norm(x, self.groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)
        return torch.group_norm(x, self.groups, self.weight, self.bias, self.eps, torch.backends.cudnn.enabled)


class BatchNorm(nn.Module):
    """Batch normalization that uses its running statistics for a batch of one voxel, also in training."""

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        self.norm = BATCH_NORM[dims](channels)

    def forward(self, x: Tensor) -> Tensor:
        norm = self.norm
        if self.training and x[:, 0].numel() == 1:
            return functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        normalized: Tensor = norm(x)
        return normalized


class FrozenStatistics:
    """Keeps batch normalizations from updating their running statistics in training, for a recomputed forward pass."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._saved: list[tuple[_BatchNorm, float | None, Tensor | None]] = []

    def __enter__(self) -> None:
        norms = [module for module in self._network.modules() if isinstance(module, _BatchNorm)]
        self._saved = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
        for norm in norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None

    def __exit__(self, *error: object) -> None:
        for norm, momentum, batches in self._saved:
            norm.momentum, norm.num_batches_tracked = momentum, batches


def make_norm(kind: str, channels: int, dims: int, groups: int | None = None) -> nn.Module:
    """Make a normalization layer.

    Args:
        kind: as `model.norm`; group: groups of 8 channels, or a single one if 8 does not divide them; layer: one group.
        channels: number of channels.
        dims: number of spatial axes.
        groups: number of groups of a group normalization; None: as above.

    Returns:
        The layer; an identity for "none".

    Raises:
        PlanError: `groups` does not divide `channels`.
    """
    if kind == "instance":
        return GroupNorm(channels, None)
    if kind == "batch":
        return BatchNorm(channels, dims)
    if kind == "group":
        return GroupNorm(channels, groups or (channels // 8 if channels % 8 == 0 else 1))
    return GroupNorm(channels, 1) if kind == "layer" else nn.Identity()


class Pooling(nn.Module):
    """Pooling with kernel = stride, for any size.

    Args:
        kind: pooling layer of torch.
        stride: size of a window along each axis.
        ceil: pad an incomplete last window with its last values; False: drop it, unless it is the only one.
    """

    def __init__(self, kind: Callable[..., nn.Module], stride: Sequence[int], ceil: bool = True) -> None:
        super().__init__()
        self.pool = kind(tuple(stride))
        self.stride = tuple(stride)
        self.ceil = ceil

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        wanted: Sequence[int | torch.SymInt]
        if self.ceil:
            wanted = round_up(size, self.stride)
        elif torch.compiler.is_compiling():
            wanted = [torch.sym_max(length, step) for length, step in zip(size, self.stride, strict=True)]
        else:
            wanted = [max(int(length), step) for length, step in zip(size, self.stride, strict=True)]
        pooled: Tensor = self.pool(crop_or_pad(x, wanted))
        return pooled


class ConvUnit(nn.Module):
    """Convolution, normalization, activation, dropout; `activation=None` leaves the last two out."""

    def __init__(
        self,
        dims: int,
        in_channels: int,
        out_channels: int,
        kernel: Sequence[int],
        *,
        norm: Callable[[int], nn.Module],
        activation: Factory | None,
        bias: bool,
        dropout: float = 0.0,
        stride: Sequence[int] | int = 1,
    ) -> None:
        super().__init__()
        padding = tuple(size // 2 for size in kernel)
        self.conv = CONV[dims](in_channels, out_channels, tuple(kernel), stride=stride, padding=padding, bias=bias)
        self.norm = norm(out_channels)
        self.activation = activation() if activation else nn.Identity()
        self.dropout = nn.Dropout(dropout) if dropout and activation else nn.Identity()

    def forward(self, x: Parts) -> Tensor:
        return self.finish(convolve_parts(self.conv, x))

    def finish(self, x: Tensor) -> Tensor:
        """Apply normalization, activation and dropout to the output of the convolution."""
        finished: Tensor = self.dropout(self.activation(self.norm(x)))
        return finished


class Chain(nn.Sequential):
    """Layers one after the other.

    Attributes:
        recompute: in training, recompute normalization and activation in the backward pass instead of storing them:
            they cost little next to a convolution, and their outputs are half of what training stores.
    """

    recompute = False

    def forward(self, x: Any) -> Tensor:
        recompute = self.recompute and self.training and not torch.compiler.is_compiling()
        unfinished: ConvUnit | None = None  # its convolution is done
        for layer in self:
            if not recompute or not isinstance(layer, ConvUnit):
                x, unfinished = layer(_finish(unfinished, x)), None
                continue
            x = convolve_parts(layer.conv, x) if unfinished is None else _finish_and_convolve(unfinished, layer, x)
            # without a norm, an in-place activation would change what is stored for it
            x, unfinished = (layer.finish(x), None) if isinstance(layer.norm, nn.Identity) else (x, layer)
        output: Tensor = _finish(unfinished, x)
        return output


def _finish(unit: ConvUnit | None, x: Any) -> Any:
    return x if unit is None else unit.finish(x)


def _finish_and_convolve(unit: ConvUnit, following: ConvUnit, x: Tensor) -> Tensor:
    # torch stops the recomputation as soon as it has what the convolution stores, which is before it convolves
    convolved: Tensor = checkpoint(
        lambda x: convolve_parts(following.conv, unit.finish(x)),
        x,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), FrozenStatistics(unit)),
    )
    return convolved


class PlainBlock(nn.Module):
    """H of the papers: a chain of convolution units."""

    def __init__(self, units: Sequence[nn.Module]) -> None:
        super().__init__()
        self.units = Chain(*units)

    def forward(self, x: Parts) -> Tensor:
        output: Tensor = self.units(x)
        return output


class ResidualBlock(nn.Module):
    """A chain whose input is added before its last activation (He et al. 2016); `shortcut` makes the shapes agree."""

    def __init__(self, units: Sequence[nn.Module], shortcut: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.units = Chain(*units)
        self.shortcut = shortcut
        self.activation = activation

    def forward(self, x: Parts) -> Tensor:
        if not isinstance(x, Tensor):
            x = compute_deferred(x)  # once for both paths
        carried = concatenate(x) if isinstance(self.shortcut, nn.Identity) else self.shortcut(x)
        output: Tensor = self.activation(self.units(x) + carried)
        return output


class SpatialChannelAttention(nn.Module):
    """scSE (Roy et al. 2018): the sum of the input weighted by channel and of the input weighted by voxel."""

    def __init__(self, dims: int, channels: int, reduction: int = 16) -> None:
        super().__init__()
        conv, hidden = CONV[dims], max(1, channels // reduction)
        self.channel = nn.Sequential(
            conv(channels, hidden, 1), nn.ReLU(inplace=True), conv(hidden, channels, 1), nn.Sigmoid()
        )
        self.place = nn.Sequential(conv(channels, 1, 1), nn.Sigmoid())

    def forward(self, parts: Parts) -> Tensor:
        x = concatenate(parts)
        mean = x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)
        weighted: Tensor = x * self.channel(mean) + x * self.place(x)
        return weighted


def make_residual_stage(
    unit: partial[ConvUnit],
    dims: int,
    in_channels: int,
    width: int,
    kernel: Sequence[int],
    stride: Sequence[int],
    blocks: int,
    activation: Factory,
) -> nn.Module:
    """Make residual blocks, the first with the stride, as in nnU-Net's residual encoders (Isensee et al. 2024).

    The shortcut is an average pooling, followed by a 1x1 convolution with normalization where the width changes.

    Args:
        unit: makes a convolution unit with the norm and activation of the plan.
        dims: number of spatial axes.
        in_channels: channels of the input.
        width: channels of every block.
        kernel: kernel size along each axis.
        stride: down-sampling factor along each axis.
        blocks: number of blocks.
        activation: makes the activation after each sum.

    Returns:
        (B, in_channels, *spatial) to (B, width, *spatial / stride).
    """
    stage: list[nn.Module] = []
    for number in range(blocks):
        first, inputs = number == 0, in_channels if number == 0 else width
        shortcut: list[nn.Module] = [Pooling(AVERAGE_POOL[dims], stride)] if first and max(stride) > 1 else []
        if inputs != width:
            shortcut.append(unit(inputs, width, (1,) * dims, activation=None, bias=False))
        units = [
            unit(inputs, width, kernel, activation=activation, stride=tuple(stride) if first else 1),
            unit(width, width, kernel, activation=None),
        ]
        stage.append(ResidualBlock(units, nn.Sequential(*shortcut), activation()))
    return nn.Sequential(*stage)
