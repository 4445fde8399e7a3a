"""From a file's voxels to what the network sees, and the way back for class indices.

The network works on a grid: that of the file, or, where the plan has a spacing, one whose voxels have that size and whose
edges are those of the file. An image whose file already lies on the grid is never held as a whole in float32: blocks are
read and normalised on demand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

import numpy as np

from unetpp import labels
from unetpp.data.dataset import Case
from unetpp.data.formats import by_suffix
from unetpp.data.readers import describe_shape, open_images, read_labels
from unetpp.data.scratch import new_array, release
from unetpp.data.sources import ImageSource, Slices
from unetpp.data.volume import Geometry, Volume
from unetpp.errors import DataError, Problem
from unetpp.plan import DataPlan, Normalization
from unetpp.slabs import slabs

COLOURS = ("red", "green", "blue")
LUMINANCE = (0.299, 0.587, 0.114)
"""Of red, green and blue (ITU-R BT.601), for colour images of a network that wants grey."""
NO_SPREAD = float(np.finfo(np.float32).eps)
"""A deviation that is a smaller share of the mean is that of a constant image, and is not divided by."""


class _Readable(Protocol):
    def read(self, slices: Slices) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image as the network sees it."""

    shape: tuple[int, ...]
    """(C, *grid)."""
    image_shape: tuple[int, ...]
    """Spatial shape of the file: what a prediction is restored to."""
    geometry: Geometry
    blocks: _Readable

    def read(self, slices: Slices) -> np.ndarray:
        """The normalised block (C, ...) float32 within `slices`, one for each axis of the grid; do not write to it."""
        return self.blocks.read(slices)


def prepare_case_image(case: Case, plan: DataPlan) -> PreparedImage:
    """Open and prepare the image of a case. Raises as `open_images` and `prepare_image`."""
    return prepare_image(open_images(case.images), plan, str(case.images[0]))


def prepare_case_label(case: Case, plan: DataPlan, grid: tuple[int, ...]) -> np.ndarray:
    """Read and prepare the label of a case, on the grid of its prepared image. Raises as `read_labels` and `prepare_label`."""
    return prepare_label(read_labels(case.labels), plan, str(case.labels[0]), grid)


def prepare_image(source: ImageSource, plan: DataPlan, where: str = "image") -> PreparedImage:
    """Fit the channels, normalise, and resample where the plan's spacing makes another grid.

    Args:
        where: the name of the image in errors.

    Raises:
        DataError: another number of dimensions or channels than the plan's, or voxels that are NaN or infinite.
    """
    image_shape = source.shape[1:]
    if len(image_shape) != plan.dims:
        _refuse(
            where,
            f"{len(image_shape)}D data ({describe_shape(image_shape)})",
            f"{plan.dims}D data, as in training",
            "Leave it out, or use another model.",
        )
    fitted = _FittedChannels(source, plan.channels, where)
    normalized = _Normalized(fitted, plan.normalization, image_shape, where, source.dtype.kind == "f")
    grid = network_grid(image_shape, source.geometry.spacing_mm, plan.spacing_mm)
    blocks = normalized if grid == image_shape else _Resampled(normalized, image_shape, grid)
    return PreparedImage((len(plan.channels), *grid), image_shape, source.geometry, blocks)


def prepare_label(
    label: Volume, plan: DataPlan, where: str = "label", grid: tuple[int, ...] | None = None
) -> np.ndarray:
    """Class indices (*grid) on the network's grid; uint8, or uint16 for more than 256 classes.

    Args:
        grid: that of the image, whose format may know a voxel size where the label's does not; None: from the label's own voxel size.

    Raises:
        DataError: a value that stands for no class of the plan.
    """
    indices = labels.make_labels(plan).encode(label.array[0], where)
    grid = grid or network_grid(label.shape, label.geometry.spacing_mm, plan.spacing_mm)
    return indices if grid == label.shape else resample_nearest(indices, grid)


def to_label_values(segmentation: np.ndarray, plan: DataPlan) -> np.ndarray:
    """Class indices as the values that stand for them in label files."""
    classes = labels.make_labels(plan)
    found = new_array(segmentation.shape, classes.table.dtype)
    for slices in slabs(segmentation.shape):
        found[slices] = classes.decode(segmentation[slices])
        release(found)
        release(segmentation)
    return found


def network_grid(
    shape: tuple[int, ...], spacing_mm: Sequence[float] | None, target_mm: Sequence[float] | None
) -> tuple[int, ...]:
    """Spatial shape of the network's grid; the shape itself where one of the spacings is unknown."""
    if spacing_mm is None or target_mm is None:
        return shape
    return tuple(
        max(1, round(size * own / target)) for size, own, target in zip(shape, spacing_mm, target_mm, strict=True)
    )


