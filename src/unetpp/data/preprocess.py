"""Preprocessing: from the voxels of a file to the input of the network, and from class indices back to label values.

The network works on a grid: that of the file, with its axes in the order of the plan's orientation, or, if the plan has
a spacing, one of voxels of that size between the same edges. An image whose voxels are of that size is never held as a
whole in float32: blocks are read and normalized on demand. Another one is resampled once, onto disk if it is large.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

import numpy as np

from unetpp import labels
from unetpp.data.case_files import open_case_image, read_case_classes
from unetpp.data.orientation import Orientation, find_orientation, keep_axes, turn_source
from unetpp.errors import DataError, Problem
from unetpp.formats import formats_by_suffix
from unetpp.formats.readers import describe_shape
from unetpp.formats.scratch import allocate_array, release
from unetpp.formats.sources import ArraySource, ImageSource, Slices
from unetpp.layouts.dataset import Case
from unetpp.plan import DataPlan, Normalization
from unetpp.slabs import slabs
from unetpp.volume import Geometry

RGB_CHANNELS = ("red", "green", "blue")
LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601), to convert RGB images for a network of one channel."""
SAME_SIZE = 0.01
"""Largest relative difference of voxel sizes that is not resampled."""
MOST_RESAMPLED = 50
"""Largest ratio of the voxel sizes of an image and of the plan along an axis: a header beyond it has the wrong unit."""
NO_SPREAD = float(np.finfo(np.float32).eps)
"""Smallest standard deviation relative to the mean: below, the image is constant and not divided by it."""


class _Readable(Protocol):
    def read(self, slices: Slices) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image on the network's grid, normalized on demand."""

    shape: tuple[int, ...]
    """Shape (C, *grid)."""
    image_shape: tuple[int, ...]
    """Spatial shape of the file, to which predictions are restored."""
    orientation: Orientation
    """What turned the axes of the file into those of the grid."""
    geometry: Geometry
    """Grid and format of the file."""
    source: _Readable
    """Yields normalized blocks."""

    @property
    def turned_shape(self) -> tuple[int, ...]:
        """Spatial shape of the file in the order of the grid's axes."""
        return self.orientation.turn_sizes(self.image_shape)

    def read(self, slices: Slices) -> np.ndarray:
        """Read the normalized block (C, ...) float32 within `slices`, one for each axis; do not modify it."""
        return self.source.read(slices)


def prepare_case_image(case: Case, plan: DataPlan, once: bool = False) -> PreparedImage:
    """Open and prepare the image of a case; `once` as of `prepare_image`. Raises as it and `open_case_image`."""
    return prepare_image(open_case_image(case, plan), plan, str(case.images[0]), once)


def prepare_case_label(case: Case, plan: DataPlan, image: PreparedImage) -> np.ndarray:
    """Read and prepare the label of a case.

    Args:
        case: a case with a label.
        plan: the data section of the plan.
        image: its prepared image.

    Returns:
        Class indices on the network's grid, (*image.shape[1:]); many lie on disk.

    Raises:
        DataError: as `read_case_classes`.
    """
    grid, indices = image.shape[1:], image.orientation.turn(read_case_classes(case, plan))
    return indices if grid == indices.shape else resample_nearest(indices, grid)


def prepare_image(source: ImageSource, plan: DataPlan, where: str = "image", once: bool = False) -> PreparedImage:
    """Turn the axes, convert the channels, normalize, and resample if the plan's spacing differs from the file's.

    Args:
        source: the image.
        plan: the data section of the plan.
        where: name of the image in errors.
        once: every voxel is read about once, so that a resampled image is not stored.

    Returns:
        The image (C, *grid), float32 when read.

    Raises:
        DataError: the number of dimensions or channels differs from the plan's, or voxels are NaN or infinite.
    """
    image_shape = source.shape[1:]
    if len(image_shape) != plan.dims:
        got = f"{len(image_shape)}D data ({describe_shape(image_shape)})"
        _refuse(where, got, f"{plan.dims}D data, as in training", "Leave it out, or use another model.")
    orientation = choose_orientation(source.geometry, plan)
    turned = turn_source(source, orientation)
    shape = turned.shape[1:]
    _check_ratio(turned.geometry.spacing_mm, plan.spacing_mm, where)
    converted = _ConvertedChannels(turned, plan.channels, where)
    normalized = _NormalizedImage(converted, plan.normalization, shape, where, source.dtype.kind == "f")
    grid = network_grid(shape, turned.geometry.spacing_mm, plan.spacing_mm)
    channels = len(plan.channels)
    resampled = normalized if grid == shape else _ResampledImage(normalized, shape, grid)
    prepared = resampled if once or grid == shape else _resample(resampled, (channels, *grid))
    return PreparedImage((channels, *grid), image_shape, orientation, source.geometry, prepared)


