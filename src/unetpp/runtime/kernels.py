"""Triton kernels for images with channels last: normalization with activation, concatenation with up-sampling.

torch's normalizations need channels first, while convolutions on a GPU need channels last; and torch passes over memory
once for each operation where one kernel passes once. Needs Triton, which comes with torch's builds for CUDA.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
import triton
import triton.language as tl
from torch import Tensor

from unetpp.runtime.device import CHANNELS_LAST

PROGRAMS = 1024
"""Number of programs, about, that read the statistics of a batch at once."""
BLOCK = 4096
"""Number of values in a program."""


def group_norm_leaky_relu(
    x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float, slope: float, shift: Tensor | None = None
) -> Tensor:
    """Compute group normalization and leaky ReLU.

    Args:
        x: (B, C, *spatial) on a GPU; overwritten if its channels are last in memory.
        groups: number of groups of channels.
        weight: scale after normalization, (C,).
        bias: shift after normalization, (C,).
        eps: added to the variance.
        slope: slope of the leaky ReLU below 0.
        shift: (C,), added to x before: the bias of a convolution.

    Returns:
        (B, C, *spatial), channels last.
    """
    x = x.contiguous(memory_format=CHANNELS_LAST[x.ndim])
    batch, channels = x.shape[:2]
    voxels, each, block = x[0, 0].numel(), channels // groups, _block(channels)
    blocks = triton.cdiv(voxels, block["ROWS"])
    splits = min(blocks, max(1, PROGRAMS // batch))
    partial = torch.empty(batch, splits, 2, channels, device=x.device)
    affine = torch.empty(batch, 2, channels, device=x.device)
    _sum_channels[batch, splits](x, partial, voxels, channels, triton.cdiv(blocks, splits), **block)
    sizes = {"EACH": each, "EACH_WIDTH": triton.next_power_of_2(each), "SPLITS": triton.next_power_of_2(splits)}
    tensors = partial, weight, bias, bias if shift is None else shift, affine
    _compute_affine[batch, groups](*tensors, voxels, channels, splits, eps, SHIFTED=shift is not None, **sizes)
    shifts, stride = affine[:, 1], 2 * channels
    _apply_affine[batch, blocks](x, affine, shifts, stride, voxels, channels, slope, SCALED=True, **block)
    return x


def bias_leaky_relu(x: Tensor, bias: Tensor, slope: float) -> Tensor:
    """Add a bias and compute leaky ReLU.

    Args:
        x: (B, C, *spatial) on a GPU; overwritten if its channels are last in memory.
        bias: (C,).
        slope: slope of the leaky ReLU below 0.

    Returns:
        (B, C, *spatial), channels last.
    """
    x = x.contiguous(memory_format=CHANNELS_LAST[x.ndim])
    voxels, channels = len(x) * x[0, 0].numel(), x.shape[1]
    block = _block(channels)
    blocks = triton.cdiv(voxels, block["ROWS"])
    _apply_affine[1, blocks](x, bias, bias, 0, voxels, channels, slope, SCALED=False, **block)
    return x


@dataclass(frozen=True)
class Part:
    """An input of a node: an image, or one that is still to be up-sampled by `factors`.

    Attributes:
        values: (B, channels, *spatial); if `mode` is "shuffled", (B, channels * product of factors, *spatial), the
            voxels of each step in row order.
        mode: up-sampling: "nearest", "shuffled", or linear with aligned "centers" or "corners" (torch's align_corners).
    """

    values: Tensor
    channels: int
    factors: tuple[int, ...] | None = None
    mode: str = "nearest"


def upsample_concat(parts: Sequence[Part], size: Sequence[int]) -> Tensor:
    """Up-sample and concatenate parts; each is cropped to `size`, or extended by its last values.

    Returns:
        (B, sum of channels, *size), channels last.
    """
    first = parts[0].values
    format_ = CHANNELS_LAST[first.ndim]
    shape = (len(first), sum(part.channels for part in parts), *size)
    out = torch.empty(shape, device=first.device, dtype=first.dtype, memory_format=format_)
    voxels, start = prod(size), 0
    for part in parts:
        values, block = part.values.contiguous(memory_format=format_), _block(part.channels)
        have, want, steps = (_three(numbers) for numbers in (values.shape[2:], size, part.factors or (1,) * len(size)))
        numbers = (voxels, part.channels, out.shape[1], start, *want[1:], *have, *steps)
        grid = (triton.cdiv(voxels, block["ROWS"]), len(first))
        _place_part[grid](values, out, *numbers, MODE=part.mode, VOLUME=first.ndim == 5, **block)
        start += part.channels
    return out


def _three(numbers: Sequence[int]) -> tuple[int, ...]:
    """Extend to z, y and x: an image is a volume of one slice."""
    return (*(1,) * (3 - len(numbers)), *numbers)


def _block(channels: int) -> dict[str, int]:
    """Return the rows and channels of a program."""
    width = triton.next_power_of_2(channels)
    return {"ROWS": max(1, BLOCK // width), "WIDTH": width}


@triton.jit(do_not_specialize=["voxels", "steps"])  # each size would be compiled again
def _sum_channels(x, partial, voxels, channels, steps, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Sum the values and squares of each channel of an image, over some of its rows."""
    image, split = tl.program_id(0).to(tl.int64), tl.program_id(1)
    column = tl.arange(0, WIDTH)
    total = tl.zeros((ROWS, WIDTH), tl.float32)
    squares = tl.zeros((ROWS, WIDTH), tl.float32)
    for step in range(steps):
        row = (split * steps + step) * ROWS + tl.arange(0, ROWS)
        there = (row[:, None] < voxels) & (column[None, :] < channels)
        source = x + (image * voxels + row[:, None]) * channels + column[None, :]
        values = tl.load(source, mask=there, other=0.0).to(tl.float32)
        total += values
        squares += values * values
    place = partial + (image * tl.num_programs(1) + split) * 2 * channels + column
    tl.store(place, tl.sum(total, 0), mask=column < channels)
    tl.store(place + channels, tl.sum(squares, 0), mask=column < channels)


@triton.jit(do_not_specialize=["voxels", "splits"])
def _compute_affine(
    partial,
    weight,
    bias,
    shift,
    affine,
    voxels,
    channels,
    splits,
    eps,
    SHIFTED: tl.constexpr,
    EACH: tl.constexpr,
    EACH_WIDTH: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """Compute scale and shift of each channel of a group of an image."""
    image, group = tl.program_id(0), tl.program_id(1)
    column, split = tl.arange(0, EACH_WIDTH), tl.arange(0, SPLITS)
    channel = group * EACH + column
    there = (split[:, None] < splits) & (column[None, :] < EACH)
    place = partial + (image * splits + split[:, None]) * 2 * channels + channel[None, :]
    total = tl.sum(tl.load(place, mask=there, other=0.0), 0)
    square = tl.sum(tl.load(place + channels, mask=there, other=0.0), 0)
    added = tl.zeros((EACH_WIDTH,), tl.float32)
    if SHIFTED:
        added = tl.load(shift + channel, mask=column < EACH, other=0.0).to(tl.float32)
        square += added * (2 * total + added * voxels)
        total += added * voxels
    mean = tl.sum(total) / (voxels * EACH)
    variance = tl.maximum(tl.sum(square) / (voxels * EACH) - mean * mean, 0.0)
    scale = tl.load(weight + channel, mask=column < EACH, other=0.0).to(tl.float32) / tl.sqrt(variance + eps)
    moved = tl.load(bias + channel, mask=column < EACH, other=0.0).to(tl.float32) + (added - mean) * scale
    tl.store(affine + image * 2 * channels + channel, scale, mask=column < EACH)
    tl.store(affine + image * 2 * channels + channels + channel, moved, mask=column < EACH)


@triton.jit(do_not_specialize=["stride", "voxels"])
def _apply_affine(
    x, scales, shifts, stride, voxels, channels, slope, SCALED: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr
):
    """Scale, shift and apply leaky ReLU, in place."""
    image = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, WIDTH)
    row = tl.program_id(1).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    there = (row[:, None] < voxels) & (column[None, :] < channels)
    place = x + (image * voxels + row[:, None]) * channels + column[None, :]
    values = tl.load(place, mask=there, other=0.0).to(tl.float32)
    if SCALED:
        values *= tl.load(scales + image * stride + column, mask=column < channels, other=0.0)[None, :]
    values += tl.load(shifts + image * stride + column, mask=column < channels, other=0.0).to(tl.float32)[None, :]
    tl.store(place, tl.where(values > 0, values, values * slope), mask=there)


@triton.jit(do_not_specialize=["voxels", "height", "width", "have_z", "have_y", "have_x", "step_z", "step_y", "step_x"])
def _place_part(
    x, out, voxels, channels, all_channels, start, height, width, have_z, have_y, have_x, step_z, step_y, step_x,
    MODE: tl.constexpr, VOLUME: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Up-sample a part into its channels of the concatenation."""
    image = tl.program_id(1).to(tl.int64)
    column = tl.arange(0, WIDTH)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    there = (row[:, None] < voxels) & (column[None, :] < channels)
    at_z = tl.minimum(row // (height * width), have_z * step_z - 1)
    at_y = tl.minimum(row // width % height, have_y * step_y - 1)
    at_x = tl.minimum(row % width, have_x * step_x - 1)
    if MODE == "nearest" or MODE == "shuffled":
        source = ((image * have_z + at_z // step_z) * have_y + at_y // step_y) * have_x + at_x // step_x
        if MODE == "shuffled":
            place = (at_z % step_z * step_y + at_y % step_y) * step_x + at_x % step_x
            source = source * (step_z * step_y * step_x) + place
        values = tl.load(x + source[:, None] * channels + column[None, :], mask=there, other=0.0)
    else:
        place_z = _find_source(at_z, have_z, step_z, MODE)
        place_y = _find_source(at_y, have_y, step_y, MODE)
        place_x = _find_source(at_x, have_x, step_x, MODE)
        sums = tl.zeros((ROWS, WIDTH), tl.float32)
        for corner in tl.static_range(8 if VOLUME else 4):
            near_z, share_z = _find_neighbor(place_z, have_z, corner // 4)
            near_y, share_y = _find_neighbor(place_y, have_y, corner // 2 % 2)
            near_x, share_x = _find_neighbor(place_x, have_x, corner % 2)
            source = ((image * have_z + near_z) * have_y + near_y) * have_x + near_x
            taken = tl.load(x + source[:, None] * channels + column[None, :], mask=there, other=0.0).to(tl.float32)
            sums += taken * (share_z * share_y * share_x)[:, None]
        values = sums.to(out.dtype.element_ty)
    tl.store(out + (image * voxels + row[:, None]) * all_channels + start + column[None, :], values, mask=there)


@triton.jit
def _find_source(at, have, step, MODE: tl.constexpr):
    """Return the position of a voxel of the larger image in the smaller one."""
    if MODE == "corners":
        return at.to(tl.float32) * ((have - 1) / tl.maximum(have * step - 1, 1))
    return tl.maximum((at.to(tl.float32) + 0.5) / step - 0.5, 0.0)


@triton.jit
def _find_neighbor(place, have, UPPER: tl.constexpr):
    """Return the voxel below a position, or above it, and its weight."""
    low = place.to(tl.int32)
    share = place - low.to(tl.float32)
    return (tl.minimum(low + 1, have - 1), share) if UPPER else (low, 1 - share)
