"""3D convolution, as PyTorch's, but safe on CPUs in bf16 where few slices are convolved by a larger kernel.

There the gradient of the weights reads memory that was never written: on 2 slices with a kernel of 3, it is infinite in
a fifth of all steps (torch 2.14, oneDNN 3.12, processors with AVX-512; docs/log.md). Only where the padding in front of
the slices and that behind them meet in one position of the kernel; with the slices padded beforehand it is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional


def convolve_volume(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1, 1, 1),
    padding: Sequence[int] = (0, 0, 0),
) -> Tensor:
    """Compute `torch.nn.functional.conv3d`, zero-padded by `padding` voxels along each axis."""
    if torch.is_grad_enabled() and _is_unsafe(x, weight, stride[0], padding[0]):
        x = functional.pad(x, (0, 0, 0, 0, padding[0], padding[0]))
        padding = (0, *padding[1:])
    return functional.conv3d(x, weight, bias, tuple(stride), tuple(padding))


def _is_unsafe(x: Tensor, weight: Tensor, stride: int, padding: int) -> bool:
    if x.device.type != "cpu" or not (torch.is_autocast_enabled("cpu") or x.dtype == torch.bfloat16):
        return False
    return stride == 1 and padding < x.shape[2] <= 2 * padding and weight.shape[2] == 2 * padding + 1


class Conv3d(nn.Conv3d):
    """`torch.nn.Conv3d`, computed by `convolve_volume`; zero padding without groups or dilation."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return convolve_volume(x, weight, bias, self.stride, cast(tuple[int, ...], self.padding))
