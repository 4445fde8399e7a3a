"""Pictures of an image with the outlines of its segmentation, of bounded size whatever the image. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor

from unetpp.files import write_atomically
from unetpp.formats.sources import ImageSource
from unetpp.plan import DataPlan
from unetpp.scratch import release
from unetpp.slabs import slabs
from unetpp.volume import Geometry

SMALLEST_SIDE, LONGEST_SIDE = 512, 2048
"""Pixels of the longest side of an image: smaller ones are enlarged, larger ones are shrunk."""
LONGEST_OF_VOLUME = 1024
"""Pixels of the longest side of each slice of a volume."""
GAP = 8
"""Pixels between two slices."""
DISPLAYED = (0.5, 99.5)
"""Percentiles of the intensities shown as black and white."""
COLORS = ("#35e08c", "#ff5fa2", "#5cc8ff", "#ffd23f", "#c38bff", "#ff8a3d")
"""Colors of the classes, where the labels of the training had none; as in the report."""


def write_overlay(source: ImageSource, segmentation: np.ndarray, plan: DataPlan, path: Path) -> None:
    """Write a picture: of an image, or of the three slices of a volume that are labeled most.

    Args:
        source: the image (C, *spatial).
        segmentation: its class indices (*spatial).
        plan: classes of the segmentation.
        path: the PNG to write.

    Raises:
        WriteError: it cannot be written.
    """
    colors = choose_colors(plan)
    if segmentation.ndim == 2:
        picture = _draw(_shrink(source, segmentation, None, LONGEST_SIDE), colors, (1.0, 1.0), SMALLEST_SIDE)
    else:
        picture = _draw_slices(source, segmentation, colors)
    with write_atomically(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def choose_colors(plan: DataPlan) -> list[tuple[int, int, int]]:
    """Choose the color of each foreground class: that of the labels of the training, if they were colors."""
    if plan.labels.colors and len(plan.labels.colors) == plan.num_classes:
        return [(red, green, blue) for red, green, blue in plan.labels.colors[1:]]
    return [ImageColor.getrgb(COLORS[index % len(COLORS)])[:3] for index in range(plan.num_classes - 1)]


def _draw_slices(source: ImageSource, segmentation: np.ndarray, colors: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Draw the slice across each axis in which most is labeled, side by side."""
    spacing = source.geometry.spacing_mm or (1.0,) * 3
    pictures = []
    for axis, index in enumerate(_find_fullest(segmentation)):
        sizes = tuple(size for other, size in enumerate(spacing) if other != axis)
        planes = _shrink(source, segmentation, (axis, index), LONGEST_OF_VOLUME)
        if points_up(source.geometry, rows=0 if axis else 1):
            planes = planes[0][:, ::-1], planes[1][::-1]
        pictures.append(_draw(planes, colors, sizes, SMALLEST_SIDE))
    height = max(len(picture) for picture in pictures)
    padded = [np.pad(picture, ((0, height - len(picture)), (0, GAP), (0, 0))) for picture in pictures]
    return np.concatenate(padded, axis=1)[:, :-GAP]


