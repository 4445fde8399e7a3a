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
CONV_TRANSPOSED: dict[int, Callable[..., nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
MAX_POOL: dict[int, Callable[..., nn.Module]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
BATCH_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
CONV_LAYERS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),
    "leaky_relu": partial(nn.LeakyReLU, 0.01, inplace=True),
    "silu": partial(nn.SiLU, inplace=True),
    "gelu": nn.GELU,
}


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


def make_norm(kind: str, channels: int, dims: int) -> nn.Module:
    """`group`: groups of 8 channels, or fewer where 8 does not divide them."""
    if kind == "instance":
        return InstanceNorm(channels)
    if kind == "batch":
        return BatchNorm(channels, dims)
    if kind == "group":
        return nn.GroupNorm(max(1, channels // 8) if channels % 8 == 0 else 1, channels)
    return nn.Identity()


class ConvUnit(nn.Module):
    """Convolution, normalisation, activation, dropout; `activation=None` leaves the last two out."""

    def __init__(
        self, dims: int, in_channels: int, out_channels: int, kernel: Sequence[int], *, norm: str, activation: str | None, dropout: float = 0.0, stride: Sequence[int] | int = 1
    ) -> None:
        super().__init__()
        padding = tuple(size // 2 for size in kernel)
        self.conv = CONV[dims](in_channels, out_channels, tuple(kernel), stride=stride, padding=padding, bias=norm == "none")
        self.norm = make_norm(norm, out_channels, dims)
        self.activation = ACTIVATIONS[activation]() if activation else nn.Identity()
        self.dropout = nn.Dropout(dropout) if dropout and activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.activation(self.norm(self.conv(x))))


class PlainBlock(nn.Module):
    """H of the papers: a chain of convolution units."""

    def __init__(self, units: Sequence[ConvUnit]) -> None:
        super().__init__()
        self.units = nn.Sequential(*units)

    def forward(self, x: Tensor) -> Tensor:
        return self.units(x)


class ResidualBlock(nn.Module):
    """A chain whose input is added before its last activation (He et al. 2016); `shortcut` makes the shapes agree."""

    def __init__(self, units: Sequence[ConvUnit], shortcut: nn.Module, activation: str) -> None:
        super().__init__()
        self.units = nn.Sequential(*units)
        self.shortcut = shortcut
        self.activation = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.units(x) + self.shortcut(x))
