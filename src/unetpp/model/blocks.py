"""The parts that nodes are made of. Each class is final; 2D and 3D is one number.

Tensors are (B, C, *spatial), spatial = (Z, Y, X) or (Y, X).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

# by dims; typed loosely, because torch types the sizes of 2D and 3D layers differently
CONV: dict[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
AVERAGE_POOL: dict[int, Callable[..., nn.Module]] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
BATCH_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
CONV_LAYERS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)

Factory = Callable[[], nn.Module]


def make_activation(kind: str, leaky_slope: float = 0.01) -> nn.Module:
    if kind == "leaky_relu":
        return nn.LeakyReLU(leaky_slope, inplace=True)
    if kind == "gelu":
        return nn.GELU()
    return nn.SiLU(inplace=True) if kind == "silu" else nn.ReLU(inplace=True)


class InstanceNorm(nn.Module):
    """Instance normalisation with scale and shift that also accepts a bottleneck of one voxel (which becomes the shift)."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if x[0, 0].numel() > 1:
            return functional.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return (x - x) * self.weight.view(shape) + self.bias.view(shape)


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


def make_norm(kind: str, channels: int, dims: int, groups: int | None = None) -> nn.Module:
    """`group`: groups of 8 channels, or fewer where 8 does not divide them; `layer`: one group."""
    if kind == "instance":
        return InstanceNorm(channels)
    if kind == "batch":
        return BatchNorm(channels, dims)
    if kind == "group":
        return nn.GroupNorm(groups or (channels // 8 if channels % 8 == 0 else 1), channels)
    return nn.GroupNorm(1, channels) if kind == "layer" else nn.Identity()


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

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.activation(self.norm(self.conv(x))))


class PlainBlock(nn.Module):
    """H of the papers: a chain of convolution units."""

    def __init__(self, units: Sequence[nn.Module]) -> None:
        super().__init__()
        self.units = nn.Sequential(*units)

    def forward(self, x: Tensor) -> Tensor:
        return self.units(x)


class ResidualBlock(nn.Module):
    """A chain whose input is added before its last activation (He et al. 2016); `shortcut` makes the shapes agree."""

    def __init__(self, units: Sequence[nn.Module], shortcut: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.units = nn.Sequential(*units)
        self.shortcut = shortcut
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.units(x) + self.shortcut(x))


class SpatialChannelAttention(nn.Module):
    """scSE (Roy et al. 2018): the sum of the input weighted by channel and of the input weighted by place."""

    def __init__(self, dims: int, channels: int, reduction: int = 16) -> None:
        super().__init__()
        conv, hidden = CONV[dims], max(1, channels // reduction)
        self.channel = nn.Sequential(conv(channels, hidden, 1), nn.ReLU(inplace=True), conv(hidden, channels, 1), nn.Sigmoid())
        self.place = nn.Sequential(conv(channels, 1, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)
        return x * self.channel(mean) + x * self.place(x)


def residual_stage(unit: partial[ConvUnit], dims: int, in_channels: int, width: int, kernel: Sequence[int], stride: Sequence[int], blocks: int, activation: Factory) -> nn.Module:
    """Residual blocks of which the first has the stride, in the shape of nnU-Net's residual encoders (Isensee et al. 2024).

    Its shortcut is an average pooling, then a 1x1 convolution with normalisation where the width changes.
    """
    stage: list[nn.Module] = []
    for number in range(blocks):
        first, inputs = number == 0, in_channels if number == 0 else width
        shortcut: list[nn.Module] = [AVERAGE_POOL[dims](tuple(stride), ceil_mode=True)] if first and max(stride) > 1 else []
        if inputs != width:
            shortcut.append(unit(inputs, width, (1,) * dims, activation=None, bias=False))
        units = [unit(inputs, width, kernel, activation=activation, stride=tuple(stride) if first else 1), unit(width, width, kernel, activation=None)]
        stage.append(ResidualBlock(units, nn.Sequential(*shortcut), activation()))
    return nn.Sequential(*stage)
