"""Down-sampling D and up-sampling U between the levels of the grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from unetpp.model.blocks import AVERAGE_POOL, CONV

CONV_TRANSPOSED: dict[int, Callable[..., nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
MAX_POOL: dict[int, Callable[..., nn.Module]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
INTERPOLATION = {
    "nearest": {2: "nearest", 3: "nearest"},
    "linear": {2: "bilinear", 3: "trilinear"},
    "cubic": {2: "bicubic"},
}
"""Modes of torch for up-sampling without weights, by dims."""


def make_transposed_conv(
    dims: int, in_channels: int, out_channels: int, stride: Sequence[int], *, wide: bool, bias: bool
) -> nn.Module:
    """Make a transposed convolution to exactly `stride` times the size.

    Args:
        dims: number of spatial axes.
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: up-sampling factor along each axis.
        wide: overlapping kernels (4 for a stride of 2); False: kernel = stride.
        bias: add a bias.

    Returns:
        (B, in_channels, *spatial) to (B, out_channels, *spatial * stride).
    """
    margin = [step // 2 if wide else 0 for step in stride]
    kernel = tuple(step + 2 * extra for step, extra in zip(stride, margin, strict=True))
    return CONV_TRANSPOSED[dims](
        in_channels, out_channels, kernel, stride=tuple(stride), padding=tuple(margin), bias=bias
    )


class PixelShuffle(nn.Module):
    """Sub-pixel convolution (Shi et al. 2016) with a smoothing average (Aitken et al. 2017), in 2D and 3D.

    Args:
        dims: number of spatial axes.
        in_channels: channels of the input.
        out_channels: channels of the output.
        factors: up-sampling factor along each axis.
        bias: add a bias to the convolution.
    """

    def __init__(self, dims: int, in_channels: int, out_channels: int, factors: Sequence[int], *, bias: bool) -> None:
        super().__init__()
        self.factors = tuple(factors)
        self.conv = CONV[dims](in_channels, out_channels * prod(factors), 3, padding=1, bias=bias)
        self.pool = AVERAGE_POOL[dims](self.factors, stride=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        factors, dims = self.factors, len(self.factors)
        channels, sizes = x.shape[1] // prod(factors), x.shape[2:]
        x = x.reshape(x.shape[0], channels, *factors, *sizes)
        x = x.permute(0, 1, *(axis for k in range(dims) for axis in (2 + dims + k, 2 + k)))
        x = x.reshape(x.shape[0], channels, *(size * factor for size, factor in zip(sizes, factors, strict=True)))
        smoothed: Tensor = self.pool(functional.pad(x, [n for factor in reversed(factors) for n in (factor - 1, 0)]))
        return smoothed

    @torch.no_grad()
    def init_icnr(self) -> None:
        """Initialize all sub-pixels with equal weights (ICNR, Aitken et al. 2017), against checkerboard artifacts."""
        weight = self.conv.get_parameter("weight")
        one_of_each = torch.empty_like(weight[:: prod(self.factors)])
        nn.init.kaiming_normal_(one_of_each, nonlinearity="relu")
        weight.copy_(one_of_each.repeat_interleave(prod(self.factors), dim=0))