def _find_fullest(segmentation: np.ndarray) -> list[int]:
    """Find the index along each axis where most voxels are labeled; the middle if none is."""
    counts = [np.zeros(size, dtype=np.int64) for size in segmentation.shape]
    for slices in slabs(segmentation.shape):
        labeled = np.asarray(segmentation[slices]) > 0
        for axis, found in enumerate(counts):
            found[slices[axis]] += labeled.sum(axis=tuple(other for other in range(3) if other != axis))
    return [int(found.argmax()) if found.any() else len(found) // 2 for found in counts]


def points_up(geometry: Geometry, rows: int) -> bool:
    """Tell whether the rows of a slice run to the front or the head of a patient, so that it is to be flipped."""
    if geometry.affine is None:
        return False
    direction = geometry.affine[:3, 2 - rows]
    return bool(direction[np.argmax(np.abs(direction))] > 0)


def _shrink(
    source: ImageSource, segmentation: np.ndarray, place: tuple[int, int] | None, longest: int
) -> tuple[np.ndarray, np.ndarray]:
    """Read every n-th pixel of an image or of one slice of a volume, slab by slab.

    Args:
        source: the image (C, *spatial).
        segmentation: its class indices (*spatial).
        place: axis and index of the slice; None: the image is 2D.
        longest: largest number of pixels of a side.

    Returns:
        (C, H, W) and class indices (H, W).
    """
    shape = segmentation.shape
    shown = [axis for axis in range(len(shape)) if place is None or axis != place[0]]
    step = -(-max(shape[axis] for axis in shown) // longest)
    blocks: list[np.ndarray] = []
    classes: list[np.ndarray] = []
    for slices in slabs(shape):
        part, steps = list(slices), [slice(None, None, step)] * len(shape)
        steps[shown[0]] = slice(-slices[shown[0]].start % step, None, step)
        if place is not None:
            axis, index = place
            if not slices[axis].start <= index < slices[axis].stop:
                continue
            part[axis], steps[axis] = slice(index, index + 1), slice(0, 1)
        for found, array in (
            (blocks, source.read(tuple(part))),
            (classes, np.asarray(segmentation[tuple(part)])[None]),
        ):
            taken = array[(slice(None), *steps)]
            found.append(taken if place is None else np.take(taken, 0, axis=1 + place[0]))
        release(segmentation)
    return np.concatenate(blocks, axis=1), np.concatenate(classes, axis=1)[0]


def _draw(
    planes: tuple[np.ndarray, np.ndarray],
    colors: Sequence[tuple[int, int, int]],
    sizes: Sequence[float],
    smallest: int,
) -> np.ndarray:
    """Draw the outlines of a segmentation on its image.

    Args:
        planes: image (C, H, W) and class indices (H, W).
        colors: color of each foreground class.
        sizes: height and width of a pixel, in any unit.
        smallest: pixels to which the longest side is enlarged.

    Returns:
        (H, W, 3) uint8.
    """
    image, segmentation = planes
    height, width = (count * size / min(sizes) for count, size in zip(segmentation.shape, sizes, strict=True))
    scale = max(1.0, smallest / max(height, width))
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = np.array(Image.fromarray(to_bytes(image)).convert("RGB").resize(shape, Image.Resampling.BILINEAR))
    rows, columns = (np.arange(new) * old // new for new, old in zip(shape[::-1], segmentation.shape, strict=True))
    enlarged = segmentation[rows[:, None], columns]
    table = np.array([(0, 0, 0), *colors], dtype=np.uint8)
    edge = find_outlines(enlarged)
    picture[edge] = table[enlarged[edge]]
    return picture


def find_outlines(segmentation: np.ndarray) -> np.ndarray:
    """Find the labeled pixels (H, W) beside another class."""
    edge = np.zeros(segmentation.shape, dtype=bool)
    for here, there in (((slice(1, None),), (slice(None, -1),)), ((..., slice(1, None)), (..., slice(None, -1)))):
        differ = segmentation[here] != segmentation[there]
        edge[here] |= differ
        edge[there] |= differ
    return edge & (segmentation > 0)


def to_bytes(array: np.ndarray) -> np.ndarray:
    """Convert (C, H, W) of any type to gray (H, W) or color (H, W, 3) uint8, the first channel unless there are 3."""
    if len(array) == 3 and array.dtype == np.uint8:
        return np.ascontiguousarray(np.moveaxis(array, 0, -1))
    shown = (np.moveaxis(array, 0, -1) if len(array) == 3 else array[0]).astype(np.float32)
    low, high = np.percentile(shown, DISPLAYED)
    scaled: np.ndarray = 255 * np.clip((shown - low) / max(float(high - low), 1e-9), 0, 1)
    return scaled.astype(np.uint8)
