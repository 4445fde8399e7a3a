"""Kernels of Triton for images with the channels last: normalisation with the activation behind it, and concatenation with the up-sampling before it.

torch's own normalisations want the channels first, which convolutions of a GPU do not, and where torch makes a pass over memory for each step, one does for all.
Needs Triton, which comes with torch's builds for CUDA.
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
"""That read a batch's statistics at once, about."""
BLOCK = 4096
"""Values that a program holds."""


def normalised(
    x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float, slope: float, shift: Tensor | None = None
) -> Tensor:
    """Normalised over each image and group of channels, scaled, shifted, and below 0 times `slope`.

    Args:
        x: (B, C, *spatial) on a GPU; is overwritten where its channels lie last in memory.
        shift: of each channel, what is added to x before: the bias of a convolution.
    """
    x = x.contiguous(memory_format=CHANNELS_LAST[x.ndim])
    batch, channels = x.shape[:2]
    voxels, each = x[0, 0].numel(), channels // groups
    rows, width = _block(channels)
    blocks = triton.cdiv(voxels, rows)
    splits = min(blocks, max(1, PROGRAMS // batch))
    partial = torch.empty(batch, splits, 2, channels, device=x.device)
    factors = torch.empty(batch, 2, channels, device=x.device)
    _sums[batch, splits](x, partial, voxels, channels, triton.cdiv(blocks, splits), ROWS=rows, WIDTH=width)
    powers = {"EACH": each, "EACH_WIDTH": triton.next_power_of_2(each), "SPLITS": triton.next_power_of_2(splits)}
    _factors[batch, groups](
        partial,
        weight,
        bias,
        bias if shift is None else shift,
        factors,
        voxels,
        channels,
        splits,
        eps,
        SHIFTED=shift is not None,
        **powers,
    )
    _applied[batch, blocks](
        x, factors, factors[:, 1], 2 * channels, voxels, channels, slope, SCALED=True, ROWS=rows, WIDTH=width
    )
    return x


def rectified(x: Tensor, bias: Tensor, slope: float) -> Tensor:
    """X (B, C, *spatial) plus a bias for each channel, and below 0 times `slope`; as `normalised` in place."""
    x = x.contiguous(memory_format=CHANNELS_LAST[x.ndim])
    batch, channels = x.shape[:2]
    voxels = batch * x[0, 0].numel()
    rows, width = _block(channels)
    _applied[1, triton.cdiv(voxels, rows)](
        x, bias, bias, 0, voxels, channels, slope, SCALED=False, ROWS=rows, WIDTH=width
    )
    return x


@dataclass(frozen=True)
class Part:
    """What a node receives: an image, or one that is `factors` times as large as what lies in memory.

    Attributes:
        values: (B, channels, *spatial); where `mode` is "shuffled" (B, channels * product of factors, *spatial), the voxels of each step in row order one
            after the other.
        mode: how the larger image is made: "nearest", "shuffled", or linear between the voxels' "centres" or the image's "corners" (torch's align_corners).
    """

    values: Tensor
    channels: int
    factors: tuple[int, ...] | None = None
    mode: str = "nearest"


def concatenated(parts: Sequence[Part], size: Sequence[int]) -> Tensor:
    """(B, sum of channels, *size); parts are cut to it, or continued by their last values."""
    first = parts[0].values
    out = torch.empty(
        (len(first), sum(part.channels for part in parts), *size),
        device=first.device,
        dtype=first.dtype,
        memory_format=CHANNELS_LAST[first.ndim],
    )
    voxels, start = prod(size), 0
    for part in parts:
        values = part.values.contiguous(memory_format=CHANNELS_LAST[first.ndim])
        rows, width = _block(part.channels)
        have, want, steps = (_three(numbers) for numbers in (values.shape[2:], size, part.factors or (1,) * len(size)))
        grid = (triton.cdiv(voxels, rows), len(first))
        _placed[grid](
            values,
            out,
            voxels,
            part.channels,
            out.shape[1],
            start,
            *want[1:],
            *have,
            *steps,
            MODE=part.mode,
            VOLUME=first.ndim == 5,
            ROWS=rows,
            WIDTH=width,
        )
        start += part.channels
    return out


def _three(numbers: Sequence[int]) -> tuple[int, ...]:
    """Along z, y and x: an image is a volume of one slice."""
    return (*(1,) * (3 - len(numbers)), *numbers)


def _block(channels: int) -> tuple[int, int]:
    width = triton.next_power_of_2(channels)
    return max(1, BLOCK // width), width


@triton.jit(do_not_specialize=["voxels", "steps"])  # each size would be compiled again
def _sums(x, partial, voxels, channels, steps, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Of each channel of an image, the sums of some rows' values and of their squares."""
    image, split = tl.program_id(0).to(tl.int64), tl.program_id(1)
    column = tl.arange(0, WIDTH)
    total = tl.zeros((ROWS, WIDTH), tl.float32)
    squares = tl.zeros((ROWS, WIDTH), tl.float32)
    for step in range(steps):
        row = (split * steps + step) * ROWS + tl.arange(0, ROWS)
        there = (row[:, None] < voxels) & (column[None, :] < channels)
        values = tl.load(x + (image * voxels + row[:, None]) * channels + column[None, :], mask=there, other=0.0).to(
            tl.float32
        )
        total += values
        squares += values * values
    place = partial + (image * tl.num_programs(1) + split) * 2 * channels + column
    tl.store(place, tl.sum(total, 0), mask=column < channels)
    tl.store(place + channels, tl.sum(squares, 0), mask=column < channels)


@triton.jit(do_not_specialize=["voxels", "splits"])
def _factors(
    partial,
    weight,
    bias,
    shift,
    factors,
    voxels,
    channels,
    splits,
    eps,
    SHIFTED: tl.constexpr,
    EACH: tl.constexpr,
    EACH_WIDTH: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """What each channel of a group of an image is multiplied with, and what is added then."""
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
    tl.store(factors + image * 2 * channels + channel, scale, mask=column < EACH)
    tl.store(factors + image * 2 * channels + channels + channel, moved, mask=column < EACH)


@triton.jit(do_not_specialize=["stride", "voxels"])
def _applied(
    x, scales, shifts, stride, voxels, channels, slope, SCALED: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr
):
    """Scaled, shifted, rectified, in place."""
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
def _placed(
    x, out, voxels, channels, all_channels, start, height, width, have_z, have_y, have_x, step_z, step_y, step_x,
    MODE: tl.constexpr, VOLUME: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """A part into its channels of the concatenation."""
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
            source = (
                source * (step_z * step_y * step_x) + (at_z % step_z * step_y + at_y % step_y) * step_x + at_x % step_x
            )
        values = tl.load(x + source[:, None] * channels + column[None, :], mask=there, other=0.0)
    else:
        place_z, place_y, place_x = (
            _within(at_z, have_z, step_z, MODE),
            _within(at_y, have_y, step_y, MODE),
            _within(at_x, have_x, step_x, MODE),
        )
        sums = tl.zeros((ROWS, WIDTH), tl.float32)
        for corner in tl.static_range(8 if VOLUME else 4):
            near_z, share_z = _neighbour(place_z, have_z, corner // 4)
            near_y, share_y = _neighbour(place_y, have_y, corner // 2 % 2)
            near_x, share_x = _neighbour(place_x, have_x, corner % 2)
            source = ((image * have_z + near_z) * have_y + near_y) * have_x + near_x
            taken = tl.load(x + source[:, None] * channels + column[None, :], mask=there, other=0.0).to(tl.float32)
            sums += taken * (share_z * share_y * share_x)[:, None]
        values = sums.to(out.dtype.element_ty)
    tl.store(out + (image * voxels + row[:, None]) * all_channels + start + column[None, :], values, mask=there)


@triton.jit
def _within(at, have, step, MODE: tl.constexpr):
    """Where a voxel of the larger image lies in the smaller one."""
    if MODE == "corners":
        return at.to(tl.float32) * ((have - 1) / tl.maximum(have * step - 1, 1))
    return tl.maximum((at.to(tl.float32) + 0.5) / step - 0.5, 0.0)


@triton.jit
def _neighbour(place, have, UPPER: tl.constexpr):
    """The voxel below a place, or above it, and its share."""
    low = place.to(tl.int32)
    share = place - low.to(tl.float32)
    return (tl.minimum(low + 1, have - 1), share) if UPPER else (low, 1 - share)