def choose_orientation(geometry: Geometry, plan: DataPlan) -> Orientation:
    """Return what turns a file to the axes of the plan; without an orientation its axes are taken to be those."""
    found = find_orientation(geometry, plan.dims) if plan.orientation else None
    return found or keep_axes(plan.dims)


def to_label_values(segmentation: np.ndarray, plan: DataPlan) -> np.ndarray:
    """Convert class indices to the values that stand for them in label files."""
    classes = labels.make_labels(plan)
    found = allocate_array(segmentation.shape, classes.table.dtype)
    for slices in slabs(segmentation.shape):
        found[slices] = classes.decode(segmentation[slices])
        release(found)
        release(segmentation)
    return found


def network_grid(
    shape: tuple[int, ...], spacing_mm: Sequence[float] | None, target_mm: Sequence[float] | None
) -> tuple[int, ...]:
    """Compute the spatial shape of the network's grid; axes whose voxel size differs by at most 1 % keep theirs.

    Args:
        shape: spatial shape of the file.
        spacing_mm: voxel size of the file along each axis; None: unknown.
        target_mm: voxel size of the plan; None: each case keeps its own grid.

    Returns:
        The spatial shape; `shape` itself if one of the voxel sizes is None.
    """
    if spacing_mm is None or target_mm is None:
        return shape
    return tuple(
        size if abs(own / target - 1) <= SAME_SIZE else max(1, round(size * own / target))
        for size, own, target in zip(shape, spacing_mm, target_mm, strict=True)
    )


def _check_ratio(spacing_mm: Sequence[float] | None, target_mm: Sequence[float] | None, where: str) -> None:
    """Refuse a voxel size that no image of this kind has: its grid would be one voxel, or larger than any memory."""
    pairs = zip(spacing_mm or (), target_mm or (), strict=False)
    if all(1 / MOST_RESAMPLED <= own / target <= MOST_RESAMPLED for own, target in pairs):
        return
    got, expected = (" x ".join(f"{size:.3g}" for size in sizes) for sizes in (spacing_mm or (), target_mm or ()))
    action = "Correct the voxel size in its header, or its unit; or resample the image."
    _refuse(where, f"voxels of {got} mm", f"about {expected} mm, within a factor of {MOST_RESAMPLED}", action)


def _find_neighbors(old: int, size: int, part: slice) -> tuple[np.ndarray, np.ndarray]:
    """Return, for a part of an axis resampled from `old` to `size` voxels, the voxel before and the weight of the next.

    Args:
        old: voxels of the axis before.
        size: voxels after resampling.
        part: of the axis after resampling.
    """
    position = np.clip((np.arange(part.start, part.stop) + 0.5) * (old / size) - 0.5, 0, old - 1)
    lower = position.astype(np.intp)
    return lower, (position - lower).astype(np.float32)


def _interpolate(array: np.ndarray, axis: int, lower: np.ndarray, weight: np.ndarray) -> np.ndarray:
    before: np.ndarray = array.take(lower, axis)
    after: np.ndarray = array.take(np.minimum(lower + 1, array.shape[axis] - 1), axis)
    after -= before  # in place: the array may take a large part of the memory
    after *= weight.reshape(-1, *[1] * (array.ndim - axis - 1))
    after += before
    return after


