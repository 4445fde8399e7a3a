"""The parts that nodes are made of. Each class is final; 2D and 3D is one number.

Tensors are (B, C, *spatial), spatial = (Z, Y, X) or (Y, X).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from unetpp.errors import PlanError

# by dims; typed loosely, because torch types the sizes of 2D and 3D layers differently
CONV: dict[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
CONVOLVE: dict[int, Callable[..., Tensor]] = {2: functional.conv2d, 3: functional.conv3d}
AVERAGE_POOL: dict[int, Callable[..., nn.Module]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
BATCH_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
CONV_LAYERS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)

Factory = Callable[[], nn.Module]


@dataclass(frozen=True, eq=False)
class Deferred:
    """A part that is made of `source` where it is used, and made again in the backward pass in place of being kept."""

    make: Callable[[Tensor], Tensor]
    source: Tensor


Parts = Tensor | tuple[Tensor | Deferred, ...]
"""What a node receives: one tensor, or several that stand for their concatenation along the channels."""


def fitted(x: Tensor, size: Sequence[int | torch.SymInt]) -> Tensor:
    """`x` cut, or continued by its last values, to `size` at the end of each axis."""
    if torch.compiler.is_compiling():
        return _gathered(x, size)
    missing = [max(0, int(wanted) - have) for wanted, have in zip(size, x.shape[2:], strict=True)]
    if any(missing):
        x = functional.pad(x, [n for length in reversed(missing) for n in (0, length)], mode="replicate")
    corner: tuple[Any, ...] = (..., *(slice(length) for length in size))
    return x[corner]


def _gathered(x: Tensor, size: Sequence[int | torch.SymInt]) -> Tensor:
    """`fitted` for graphs of any size: slices and paddings would tie a traced graph to, say, even sizes."""
    from torch.fx.experimental.symbolic_shapes import statically_known_true  # here, because importing it takes a second

    for axis, wanted in enumerate(size, start=2):
        if not statically_known_true(wanted == x.shape[axis]):
            x = x.index_select(axis, torch.arange(wanted, device=x.device).clamp(max=x.shape[axis] - 1))
    return x


def multiple(size: Sequence[int], steps: Sequence[int]) -> list[int]:
    """`size` rounded up to whole steps; what is divided is positive, because ONNX divides towards zero."""
    return [(length + step - 1) // step * step for length, step in zip(size, steps, strict=True)]


def gathered(parts: Sequence[Tensor | Deferred]) -> Parts:
    """What a node receives, as its block takes it best: apart while gradients are kept, so that no concatenation is, else in one tensor."""
    if len(parts) == 1 and isinstance(parts[0], Tensor):
        return parts[0]
    return tuple(parts) if torch.is_grad_enabled() and not torch.compiler.is_compiling() else joined(tuple(parts))


def joined(x: Parts) -> Tensor:
    """One tensor of all channels."""
    return (
        x
        if isinstance(x, Tensor)
        else torch.cat([part.make(part.source) if isinstance(part, Deferred) else part for part in x], dim=1)
    )


def convolved(conv: Any, x: Parts) -> Tensor:
    """`conv(joined(x))`, of several parts as the sum of a convolution of each.

    (On CPUs this is faster too: the gradient of 64 or more channels from 16 takes oneDNN ten times as long as that of 48, see docs/log.md.)
    """
    if isinstance(x, Tensor):
        return conv(x)
    convolve = partial(CONVOLVE[conv.weight.ndim - 2], stride=conv.stride, padding=conv.padding)
    known = sum(part.shape[1] for part in x if isinstance(part, Tensor))  # at most one part is deferred
    weights = conv.weight.split(
        [part.shape[1] if isinstance(part, Tensor) else conv.in_channels - known for part in x], dim=1
    )
    total = _convolved_part(convolve, x[0], weights[0], conv.bias)
    for part, weight in zip(x[1:], weights[1:], strict=True):
        total = total.add_(_convolved_part(convolve, part, weight))
    return total


def _convolved_part(
    convolve: Callable[..., Tensor], part: Tensor | Deferred, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    if isinstance(part, Tensor):
        return convolve(part, weight, bias)
    return checkpoint(
        lambda source: convolve(part.make(source), weight, bias),
        part.source,
        use_reentrant=False,
        preserve_rng_state=False,
    )


def make_activation(kind: str, leaky_slope: float = 0.01) -> nn.Module:
    if kind == "leaky_relu":
        return nn.LeakyReLU(leaky_slope, inplace=True)
    if kind == "gelu":
        return nn.GELU()
    return nn.SiLU(inplace=True) if kind == "silu" else nn.ReLU(inplace=True)


class GroupNorm(nn.Module):
    """Group normalisation, or with `groups=None` instance normalisation, with scale and shift.

    A bottleneck of one value in each group, which torch's layers refuse, becomes the shift.
    """

    def __init__(self, channels: int, groups: int | None, eps: float = 1e-5) -> None:
        super().__init__()
        if groups and channels % groups:
            raise PlanError(
                f"model.norm_groups: got {groups}; expected a divisor of {channels}, the channels of a node. Change it, or model.widths."
            )
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.groups = groups
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        # the operations below torch's layers: these ask for the size of the image, which an exported graph does not know
        if self.groups is None:
            return torch.instance_norm(
                x, self.weight, self.bias, None, None, True, 0.0, self.eps, torch.backends.cudnn.enabled
            )
        if (
            x.is_cuda and x.dtype != self.weight.dtype
        ):  # else autocast makes the largest tensors of the network float32; the sums are float32 within the kernel anyway
            with torch.autocast("cuda", enabled=False):
                return torch.group_norm(x, self.groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)
        return torch.group_norm(x, self.groups, self.weight, self.bias, self.eps, torch.backends.cudnn.enabled)


class BatchNorm(nn.Module):
    """Batch normalisation that falls back to its running statistics for a batch of one voxel in training."""

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        self.norm = BATCH_NORM[dims](channels)

    def forward(self, x: Tensor) -> Tensor:
        norm = self.norm
        if self.training and x[:, 0].numel() == 1:
            return functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        return norm(x)


class FrozenStatistics:
    """In training, batch normalisations leave their running statistics as they are: for what is computed a second time, or a third."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._kept: list[tuple[_BatchNorm, float | None, Tensor | None]] = []

    def __enter__(self) -> None:
        norms = [module for module in self._network.modules() if isinstance(module, _BatchNorm)]
        self._kept = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
        for norm in norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None

    def __exit__(self, *error: object) -> None:
        for norm, momentum, batches in self._kept:
            norm.momentum, norm.num_batches_tracked = momentum, batches


