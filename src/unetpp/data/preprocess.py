"""Preprocessing: from the voxels of a file to the input of the network, and from class indices back to label values.

The network works on a grid: that of the file, with its axes in the order of the plan's orientation, or, if the plan has
a spacing, one of voxels of that size between the same edges. An image whose voxels are of that size is never held as a
whole in float32: blocks are read and normalized on demand. Another one is resampled once, onto disk if it is large.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from unetpp import labels
from unetpp.data.case_files import open_case_image, read_case_classes
from unetpp.data.normalize import NormalizedImage, Scales
from unetpp.data.orientation import Orientation, find_orientation, keep_axes, turn_source
from unetpp.data.resampling import (
    Readable,
    Resampled,
    choose_methods,
    find_thick_axis,
    resample_nearest,
    store_image,
)
from unetpp.errors import DataError, Problem
from unetpp.formats import formats_by_suffix
from unetpp.formats.readers import describe_shape
from unetpp.formats.sources import ImageSource, Slices
from unetpp.layouts.dataset import Case
from unetpp.plan import DataPlan
from unetpp.scratch import allocate_array, release
from unetpp.slabs import slabs
from unetpp.volume import Geometry

RGB_CHANNELS = ("red", "green", "blue")
LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601), to convert RGB images for a network of one channel."""
SAME_SIZE = 0.01
"""Largest relative difference of voxel sizes that is not resampled."""
MOST_RESAMPLED = 50
"""Largest ratio of the voxel sizes of an image and of the plan along an axis: a header beyond it has the wrong unit."""


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
    source: Readable
    """Yields normalized blocks."""
    thick: int | None = None
    """Axis of the grid along which the nearest slice is taken, here and in predictions; None: there is none."""

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


def prepare_image(
    source: ImageSource, plan: DataPlan, where: str = "image", once: bool = False, scales: Scales | None = None
) -> PreparedImage:
    """Turn the axes, convert the channels, normalize, and resample if the plan's spacing differs from the file's.

    Args:
        source: the image.
        plan: the data section of the plan.
        where: name of the image in errors.
        once: every voxel is read about once, so that a resampled image is not stored.
        scales: what was measured of the whole image before; None: it is measured where the plan needs it.

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
    converted = ConvertedChannels(turned, plan.channels, where)
    is_float = source.dtype.kind == "f"
    normalized = NormalizedImage(converted, plan.normalization, shape, where, is_float, scales)
    grid = network_grid(shape, turned.geometry.spacing_mm, plan.spacing_mm)
    channels, thick = len(plan.channels), find_nearest_axis(turned.geometry.spacing_mm, plan)
    prepared: Readable = normalized
    if grid != shape:
        prepared = Resampled(normalized, shape, grid, choose_methods(len(grid), plan.resampling, thick))
        prepared = prepared if once else store_image(prepared, (channels, *grid))
    return PreparedImage((channels, *grid), image_shape, orientation, source.geometry, prepared, thick)


def find_nearest_axis(spacing_mm: Sequence[float] | None, plan: DataPlan) -> int | None:
    """Find the axis of a file, turned to the plan's, along which the nearest slice is taken; None: there is none."""
    return find_thick_axis(spacing_mm, plan.spacing_mm) if plan.resampling == "cubic" else None


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


class ConvertedChannels:
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


def _refuse(where: str, got: str, expected: str, action: str) -> NoReturn:
    raise DataError(Problem(where, got, expected, action))
