"""Arrays in place of image files."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from unetpp.data.preprocess import RGB_CHANNELS
from unetpp.data.readers import open_image
from unetpp.data.sources import ArraySource, ImageSource
from unetpp.data.volume import Geometry
from unetpp.errors import UsageError
from unetpp.plan import DataPlan


def open_array_or_file(
    image: np.ndarray | str | PathLike[str], plan: DataPlan, spacing_mm: Sequence[float] | None
) -> tuple[ImageSource, str]:
    """An array or the file at a path as a source, and its name for errors. Raises as `open_array` and `open_image`."""
    if isinstance(image, np.ndarray):
        return open_array(image, plan, spacing_mm), "image"
    return open_image(Path(image)), str(image)


def open_array(image: np.ndarray, plan: DataPlan, spacing_mm: Sequence[float] | None = None) -> ImageSource:
    """An array as a source, its channels first; see `Predictor.predict` for the shapes.

    Raises:
        UsageError: another number of axes, or numbers that are no voxels.
    """
    if image.ndim not in (plan.dims, plan.dims + 1) or image.dtype.kind not in "biuf" or image.size == 0:
        shapes = "(Y, X), (Y, X, C) or (C, Y, X)" if plan.dims == 2 else "(Z, Y, X) or (C, Z, Y, X)"
        raise UsageError(
            f"image: got an array of {image.dtype} of shape {image.shape}; expected numbers of shape {shapes}."
        )
    if spacing_mm is not None and len(spacing_mm) != plan.dims:
        raise UsageError(f"spacing_mm: got {len(spacing_mm)} numbers; expected {plan.dims}, one for each spatial axis.")
    array = (
        image[None]
        if image.ndim == plan.dims
        else np.moveaxis(image, -1, 0)
        if _has_channels_last(image, plan)
        else image
    )
    if plan.channels == RGB_CHANNELS and len(array) == 4:
        array = array[:3]  # without alpha
    geometry = Geometry(
        ".tif" if plan.dims == 2 else ".nii.gz", None if spacing_mm is None else tuple(map(float, spacing_mm))
    )
    return ArraySource(array, geometry)


def _has_channels_last(image: np.ndarray, plan: DataPlan) -> bool:
    """Whether the last axis of a 2D image with channels holds them: where both could, it does, as image libraries have it."""
    counts = {len(plan.channels), 1, 3} | ({4} if plan.channels == RGB_CHANNELS else set())
    return (
        plan.dims == 2
        and image.shape[-1] in counts
        and (image.shape[0] not in counts or image.shape[-1] <= image.shape[0])
    )