def make_norm(kind: str, channels: int, dims: int, groups: int | None = None) -> nn.Module:
    """`group`: groups of 8 channels, or fewer where 8 does not divide them; `layer`: one group."""
    if kind == "instance":
        return GroupNorm(channels, None)
    if kind == "batch":
        return BatchNorm(channels, dims)
    if kind == "group":
        return GroupNorm(channels, groups or (channels // 8 if channels % 8 == 0 else 1))
    return GroupNorm(channels, 1) if kind == "layer" else nn.Identity()


class Pooling(nn.Module):
    """Windows side by side, on any size. `ceil`: an incomplete last one is completed with its last values; else it is dropped, unless it is the only one."""

    def __init__(self, kind: Callable[..., nn.Module], stride: Sequence[int], ceil: bool = True) -> None:
        super().__init__()
        self.pool = kind(tuple(stride))
        self.stride = tuple(stride)
        self.ceil = ceil

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[2:]
        wanted: Sequence[int | torch.SymInt]
        if self.ceil:
            wanted = multiple(size, self.stride)
        elif torch.compiler.is_compiling():
            wanted = [torch.sym_max(length, step) for length, step in zip(size, self.stride, strict=True)]
        else:
            wanted = [max(int(length), step) for length, step in zip(size, self.stride, strict=True)]
        return self.pool(fitted(x, wanted))


class ConvUnit(nn.Module):
    """Convolution, normalisation, activation, dropout; `activation=None` leaves the last two out."""

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
        return self.finished(convolved(self.conv, x))

    def finished(self, x: Tensor) -> Tensor:
        """What follows the convolution."""
        return self.dropout(self.activation(self.norm(x)))


class Chain(nn.Sequential):
    """Parts one after the other.

    Attributes:
        frugal: True: what a unit gives to the next is not kept in training, but made again from its convolution's result: normalisation
            and activation cost little beside a convolution, and half of what training keeps are their results.
    """

    frugal = False

    def forward(self, x: Parts) -> Tensor:
        if not self.frugal or not self.training or torch.compiler.is_compiling():
            return super().forward(x)
        unfinished: ConvUnit | None = None  # its convolution is done
        for part in self:
            if not isinstance(part, ConvUnit):
                x, unfinished = part(_finished(unfinished, x)), None
                continue
            x = convolved(part.conv, x) if unfinished is None else _convolved_after(unfinished, part, x)
            # without a norm, an activation in place would change what is kept for it
            x, unfinished = (part.finished(x), None) if isinstance(part.norm, nn.Identity) else (x, part)
        return _finished(unfinished, x)


def _finished(unit: ConvUnit | None, x: Any) -> Any:
    return x if unit is None else unit.finished(x)


def _convolved_after(unit: ConvUnit, following: ConvUnit, x: Any) -> Tensor:
    # torch stops the second pass as soon as it has what the convolution keeps, which is before it convolves
    again = partial(checkpoint, use_reentrant=False, context_fn=lambda: (nullcontext(), FrozenStatistics(unit)))
    return again(lambda x: convolved(following.conv, unit.finished(x)), x)


class PlainBlock(nn.Module):
    """H of the papers: a chain of convolution units."""

    def __init__(self, units: Sequence[nn.Module]) -> None:
        super().__init__()
        self.units = Chain(*units)

    def forward(self, x: Parts) -> Tensor:
        return self.units(x)


class ResidualBlock(nn.Module):
    """A chain whose input is added before its last activation (He et al. 2016); `shortcut` makes the shapes agree."""

    def __init__(self, units: Sequence[nn.Module], shortcut: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.units = Chain(*units)
        self.shortcut = shortcut
        self.activation = activation

    def forward(self, x: Parts) -> Tensor:
        if not isinstance(x, Tensor):  # both paths want it
            x = tuple(part.make(part.source) if isinstance(part, Deferred) else part for part in x)
        kept = joined(x) if isinstance(self.shortcut, nn.Identity) else self.shortcut(x)
        return self.activation(self.units(x) + kept)


class SpatialChannelAttention(nn.Module):
    """scSE (Roy et al. 2018): the sum of the input weighted by channel and of the input weighted by place."""

    def __init__(self, dims: int, channels: int, reduction: int = 16) -> None:
        super().__init__()
        conv, hidden = CONV[dims], max(1, channels // reduction)
        self.channel = nn.Sequential(
            conv(channels, hidden, 1), nn.ReLU(inplace=True), conv(hidden, channels, 1), nn.Sigmoid()
        )
        self.place = nn.Sequential(conv(channels, 1, 1), nn.Sigmoid())

    def forward(self, parts: Parts) -> Tensor:
        x = joined(parts)
        mean = x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)
        return x * self.channel(mean) + x * self.place(x)


def residual_stage(
    unit: partial[ConvUnit],
    dims: int,
    in_channels: int,
    width: int,
    kernel: Sequence[int],
    stride: Sequence[int],
    blocks: int,
    activation: Factory,
) -> nn.Module:
    """Residual blocks of which the first has the stride, in the shape of nnU-Net's residual encoders (Isensee et al. 2024).

    Its shortcut is an average pooling, then a 1x1 convolution with normalisation where the width changes.
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
