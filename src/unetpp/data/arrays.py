"""Arrays as images: prediction takes NumPy arrays as well as files."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from unetpp.data.case_files import fill_voxels, open_case_image
from unetpp.data.preprocess import RGB_CHANNELS
from unetpp.errors import UsageError
from unetpp.formats.sources import ArraySource, ImageSource
from unetpp.layouts.dataset import Case
from unetpp.plan import DataPlan
from unetpp.volume import Geometry


def open_array_or_file(
    image: np.ndarray | str | PathLike[str], plan: DataPlan, spacing_mm: Sequence[float] | None
) -> tuple[ImageSource, str]:
    """Open an array or an image file.

    Args:
        image: an array as `open_array` takes it, or the path of a file.
        plan: the data section of the plan.
        spacing_mm: voxel size of an array along each spatial axis; ignored for files.

    Returns:
        The image, and its name for errors.

    Raises:
        UsageError: as `open_array`.
        DataError: as `open_case_image`.
    """
    if isinstance(image, np.ndarray):
        return fill_voxels(open_array(image, plan, spacing_mm), plan), "image"
    path = Path(image)
    return open_case_image(Case(path.name, (path,)), plan), str(image)


def open_array(image: np.ndarray, plan: DataPlan, spacing_mm: Sequence[float] | None = None) -> ImageSource:
    """View an array as an image with its channels first.

    Args:
        image: (Y, X), (Y, X, C) or (C, Y, X) in 2D; (Z, Y, X) or (C, Z, Y, X) in 3D. Integers, floats or booleans.
        plan: the data section of the plan.
        spacing_mm: voxel size along each spatial axis; None: unknown.

    Returns:
        The image (C, *spatial); without alpha, if the network takes RGB.

    Raises:
        UsageError: another number of axes, or values that are not numbers.
    """
    if image.ndim not in (plan.dims, plan.dims + 1) or image.dtype.kind not in "biuf" or image.size == 0:
        shapes = "(Y, X), (Y, X, C) or (C, Y, X)" if plan.dims == 2 else "(Z, Y, X) or (C, Z, Y, X)"
        got = f"an array of {image.dtype} of shape {image.shape}"
        raise UsageError("image", got, f"numbers of shape {shapes}", "Convert or transpose the array.")
    if spacing_mm is not None and len(spacing_mm) != plan.dims:
        got, action = f"{len(spacing_mm)} numbers", "Give one for each spatial axis."
        raise UsageError("spacing_mm", got, str(plan.dims), action)
    if image.ndim == plan.dims:
        image = image[None]
    elif _has_channels_last(image, plan):
        image = np.moveaxis(image, -1, 0)
    if plan.channels == RGB_CHANNELS and len(image) == 4:
        image = image[:3]  # without alpha
    suffix = ".tif" if plan.dims == 2 else ".nii.gz"
    return ArraySource(image, Geometry(suffix, None if spacing_mm is None else tuple(map(float, spacing_mm))))


def _has_channels_last(image: np.ndarray, plan: DataPlan) -> bool:
    """Tell whether the last axis of a 2D image holds the channels: as many as the network takes, else 1 or 3.

    If both the first and the last axis may hold them, the smaller one does, and of equal ones the last, as in Pillow;
    (1, X, 3) and (3, X, 1) are as many channels as the network takes.
    """
    if plan.dims != 2:
        return False
    own = {len(plan.channels)} | ({4} if plan.channels == RGB_CHANNELS else set())
    first, last = image.shape[0], image.shape[-1]
    if (first in own) != (last in own):
        return last in own
    return last in own | {1, 3} and (first not in own | {1, 3} or last <= first)
