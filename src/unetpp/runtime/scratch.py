"""Memory that torch's kernels for CPUs take while they run, beyond their inputs and outputs.

Each rule was read off from single operations whose allocations were counted (docs/log.md), on a CPU with AVX-512.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

CODE_BYTES = 100_000
"""Code that oneDNN generates for a convolution of a new shape, with its descriptors, and keeps."""
CHANNEL_BLOCK = 16
"""oneDNN stores channels in groups of this many, the float32 numbers of a register of AVX-512."""
FEW_CHANNELS = 3
"""oneDNN reads images of so few channels as they are."""


class CpuScratch:
    """Counts what operations take beyond their tensors: while they run, and code that stays."""

    def __init__(self) -> None:
        self._shapes: set[Any] = set()

    def __call__(self, function: Any, arguments: Sequence[Any], result: Any) -> tuple[int, int]:
        """Count for an operation, given its arguments and result.

        Returns:
            Bytes while it runs, and bytes that it keeps.
        """
        aten = torch.ops.aten
        if function in (aten._softmax.default, aten._log_softmax.default):
            return (0 if arguments[0].is_contiguous() else arguments[0].nbytes), 0  # computed on a contiguous copy
        if function is aten.convolution.default:
            x, weight, bias, *settings = arguments
            kept = self._count_code(function, x, weight, settings)
            return _convolve(x, weight, bias, settings, result), kept
        if function is aten.convolution_backward.default:
            gradient, x, weight, bias_sizes, *settings, _ = arguments
            kept = self._count_code(function, x, weight, settings)
            return _convolve_backward(gradient, x, weight, bias_sizes, settings), kept
        return 0, 0

    def _count_code(self, function: Any, x: Tensor, weight: Tensor, settings: Sequence[Any]) -> int:
        key = (function, x.shape, x.dtype, weight.shape, str(settings))
        if key in self._shapes:
            return 0
        self._shapes.add(key)
        return CODE_BYTES


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, settings: Sequence[Any], y: Tensor) -> int:
    transposed, is_strided = settings[3], max(settings[0]) > 1
    if _is_unrolled(x, weight, settings, bias=bias):
        return _unroll(x, weight, y, transposed)
    if not x.is_contiguous():  # channels last, as oneDNN wants it
        return x.nbytes // x.shape[0] if transposed and is_strided else 0
    return 2 * _block(y) if transposed else max(_block(x), _block(y))


def _convolve_backward(gradient: Tensor, x: Tensor, weight: Tensor, bias_sizes: Any, settings: Sequence[Any]) -> int:
    if _is_unrolled(x, weight, settings, bias=None, bias_sizes=bias_sizes):
        return _unroll(x, weight, gradient, settings[3])
    size = _block(gradient) + _block(x) if x.is_contiguous() else 0
    if not settings[3] and max(settings[0]) > 1:
        size += gradient.nbytes // x.shape[0]
    if x.dtype == torch.bfloat16:
        # the gradient of the kernel reads pairs of voxels, for which one image at a time is transposed; it sums in
        # float32
        size += (_block(gradient) + _block(x)) // x.shape[0] + 2 * weight.nbytes
    return size


def _is_unrolled(x: Tensor, weight: Tensor, settings: Sequence[Any], **bias: Any) -> bool:
    """Tell whether torch unrolls the image to columns, as it does for few voxels, instead of calling oneDNN."""
    names = ("stride", "padding", "dilation", "transposed", "output_padding", "groups")
    given = {name: value for name, value in bias.items() if name == "bias" or value is not None}
    backend = torch._C._select_conv_backend(x, weight, **dict(zip(names, settings, strict=True)), **given)
    return "Slow" in str(backend)


def _unroll(x: Tensor, weight: Tensor, y: Tensor, transposed: bool) -> int:
    """Return the bytes of the unrolled image: the voxels below the kernel, for each voxel of the output."""
    size, copied = prod(weight.shape[2:]), 0 if x.is_contiguous() else x.nbytes
    if size == 1:
        return copied if x.ndim == 5 else x.nbytes // x.shape[0]
    if transposed:  # image by image
        return copied + weight.shape[1] * size * prod(x.shape[2:]) * x.element_size()
    return copied + x.shape[0] * x.shape[1] * size * prod(y.shape[2:]) * x.element_size()


def _block(x: Tensor) -> int:
    """Return the bytes of oneDNN's own copy."""
    channels = x.shape[1]
    return 0 if channels <= FEW_CHANNELS else x.nbytes // channels * (-(-channels // CHANNEL_BLOCK) * CHANNEL_BLOCK)
