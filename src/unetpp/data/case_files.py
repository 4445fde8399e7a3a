"""The files of a case: its image, opened for reading in blocks, and its label on the grid of the image file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unetpp import labels
from unetpp.annotations import draw, read_annotations
from unetpp.errors import DataError, Problem
from unetpp.formats.readers import describe_shape, open_images, read_labels
from unetpp.formats.sources import FilledSource, ImageSource
from unetpp.layouts.dataset import Case
from unetpp.plan import DataPlan, ReadPlan
from unetpp.volume import Volume


def open_case_image(case: Case, plan: ReadPlan) -> ImageSource:
    """Open the image of a case.

    Args:
        case: the case.
        plan: how files are read.

    Returns:
        The image (C, *spatial), on its own grid.

    Raises:
        DataError: as `open_images`.
    """
    return fill_voxels(open_images(case.images), plan)


def fill_voxels(source: ImageSource, plan: ReadPlan) -> ImageSource:
    """Replace NaN and infinity in an image by the number of the plan, if it has one."""
    return source if plan.fill is None or source.dtype.kind != "f" else FilledSource(source, plan.fill)


def read_case_image(case: Case, plan: ReadPlan) -> Volume:
    """Read the whole image of a case; arguments and errors as of `open_case_image`."""
    source = open_case_image(case, plan)
    return Volume(source.read((slice(None),) * (len(source.shape) - 1)), source.geometry)


def read_case_label(case: Case, plan: ReadPlan) -> Volume:
    """Read the label of a case, with the values of its files.

    Args:
        case: a case with a label.
        plan: how files are read.

    Returns:
        The label (1, *spatial), on the grid of the image.

    Raises:
        DataError: as `read_labels`.
    """
    if case.class_values:
        return _draw_outlines(case, open_case_image(case, plan))
    return read_labels(case.labels)


def _draw_outlines(case: Case, image: ImageSource) -> Volume:
    """Draw the label of a case whose label file holds outlines."""
    found, values, (rows, columns) = read_annotations(case.labels[0]), dict(case.class_values), image.shape[-2:]
    stated = found.sizes.get(case.label_key, (rows, columns))
    if len(image.shape) != 3 or stated != (rows, columns):
        got, expected = f"outlines on {describe_shape(stated)}", describe_shape(image.shape[1:])
        action = "Give the image that was annotated; an orientation tag may have turned it."
        raise DataError(Problem(str(case.labels[0]), got, f"{expected}, as the image", action))
    label = draw(found.find(case.label_key, (rows, columns)), values, (rows, columns))
    return Volume(label[None], replace(image.geometry, header=None))


def read_case_classes(case: Case, plan: DataPlan) -> np.ndarray:
    """Read the label of a case as class indices (*spatial), on the grid of the image file.

    Args:
        case: a case with a label.
        plan: the data section of the plan.

    Returns:
        Class indices, uint8, or uint16 for more than 255 classes.

    Raises:
        DataError: as `read_case_label`, or a value that stands for no class of the plan.
    """
    label = read_case_label(case, plan)
    return labels.make_labels(plan).encode(label.array[0], str(case.labels[0]))
