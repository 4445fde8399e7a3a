"""Normalization of intensities on demand: an image of any size, block by block."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unetpp.data.resampling import Readable
from unetpp.errors import DataError, Problem
from unetpp.formats.sources import Slices
from unetpp.plan import Normalization
from unetpp.slabs import slabs

NO_SPREAD = float(np.finfo(np.float32).eps)
"""Smallest standard deviation relative to the mean: below, the image is constant and not divided by it."""


class NormalizedImage:
    """A source whose blocks are clipped and scaled as a plan says.

    Args:
        source: the image; its blocks are float32 and may be modified.
        plans: normalization of each channel.
        shape: spatial shape of the image.
        where: name of the image in errors.
        check_finite: refuse NaN and infinity even if no channel is measured.

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
    ) -> None:
        self._source = source
        self._plans = plans
        self._nonzero = np.asarray([plan.nonzero for plan in plans])
        self._means = np.asarray([plan.mean for plan in plans])
        self._stds = np.asarray([plan.std for plan in plans])
        per_case = np.asarray([plan.per_case for plan in plans])
        if per_case.any() or check_finite:
            means, stds = self._measure(shape, where)
            self._means = np.where(per_case, means, self._means)
            self._stds = np.where(per_case, stds, self._stds)

    def read(self, slices: Slices) -> np.ndarray:
        """Read and normalize a block."""
        block = self._source.read(slices)
        empty = ~block.any(axis=0) if self._nonzero.any() else None
        self._clip(block)
        for channel, mean, std, nonzero in zip(block, self._means, self._stds, self._nonzero, strict=True):
            channel -= np.float32(mean)
            channel /= np.float32(std)
            if nonzero:
                channel[empty] = 0
        return block

    def _clip(self, block: np.ndarray) -> np.ndarray:
        for channel, plan in zip(block, self._plans, strict=True):
            if plan.lower is not None or plan.upper is not None:
                np.clip(channel, plan.lower, plan.upper, out=channel)
        return block

    def _measure(self, shape: tuple[int, ...], where: str) -> tuple[np.ndarray, np.ndarray]:
        """Measure what is subtracted from each channel, and what divides it, block by block."""
        channels = len(self._plans)
        all_voxels, filled = _Moments(channels), _Moments(channels)
        is_range = np.asarray([plan.scale == "0_to_1" for plan in self._plans])
        low, high = np.full(channels, np.inf), np.full(channels, -np.inf)
        for slices in slabs(shape):
            block = self._source.read(slices).reshape(channels, -1)
            if not np.isfinite(block.sum(dtype=np.float64)):
                action = "Replace them in the image; a model that was trained with `data.fill=0` does it by itself."
                raise DataError(Problem(where, "voxels that are NaN or infinite", "finite numbers", action))
            inside = block.any(axis=0) if self._nonzero.any() else None
            self._clip(block)
            if is_range.any():
                low, high = np.minimum(low, block.min(axis=1)), np.maximum(high, block.max(axis=1))
            if inside is not None and inside.any():
                filled.add(block[:, inside])
            all_voxels.add(block)
        mean = np.where(self._nonzero, filled.mean, all_voxels.mean)
        std = np.where(self._nonzero, filled.std, all_voxels.std)
        std = np.where(std > NO_SPREAD * np.abs(mean), std, 1.0)
        span = np.where(high > low, high - low, 1.0)
        return np.where(is_range, low, mean), np.where(is_range, span, std)


class _Moments:
    """Mean and standard deviation of each channel, block by block (Chan et al. 1979)."""

    def __init__(self, channels: int) -> None:
        self._count, self.mean, self._squares = 0, np.zeros(channels), np.zeros(channels)

    @property
    def std(self) -> np.ndarray:
        deviation: np.ndarray = np.sqrt(self._squares / max(1, self._count))
        return deviation

    def add(self, block: np.ndarray) -> None:
        """Add a block (channels, n), which is modified."""
        block_count, block_mean = block.shape[1], block.mean(axis=1, dtype=np.float64)
        block -= block_mean[:, None].astype(np.float32)
        delta, total = block_mean - self.mean, self._count + block_count
        squares = np.einsum("cn,cn->c", block, block, dtype=np.float64)
        self._squares += squares + delta**2 * self._count * block_count / total
        self.mean += delta * block_count / total
        self._count = total