def resample_linear(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Resample (*spatial) float32 to another shape; the edges of the field of view stay where they are."""
    for axis, (old, size) in enumerate(zip(array.shape, shape, strict=True)):
        if old != size:
            position = np.clip((np.arange(size) + 0.5) * (old / size) - 0.5, 0, old - 1)
            lower = position.astype(np.intp)
            share = (position - lower).astype(np.float32).reshape(-1, *[1] * (array.ndim - axis - 1))
            before, after = array.take(lower, axis), array.take(np.minimum(lower + 1, old - 1), axis)
            after -= before  # in place: an array may be a large part of the memory
            after *= share
            after += before
            array = after
            del before, after
    return array


def resample_nearest(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Resample (*spatial) without ever making a new value; edges as `resample_linear` has them."""
    nearest = [
        ((np.arange(size) + 0.5) * (old / size)).astype(np.intp) for old, size in zip(array.shape, shape, strict=True)
    ]
    return array[np.ix_(*nearest)]


class _FittedChannels:
    """A source as float32, with the channels that the network wants."""

    def __init__(self, source: ImageSource, channels: tuple[str, ...], where: str) -> None:
        self._source = source
        self._wanted = len(channels)
        got = source.shape[0]
        coloured = not by_suffix()[source.geometry.suffix].medical  # three modalities of a volume are no colours
        fits = (
            got == self._wanted or (got == 1 and channels == COLOURS) or (got == 3 and self._wanted == 1 and coloured)
        )
        if not fits:
            expected = f"{self._wanted} ({', '.join(channels)})"
            _refuse(where, f"{got} channel{'s' * (got != 1)}", expected, "Give the same channels as in training.")

    def read(self, slices: Slices) -> np.ndarray:
        """A block that is the caller's own to change."""
        block = self._source.read(slices)
        if len(block) == self._wanted:
            return block.astype(np.float32)
        if len(block) == 1:
            return np.repeat(block.astype(np.float32), self._wanted, axis=0)
        return np.tensordot(np.asarray([LUMINANCE], dtype=np.float32), block.astype(np.float32), axes=1)


class _Normalized:
    """Blocks after clipping, with the mean taken off and divided by the deviation."""

    def __init__(
        self,
        source: _Readable,
        plans: Sequence[Normalization],
        shape: tuple[int, ...],
        where: str,
        may_be_infinite: bool,
    ) -> None:
        self._source = source
        self._plans = plans
        self._means = np.asarray([plan.mean for plan in plans])
        self._stds = np.asarray([plan.std for plan in plans])
        per_case = np.asarray([plan.per_case for plan in plans])
        if per_case.any() or may_be_infinite:
            means, stds = self._statistics(shape, where)
            self._means = np.where(per_case, means, self._means)
            self._stds = np.where(per_case, stds, self._stds)

    def read(self, slices: Slices) -> np.ndarray:
        block = self._clipped(self._source.read(slices))
        for channel, mean, std in zip(block, self._means, self._stds, strict=True):
            channel -= np.float32(mean)
            channel /= np.float32(std)
        return block

    def _clipped(self, block: np.ndarray) -> np.ndarray:
        for channel, plan in zip(block, self._plans, strict=True):
            if plan.lower is not None or plan.upper is not None:
                np.clip(channel, plan.lower, plan.upper, out=channel)
        return block

    def _statistics(self, shape: tuple[int, ...], where: str) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of each channel, block by block (Chan et al. 1979)."""
        count, mean, squares = 0, np.zeros(len(self._plans)), np.zeros(len(self._plans))
        for slices in slabs(shape):
            block = self._source.read(slices).reshape(len(self._plans), -1)
            if not np.isfinite(block.sum(dtype=np.float64)):
                _refuse(
                    where,
                    "voxels that are NaN or infinite",
                    "finite numbers",
                    "Replace them, for example with the smallest value.",
                )
            block_count, block_mean = block.shape[1], self._clipped(block).mean(axis=1, dtype=np.float64)
            block -= block_mean[:, None].astype(np.float32)
            delta, total = block_mean - mean, count + block_count
            squares += np.einsum("cn,cn->c", block, block, dtype=np.float64) + delta**2 * count * block_count / total
            mean += delta * block_count / total
            count = total
        std = np.sqrt(squares / count)
        return mean, np.where(std > NO_SPREAD * np.abs(mean), std, 1.0)


class _Resampled:
    """A whole image on another grid, in memory."""

    def __init__(self, source: _Readable, shape: tuple[int, ...], grid: tuple[int, ...]) -> None:
        block = source.read(tuple(slice(0, size) for size in shape))
        self._array = np.stack([resample_linear(channel, grid) for channel in block])

    def read(self, slices: Slices) -> np.ndarray:
        return self._array[(slice(None), *slices)]


def _refuse(where: str, got: str, expected: str, action: str) -> NoReturn:
    raise DataError(Problem(where, got, expected, action))
