"""Whether a new image is like those of the training: voxel size, orientation, channels and intensities.

Intensities are compared by two percentiles of a sample of bounded size. Where the plan normalizes each case, they are
taken in standard deviations from the mean of the image, which no change of brightness or contrast moves.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np

from unetpp.data.orientation import find_orientation
from unetpp.data.preprocess import LUMINANCE, choose_orientation
from unetpp.formats import formats_by_suffix
from unetpp.formats.sources import ImageSource
from unetpp.plan import ChannelRange, DataPlan, TrainingRange
from unetpp.volume import Geometry
from unetpp.words import count_noun

PERCENTILES = (1, 99)
SAMPLED = 2**20
"""Largest number of voxels that are read to measure the intensities of an image."""
_RANKED = 2**15
"""Number of values, or twice as many, whose percentiles are taken."""
BLOCKS = 4
"""Number of blocks along each axis in which they lie, in an image of more."""
VOXEL_FACTOR = 1.5
"""A voxel size is outside if it is smaller or larger than all of the training by more than this factor."""
MARGIN = 0.2
"""Distance to the training's percentiles that is not outside, as a fraction of that between the two."""
SCALE_FACTOR = 50
"""Values are on another scale than the normalization if they span less or reach further than its scale by this."""


def sample_values(source: ImageSource) -> np.ndarray:
    """Read evenly spread blocks of an image: (C, n) float32 values, at most about a million; all of a small image."""
    shape = source.shape[1:]
    dims = len(shape)
    side = max(1, int((SAMPLED / BLOCKS**dims) ** (1 / dims)))
    whole = int(np.prod(shape, dtype=np.int64)) <= SAMPLED
    axes = [
        [slice(0, size)]
        if whole or size <= BLOCKS * side
        else [slice(int(start), int(start) + side) for start in np.linspace(0, size - side, BLOCKS)]
        for size in shape
    ]
    blocks = [source.read(slices).reshape(source.shape[0], -1) for slices in itertools.product(*axes)]
    return np.concatenate(blocks, axis=1).astype(np.float32)