def resample_nearest(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Resample (*spatial) to another shape by nearest neighbors, with the edges of `resample_block`.

    It is done slab by slab, and a large result lies on disk.
    """
    nearest = [
        ((np.arange(size) + 0.5) * (old / size)).astype(np.intp) for old, size in zip(array.shape, shape, strict=True)
    ]
    found = allocate_array(shape, array.dtype)
    for slices in slabs(shape):
        found[slices] = array[np.ix_(*(places[part] for places, part in zip(nearest, slices, strict=True)))]
        release(found)
    return found


class _ConvertedChannels:
    """A source as float32, with the channels of the network: gray repeated for RGB, RGB converted to gray."""

    def __init__(self, source: ImageSource, channels: tuple[str, ...], where: str) -> None:
        self._source = source
        self._channels = len(channels)
        got = source.shape[0]
        may_be_rgb = not formats_by_suffix()[source.geometry.suffix].medical  # else they may be three modalities
        fits = got == self._channels or (got == 1 and channels == RGB_CHANNELS)
        fits = fits or (got == 3 and self._channels == 1 and may_be_rgb)
        if not fits:
            expected = f"{self._channels} ({', '.join(channels)})"
            is_series = got > 1 and len(source.shape) == 4 and source.geometry.affine is not None
            found = f"{got} channel{'s' * (got != 1)}{' or time points' if is_series else ''}"
            _refuse(where, found, expected, "Give the same channels as in training.")

    def read(self, slices: Slices) -> np.ndarray:
        """Read a block that the caller may modify."""
        block = self._source.read(slices)
        if len(block) == self._channels:
            return block.astype(np.float32)
        if len(block) == 1:
            return np.repeat(block.astype(np.float32), self._channels, axis=0)
        return np.tensordot(np.asarray([LUMINANCE], dtype=np.float32), block.astype(np.float32), axes=1)


class _NormalizedImage:
    """A source whose blocks are clipped, and standardized by mean and standard deviation."""

    def __init__(
        self,
        source: _Readable,
        plans: Sequence[Normalization],
        shape: tuple[int, ...],
        where: str,
        check_finite: bool,
    ) -> None:
        self._source = source
        self._plans = plans
        self._means = np.asarray([plan.mean for plan in plans])
        self._stds = np.asarray([plan.std for plan in plans])
        per_case = np.asarray([plan.per_case for plan in plans])
        if per_case.any() or check_finite:
            means, stds = self._measure(shape, where)
            self._means = np.where(per_case, means, self._means)
            self._stds = np.where(per_case, stds, self._stds)

    def read(self, slices: Slices) -> np.ndarray:
        """Read and normalize a block."""
        block = self._clip(self._source.read(slices))
        for channel, mean, std in zip(block, self._means, self._stds, strict=True):
            channel -= np.float32(mean)
            channel /= np.float32(std)
        return block

    def _clip(self, block: np.ndarray) -> np.ndarray:
        for channel, plan in zip(block, self._plans, strict=True):
            if plan.lower is not None or plan.upper is not None:
                np.clip(channel, plan.lower, plan.upper, out=channel)
        return block

    def _measure(self, shape: tuple[int, ...], where: str) -> tuple[np.ndarray, np.ndarray]:
        """Compute mean and standard deviation of each channel, block by block (Chan et al. 1979)."""
        count, mean, squares = 0, np.zeros(len(self._plans)), np.zeros(len(self._plans))
        for slices in slabs(shape):
            block = self._source.read(slices).reshape(len(self._plans), -1)
            if not np.isfinite(block.sum(dtype=np.float64)):
                action = "Replace them in the image; a model that was trained with `data.fill=0` does it by itself."
                _refuse(where, "voxels that are NaN or infinite", "finite numbers", action)
            block_count, block_mean = block.shape[1], self._clip(block).mean(axis=1, dtype=np.float64)
            block -= block_mean[:, None].astype(np.float32)
            delta, total = block_mean - mean, count + block_count
            squares += np.einsum("cn,cn->c", block, block, dtype=np.float64) + delta**2 * count * block_count / total
            mean += delta * block_count / total
            count = total
        std = np.sqrt(squares / count)
        return mean, np.where(std > NO_SPREAD * np.abs(mean), std, 1.0)


class _ResampledImage:
    """A source on another grid, whose blocks are interpolated when they are read."""

    def __init__(self, source: _Readable, shape: tuple[int, ...], grid: tuple[int, ...]) -> None:
        self._source = source
        self._shape = shape
        self._grid = grid

    def read(self, slices: Slices) -> np.ndarray:
        """Interpolate a block of the other grid."""
        return resample_block(self._source, slices, self._shape, self._grid)


def _resample(image: _Readable, shape: tuple[int, ...]) -> ArraySource:
    """Store an image (*shape) slab by slab; a large one lies on disk."""
    array = allocate_array(shape, np.float32)
    for slices in slabs(shape[1:]):
        array[(slice(None), *slices)] = image.read(slices)
        release(array)
    return ArraySource(array, Geometry())


def resample_block(source: _Readable, slices: Slices, shape: tuple[int, ...], grid: tuple[int, ...]) -> np.ndarray:
    """Interpolate a block of another grid from the voxels around it.

    Args:
        source: the image.
        slices: of the block, one for each axis of `grid`.
        shape: spatial shape of the image.
        grid: the other spatial shape; the edges of the field of view do not move.
    """
    neighbors = [
        None if old == size else _find_neighbors(old, size, part)
        for part, old, size in zip(slices, shape, grid, strict=True)
    ]
    around = [
        part if found is None else slice(int(found[0][0]), min(int(found[0][-1]) + 2, old))
        for part, found, old in zip(slices, neighbors, shape, strict=True)
    ]
    block = source.read(tuple(around))
    for axis, (part, found) in enumerate(zip(around, neighbors, strict=True), start=1):
        if found is not None:
            block = _interpolate(block, axis, found[0] - part.start, found[1])
    return block


def _refuse(where: str, got: str, expected: str, action: str) -> NoReturn:
    raise DataError(Problem(where, got, expected, action))
