"""Arrays as images: prediction takes NumPy arrays as well as files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from unetpp.data.case_files import fill_voxels, open_case_image
from unetpp.data.preprocess import RGB_CHANNELS
from unetpp.errors import DataError, Problem, UsageError
from unetpp.formats.sources import ArraySource, ImageSource
from unetpp.layouts.dataset import Case
from unetpp.plan import DataPlan
from unetpp.volume import Geometry
from unetpp.words import count_noun

Image = np.ndarray | str | PathLike[str]
"""An array, whatever NumPy reads as one (a tensor, a picture of Pillow), or the path of a file."""
SHAPES = {2: "(Y, X), (Y, X, C) or (C, Y, X)", 3: "(Z, Y, X), (C, Z, Y, X) or (Z, Y, X, C)"}
"""Shapes of an array whose axes are not named, by dims."""


def split_batch(images: Any, plan: DataPlan, axes: str | None) -> Iterator[Any] | None:
    """Yield the images of a list, or of an array with an axis for them; None: it is a single image.

    Args:
        images: an image, a list of images, or an array of images: (B, C, *spatial), (B, *spatial, C), or with "B" in
            `axes`.
        plan: the data section of the plan.
        axes: axes of an array, as `open_array` takes them, and "B" for that of the images.
    """
    if isinstance(images, list | tuple):
        return iter(images)
    if not hasattr(images, "__array__"):
        return None
    array = read_array(images)
    if axes and "B" in axes and array.ndim == len(axes):
        return iter(np.moveaxis(array, axes.index("B"), 0))
    return iter(array) if array.ndim == plan.dims + 2 else None


def read_array(image: Any) -> np.ndarray:
    """Read an array, a picture of Pillow, or a tensor, also one that is part of a graph or on a GPU."""
    return np.asarray(image.detach().cpu() if hasattr(image, "detach") else image)


def open_array_or_file(
    image: Image, plan: DataPlan, spacing_mm: Sequence[float] | None, axes: str | None = None
) -> tuple[ImageSource, str]:
    """Open an array or an image file.

    Args:
        image: an array as `open_array` takes it, or the path of a file.
        plan: the data section of the plan.
        spacing_mm: voxel size of an array along each spatial axis; ignored for files.
        axes: axes of an array, see `open_array`; ignored for files.

    Returns:
        The image, and its name for errors.

    Raises:
        UsageError: as `open_array`.
        DataError: as `open_case_image`.
    """
    if isinstance(image, str | PathLike):
        path = Path(image)
        return open_case_image(Case(path.name, (path,)), plan), str(image)
    return fill_voxels(open_array(read_array(image), plan, spacing_mm, axes), plan), "image"


def open_array(
    image: np.ndarray, plan: DataPlan, spacing_mm: Sequence[float] | None = None, axes: str | None = None
) -> ImageSource:
    """View an array as an image with its channels first.

    Args:
        image: integers, floats or booleans.
        plan: the data section of the plan.
        spacing_mm: voxel size along each spatial axis; None: unknown.
        axes: letter of each axis in its order, such as "YXC"; None: (Y, X), (Y, X, C) or (C, Y, X) in 2D, (Z, Y, X),
            (C, Z, Y, X) or (Z, Y, X, C) in 3D, where the axis of the channels is that of as many as the model has.

    Returns:
        The image (C, *spatial); without alpha, if the network takes RGB.

    Raises:
        UsageError: another number of axes, other letters, or values that are not numbers.
        DataError: neither the first nor the last axis can be that of the channels.
    """
    counts = (plan.dims, plan.dims + 1)
    if image.ndim not in counts or image.dtype.kind not in "biuf" or image.size == 0:
        got = f"an array of {image.dtype} of shape {image.shape}"
        raise UsageError("image", got, f"numbers of shape {SHAPES[plan.dims]}", "Convert or transpose the array.")
    if spacing_mm is not None and len(spacing_mm) != plan.dims:
        got, action = f"{len(spacing_mm)} numbers", "Give one for each spatial axis."
        raise UsageError("spacing_mm", got, str(plan.dims), action)
    if axes is not None:
        image = _order_axes(image, plan, axes)
    elif image.ndim == plan.dims:
        image = image[None]
    else:
        image = np.moveaxis(image, _find_channels(image, plan), 0)
    if plan.channels == RGB_CHANNELS and len(image) == 4:
        image = image[:3]  # without alpha
    suffix = ".tif" if plan.dims == 2 else ".nii.gz"
    return ArraySource(image, Geometry(suffix, None if spacing_mm is None else tuple(map(float, spacing_mm))))


def _order_axes(image: np.ndarray, plan: DataPlan, axes: str) -> np.ndarray:
    """Transpose an array whose axes are named to (C, *spatial)."""
    spatial = "ZYX"[-plan.dims :]
    letters = spatial if image.ndim == plan.dims else f"C{spatial}"
    if sorted(axes) != sorted(letters):
        got = f"{axes!r} for an array of shape {image.shape}"
        raise UsageError("axes", got, f"the letters of {letters!r} in the order of its axes", "Change it.")
    turned = image.transpose([axes.index(letter) for letter in letters])
    return turned if "C" in letters else turned[None]


def _find_channels(image: np.ndarray, plan: DataPlan) -> int:
    """Find the axis of the channels: 0 or -1, that of as many as the network takes, else of 1 or 3.

    If both the first and the last axis may hold them, the smaller one does, and of equal ones the last, as in Pillow;
    in 3D the first. (1, X, 3) and (3, X, 1) are as many channels as the network takes. Three images for a network of
    gray images, (3, Y, X), look like one with three channels first: they are refused.
    """
    own = {len(plan.channels)} | ({4} if plan.channels == RGB_CHANNELS else set())
    first, last = image.shape[0], image.shape[-1]
    if (first in own) != (last in own):
        return -1 if last in own else 0
    usual = own | {1, 3}
    if first in usual or last in usual:
        if last in usual and (first not in usual or (last <= first and plan.dims == 2)):
            return -1
        if first in own or plan.channels == RGB_CHANNELS:
            return 0
    count = len(plan.channels)
    got = f"an array of shape {image.shape}, whose channels are not known"
    expected = f"{count_noun(count, 'channel')} ({', '.join(plan.channels)}) in the first or the last axis"
    raise DataError(Problem("image", got, expected, _list_readings(image.shape, plan, own), setting="axes"))


def _list_readings(shape: tuple[int, ...], plan: DataPlan, own: set[int]) -> str:
    """Say how the axes of an array can be named, so that the network takes it."""
    spatial, count = "ZYX"[-plan.dims :], len(plan.channels)
    taken = own | ({3} if (plan.dims, count) == (2, 1) else {1} if plan.channels == RGB_CHANNELS else set())
    least = shape.index(min(shape))
    several = f'`axes="{spatial[:least]}B{spatial[least:]}"` for {count_noun(shape[least], "image")}'
    readings = [several] if 1 in taken else []
    readings += [
        f'`axes="{spatial[:axis]}C{spatial[axis:]}"` for one image with {count_noun(size, "channel")}'
        for axis, size in enumerate(shape)
        if size in taken
    ]
    if readings:
        return f"Name its axes: {' or '.join(readings)}."
    sizes = ", ".join(spatial)
    return f"An image is ({count}, {sizes}), several are (B, {count}, {sizes})."