def measure_levels(values: np.ndarray) -> np.ndarray:
    """Measure each channel of a sample (C, n): percentiles 1 and 99, mean and standard deviation, as (C, 4)."""
    levels = np.zeros((len(values), 4))
    for row, channel in zip(levels, values, strict=True):
        finite = channel[np.isfinite(channel)]
        if finite.size:
            some = finite[:: finite.size // _RANKED | 1]  # an odd step: rows are mostly even
            row[:] = *np.percentile(some, PERCENTILES), finite.mean(dtype=np.float64), finite.std(dtype=np.float64)
    return levels


def keep_filled(values: np.ndarray) -> np.ndarray:
    """Keep those of (C, n) values that are not 0 in every channel."""
    return values[:, values.any(axis=0)]


def standardize_levels(levels: np.ndarray) -> np.ndarray:
    """Convert levels (..., 4) to percentiles in standard deviations from the mean, (..., 2); 0 for a constant image."""
    mean, std = levels[..., 2:3], levels[..., 3:4]
    scaled: np.ndarray = np.where(std > 0, (levels[..., :2] - mean) / np.where(std > 0, std, 1), 0.0)
    return scaled


def span_levels(percentiles: np.ndarray) -> ChannelRange:
    """Make the range of one channel from the percentiles (cases, 2) of all cases."""
    (low, high), (lowest, highest) = percentiles.min(axis=0), percentiles.max(axis=0)
    return ChannelRange(low=(_round(low), _round(lowest)), high=(_round(high), _round(highest)))


def find_outside(source: ImageSource, plan: DataPlan) -> tuple[str, ...]:
    """Say in which ways an image is outside of the range of the training; where the plan has none, see `find_scale`.

    Args:
        source: the image, with the axes of its file.
        plan: the data section of the plan.
    """
    known = plan.training_range
    if known is None:
        return (*_judge_conversion(source, plan), *find_scale(source, plan))
    values = sample_values(source)
    converted_values = _convert_channels(values, len(plan.channels))
    levels, nonzero = measure_levels(converted_values), [[each.nonzero] for each in plan.normalization]
    if np.any(nonzero):
        levels = np.where(nonzero, measure_levels(keep_filled(converted_values)), levels)
    found = _count_source_channels(source, values)
    channels = count_noun(found, "channel")
    had = " or ".join(map(str, known.channels))
    converted = (
        () if found in known.channels else (f"{channels}, converted to {len(plan.channels)}; training had {had}",)
    )
    return (*_judge_geometry(source.geometry, plan, known), *converted, *_judge_intensities(levels, plan, known))


def find_scale(source: ImageSource, plan: DataPlan) -> tuple[str, ...]:
    """Say which channels are on another scale than their fixed normalization, such as 0..1 for 0..255.

    Only for a plan without a range of the training, such as that of a network of one's own loop. A constant channel,
    and a normalization that scales nothing, say nothing.
    """
    if plan.training_range is not None or all(each.per_case for each in plan.normalization):
        return ()
    levels = measure_levels(_convert_channels(sample_values(source), len(plan.channels)))
    return tuple(_judge_scales(levels, plan))


def _judge_conversion(source: ImageSource, plan: DataPlan) -> Iterable[str]:
    """Say that gray is repeated for color, or color converted to gray, but not if it is gray that is stored so."""
    wanted = len(plan.channels)
    if source.shape[0] != wanted and (found := _count_source_channels(source, sample_values(source))) != wanted:
        yield f"{count_noun(found, 'channel')}, converted to {wanted}; the network takes {', '.join(plan.channels)}"


def _count_source_channels(source: ImageSource, values: np.ndarray) -> int:
    return count_channels(values, may_be_colors=not formats_by_suffix()[source.geometry.suffix].medical)


def _judge_scales(levels: np.ndarray, plan: DataPlan) -> Iterable[str]:
    for name, (low, high, _, _), scale in zip(plan.channels, levels, plan.normalization, strict=True):
        bounds = (-math.inf if scale.lower is None else scale.lower, math.inf if scale.upper is None else scale.upper)
        is_scaled = (scale.mean, scale.std) != (0, 1)
        reach = max(abs(min(max(value, bounds[0]), bounds[1]) - scale.mean) for value in (low, high))
        is_flat = is_scaled and high - low < scale.std / SCALE_FACTOR
        is_far = is_scaled and reach > scale.std * SCALE_FACTOR
        is_clipped = high <= bounds[0] or low >= bounds[1]
        if scale.per_case or low == high or not (is_flat or is_far or is_clipped):
            continue
        first, last = bounds
        if not math.isfinite(last - first):
            first, last = scale.mean - (scale.std if scale.mean else 0), scale.mean + scale.std
        channel = f" of channel {name}" if len(plan.channels) > 1 else ""
        yield f"values{channel}: {low:.3g} to {high:.3g}; `data.normalization` expects about {first:g} to {last:g}"


def _judge_geometry(geometry: Geometry, plan: DataPlan, known: TrainingRange) -> Iterable[str]:
    if plan.orientation and find_orientation(geometry, plan.dims) is None:
        yield "no orientation; its axes are taken to run up, to the front and to the right"
    if known.smallest_mm is None or known.largest_mm is None:
        return
    training = _describe_sizes(known.smallest_mm, known.largest_mm)
    if geometry.spacing_mm is None:
        yield f"no voxel size; training had {training} mm"
        return
    spacing = choose_orientation(geometry, plan).turn_sizes(geometry.spacing_mm)
    limits = zip(spacing, known.smallest_mm, known.largest_mm, strict=True)
    if any(not low / VOXEL_FACTOR <= size <= high * VOXEL_FACTOR for size, low, high in limits):
        yield f"voxel size {_join(spacing)} mm; training had {training} mm"


def count_channels(values: np.ndarray, may_be_colors: bool) -> int:
    """Count the channels of (C, n) values; three equal ones of a format of colors are one."""
    is_gray = may_be_colors and len(values) == 3 and bool((values == values[:1]).all())
    return 1 if is_gray else len(values)


def _convert_channels(values: np.ndarray, channels: int) -> np.ndarray:
    if len(values) == channels:
        return values
    return np.asarray([LUMINANCE], np.float32) @ values if len(values) == 3 else np.repeat(values[:1], channels, axis=0)


def _judge_intensities(levels: np.ndarray, plan: DataPlan, known: TrainingRange) -> Iterable[str]:
    for name, own, usual, scale in zip(plan.channels, levels, known.intensities, plan.normalization, strict=True):
        low, high = standardize_levels(own) if scale.per_case else own[:2]
        margin = MARGIN * (sum(usual.high) - sum(usual.low)) / 2
        if is_within(low, usual.low, margin) and is_within(high, usual.high, margin):
            continue
        unit = " standard deviations from the mean" if scale.per_case else ""
        training = f"{_describe_ends(usual.low)} and {_describe_ends(usual.high)}"
        channel = f" of channel {name}" if len(plan.channels) > 1 else ""
        yield f"intensities{channel}: percentiles 1 and 99 are {low:.3g} and {high:.3g}{unit}; training had {training}"


def is_within(value: float, ends: tuple[float, float], margin: float) -> bool:
    """Tell whether a value is between two others, or no further away than `margin`."""
    return bool(ends[0] - margin <= value <= ends[1] + margin)


def _describe_sizes(smallest: Sequence[float], largest: Sequence[float]) -> str:
    first, last = _join(smallest), _join(largest)
    return first if first == last else f"{first} to {last}"


def _describe_ends(ends: tuple[float, float]) -> str:
    first, last = (f"{end:.3g}" for end in ends)
    return first if first == last else f"{first} to {last}"


def _join(sizes: Iterable[float]) -> str:
    return " x ".join(f"{size:.3g}" for size in sizes)


def _round(value: float) -> float:
    return float(f"{value:.6g}")
