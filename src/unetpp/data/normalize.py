"""Normalization of intensities on demand: an image of any size, block by block."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from unetpp.data.resampling import Readable
from unetpp.errors import DataError, Problem
from unetpp.formats.sources import Slices
from unetpp.plan import Normalization
from unetpp.slabs import slabs

NO_SPREAD = float(np.finfo(np.float32).eps)
"""Smallest standard deviation relative to the mean: below, the image is constant and not divided by it."""


@dataclass(frozen=True, eq=False)
class Scales:
    """What is subtracted from each channel of an image, and what divides it; float64."""

    means: np.ndarray
    stds: np.ndarray


@dataclass(frozen=True, eq=False)
class Moments:
    """Number of voxels, mean and sum of squared differences from it, for each channel."""

    count: int
    mean: np.ndarray
    squares: np.ndarray


@dataclass(frozen=True, eq=False)
class SlabMeasure:
    """Measurements of one slab of an image, of which those of the whole are made. Arrays have an entry per channel."""

    voxels: Moments
    filled: Moments | None
    """Of the voxels that are not 0 in every channel; None: there is none, or no channel asks for it."""
    low: np.ndarray
    high: np.ndarray


class NormalizedImage:
    """A source whose blocks are clipped and scaled as a plan says.

    Args:
        source: the image; its blocks are float32 and may be modified.
        plans: normalization of each channel.
        shape: spatial shape of the image.
        where: name of the image in errors.
        check_finite: refuse NaN and infinity even if no channel is measured.
        scales: what `measure_scales` returned for this image; None: it is measured here.

    Raises:
        DataError: voxels are NaN or infinite.
    """

    def __init__(
        self,
        source: Readable,
        plans: Sequence[Normalization],
        shape: tuple[int, ...],
        where: str,
        check_finite: bool,
        scales: Scales | None = None,
    ) -> None:
        self._source = source
        self._plans = plans
        self._nonzero = np.asarray([plan.nonzero for plan in plans])
        self._means = np.asarray([plan.mean for plan in plans])
        self._stds = np.asarray([plan.std for plan in plans])
        if needs_measuring(plans, check_finite):
            per_case = np.asarray([plan.per_case for plan in plans])
            found = scales or join_slabs((measure_slab(source, slices, plans, where) for slices in slabs(shape)), plans)
            self._means = np.where(per_case, found.means, self._means)
            self._stds = np.where(per_case, found.stds, self._stds)

    def read(self, slices: Slices) -> np.ndarray:
        """Read and normalize a block."""
        block = self._source.read(slices)
        empty = ~block.any(axis=0) if self._nonzero.any() else None
        _clip(block, self._plans)
        for channel, mean, std, nonzero in zip(block, self._means, self._stds, self._nonzero, strict=True):
            channel -= np.float32(mean)
            channel /= np.float32(std)
            if nonzero:
                channel[empty] = 0
        return block


def needs_measuring(plans: Sequence[Normalization], check_finite: bool) -> bool:
    """Tell whether a whole image is measured before its first block is normalized."""
    return check_finite or any(plan.per_case for plan in plans)


def measure_slab(source: Readable, slices: Slices, plans: Sequence[Normalization], where: str) -> SlabMeasure:
    """Measure a slab of an image; arguments as of `NormalizedImage`.

    Raises:
        DataError: voxels are NaN or infinite.
    """
    channels = len(plans)
    block = source.read(slices).reshape(channels, -1)
    if not np.isfinite(block.sum(dtype=np.float64)):
        action = "Replace them in the image; a model that was trained with `data.fill=0` does it by itself."
        raise DataError(Problem(where, "voxels that are NaN or infinite", "finite numbers", action))
    inside = block.any(axis=0) if any(plan.nonzero for plan in plans) else None
    _clip(block, plans)
    low, high = np.full(channels, np.inf), np.full(channels, -np.inf)
    if any(plan.scale == "0_to_1" for plan in plans):
        low, high = block.min(axis=1), block.max(axis=1)
    filled = _measure_moments(block[:, inside]) if inside is not None and inside.any() else None
    return SlabMeasure(_measure_moments(block), filled, low, high)


def join_slabs(found: Iterable[SlabMeasure], plans: Sequence[Normalization]) -> Scales:
    """Join the measurements of all slabs of an image, in their order."""
    channels = len(plans)
    all_voxels, filled = _Total(channels), _Total(channels)
    low, high = np.full(channels, np.inf), np.full(channels, -np.inf)
    for slab in found:
        low, high = np.minimum(low, slab.low), np.maximum(high, slab.high)
        all_voxels.add(slab.voxels)
        if slab.filled is not None:
            filled.add(slab.filled)
    nonzero = np.asarray([plan.nonzero for plan in plans])
    is_range = np.asarray([plan.scale == "0_to_1" for plan in plans])
    mean = np.where(nonzero, filled.mean, all_voxels.mean)
    std = np.where(nonzero, filled.std, all_voxels.std)
    std = np.where(std > NO_SPREAD * np.abs(mean), std, 1.0)
    span = np.where(high > low, high - low, 1.0)
    return Scales(np.where(is_range, low, mean), np.where(is_range, span, std))


def _clip(block: np.ndarray, plans: Sequence[Normalization]) -> None:
    for channel, plan in zip(block, plans, strict=True):
        if plan.lower is not None or plan.upper is not None:
            np.clip(channel, plan.lower, plan.upper, out=channel)


def _measure_moments(block: np.ndarray) -> Moments:
    """Measure a block (channels, n), which is modified."""
    mean = block.mean(axis=1, dtype=np.float64)
    block -= mean[:, None].astype(np.float32)
    return Moments(block.shape[1], mean, np.einsum("cn,cn->c", block, block, dtype=np.float64))


class _Total:
    """Mean and standard deviation of each channel, block by block (Chan et al. 1979)."""

    def __init__(self, channels: int) -> None:
        self._count, self.mean, self._squares = 0, np.zeros(channels), np.zeros(channels)

    @property
    def std(self) -> np.ndarray:
        deviation: np.ndarray = np.sqrt(self._squares / max(1, self._count))
        return deviation

    def add(self, block: Moments) -> None:
        """Add the moments of a block."""
        delta, total = block.mean - self.mean, self._count + block.count
        self._squares += block.squares + delta**2 * self._count * block.count / total
        self.mean += delta * block.count / total
        self._count = total
