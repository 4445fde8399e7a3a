"""The files of a case: its image, opened for reading in blocks, and its label on the grid of the image file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from unetpp import labels
from unetpp.annotations import draw, read_annotations
from unetpp.data.label_grid import Grid, place_label
from unetpp.data.whole_files import WholeFiles, cut_label, take_part
from unetpp.errors import DataError, Problem
from unetpp.formats.readers import describe_shape, make_grid_error, open_images, read_grid, read_label
from unetpp.formats.sources import FilledSource, ImageSource
from unetpp.layouts.dataset import Case
from unetpp.plan import DataPlan, ReadPlan
from unetpp.volume import Segment, Volume


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
    if case.is_part:
        return take_part(open_whole_image(case, plan), case)
    return fill_voxels(open_images(case.images, plan.axes), plan)


def fill_voxels(source: ImageSource, plan: ReadPlan) -> ImageSource:
    """Replace NaN and infinity in an image by the number of the plan, if it has one."""
    return source if plan.fill is None or source.dtype.kind != "f" else FilledSource(source, plan.fill)


def read_case_image(case: Case, plan: ReadPlan) -> Volume:
    """Read the whole image of a case; arguments and errors as of `open_case_image`."""
    source = open_case_image(case, plan)
    return Volume(source.read((slice(None),) * (len(source.shape) - 1)), source.geometry)


def read_case_label(case: Case, plan: ReadPlan, image: ImageSource | None = None) -> Volume:
    """Read the label of a case, with the values of its files.

    Args:
        case: a case with a label.
        plan: how files are read.
        image: the whole image of the case, if it is open; None: its header is read where the grid depends on it.

    Returns:
        The label as its file stores it, on the grid of the image; of several files, numbers by class or object.

    Raises:
        DataError: as `read_label`, the files of a case differ in size, or the label lies on another grid.
    """
    if case.is_part:
        return cut_label(read_whole_label(case, plan), open_whole_image(case, plan), case)
    if case.class_values:
        return _draw_outlines(case, image or open_case_image(case, plan))
    if len(case.labels) == 1 and not case.label_classes:
        label = read_label(case.labels[0], plan.axes)
    else:
        label = _join_labels(case, plan)
    if image is not None:
        grid = Grid(image.shape[1:], image.geometry)
    elif label.geometry.affine is not None and case.images:
        grid = Grid(*read_grid(case.images[0], plan.axes))
    else:  # without a place, or a reference without an image: the shape is compared where both are read
        return label
    return place_label(label, grid, name_files(case.labels), plan.label_grid)


def name_label(case: Case) -> str:
    """Name the label of a case in a message; cases that share a file are told apart."""
    is_shared = bool(case.class_values) or case.plane is not None or case.area is not None
    return f"{case.labels[0]} ({case.id})" if is_shared else str(case.labels[0])


def name_files(paths: Sequence[Path]) -> str:
    """Name the files of a case in a message."""
    return str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"


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


def _join_labels(case: Case, plan: ReadPlan) -> Volume:
    """Join several files, each cut at half of its range: a class each, an object each, or parts of one mask."""
    names = [*dict.fromkeys(case.label_classes)]
    united = plan.labels is not None and plan.labels.kind != "objects"
    first, joined, overlap = read_label(case.labels[0], plan.axes), np.zeros(0, np.uint16), False
    for number, path in enumerate(case.labels):
        label = first if number == 0 else read_label(path, plan.axes)
        if label.shape != first.shape:
            raise make_grid_error(path, label.shape, case.labels[0], first.shape)
        if number == 0:
            joined = np.zeros(label.shape, np.uint16 if len(case.labels) < 2**16 else np.uint32)
        value = 1 + names.index(case.label_classes[number]) if names else 255 if united else number + 1
        marked = labels.cut_at_half(label)
        overlap = overlap or bool(names and ((joined != 0) & (joined != value))[marked].any())
        joined[marked] = value
    note = "masks of several classes overlap; where they do, the later one counts"
    geometry = replace(first.geometry, notes=(*first.geometry.notes, note)) if overlap else first.geometry
    segments = tuple(Segment(name, value) for value, name in enumerate(names, start=1))
    return Volume(joined[None], geometry, segments=segments)


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
    return labels.encode(read_case_label(case, plan), plan, str(case.labels[0]))


def open_whole_image(part: Case, plan: ReadPlan) -> ImageSource:
    """Open the whole image of a part, which stays open for its other parts; raises as `open_case_image`."""
    return _images.get(part, plan)


def read_whole_label(part: Case, plan: ReadPlan) -> Volume:
    """Read the whole label of a part, which is kept for its other parts; raises as `read_case_label`."""
    return _labels.get(part, plan)


def close_whole_files() -> None:
    """Close the files that are open for their parts, which frees their memory."""
    _images.close()
    _labels.close()


_images = WholeFiles(open_case_image)
_labels = WholeFiles(read_case_label)
