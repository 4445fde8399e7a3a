"""COCO: one JSON for many images, with polygons or run lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from unetpp.annotations.documents import Lenient, check, to_ring
from unetpp.annotations.outlines import Annotations, Outline
from unetpp.json_files import read_json


class _Image(Lenient):
    id: int | str
    file_name: str
    height: int | None = None
    width: int | None = None


class _Category(Lenient):
    id: int | str
    name: str


class _Runs(Lenient):
    size: tuple[int, int]
    counts: list[int] | str


class _Annotation(Lenient):
    image_id: int | str
    category_id: int | str
    segmentation: list[list[float]] | _Runs | None = None


class _Document(Lenient):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def matches(content: Any) -> bool:
    """Tell whether JSON is COCO's."""
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= set(content)


def read(path: Path) -> Annotations:
    """Read polygons and run lengths; boxes alone are left out."""
    document = check(_Document, read_json(path))
    names = {category.id: category.name for category in document.categories}
    files = {image.id: image.file_name for image in document.images}
    found: dict[str, list[Outline]] = {image.file_name: [] for image in document.images}
    boxes = False
    for annotation in document.annotations:
        if annotation.image_id not in files or annotation.category_id not in names:
            raise ValueError(
                f"an annotation of image {annotation.image_id}, category {annotation.category_id}: unknown"
            )
        outlines = _read_outlines(names[annotation.category_id], annotation.segmentation)
        boxes |= not outlines
        found[files[annotation.image_id]] += outlines
    sizes = {each.file_name: (each.height, each.width) for each in document.images if each.height and each.width}
    used = {outline.name for each in found.values() for outline in each}
    ordered = tuple(dict.fromkeys(name for name in names.values() if name in used))
    by_image = {name: tuple(outlines) for name, outlines in found.items()}
    return Annotations("COCO", by_image, ordered, sizes, ("boxes",) if boxes else ())


def _read_outlines(name: str, segmentation: list[list[float]] | _Runs | None) -> list[Outline]:
    if isinstance(segmentation, _Runs):
        return [Outline(name, mask=_decode_runs(segmentation))]
    rings = [to_ring(zip(flat[0::2], flat[1::2], strict=False)) for flat in segmentation or () if len(flat) >= 6]
    return [Outline(name, (ring,)) for ring in rings]  # pieces of one object: where they overlap is no hole


def _decode_runs(runs: _Runs) -> np.ndarray:
    """Decode run lengths, which alternate between background and object down the columns."""
    rows, columns = runs.size
    if not 0 < rows * columns < 2**31:
        raise ValueError(f"a mask of {rows} x {columns} pixels")
    counts = _decompress(runs.counts) if isinstance(runs.counts, str) else runs.counts
    if min(counts, default=0) < 0 or sum(counts) != rows * columns:
        raise ValueError("run lengths that do not fill their mask")
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(columns, rows).T


def _decompress(text: str) -> list[int]:
    """Decode compressed run lengths, of which later ones are differences; five bits in each character."""
    counts: list[int] = []
    number = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("run lengths that cannot be decompressed")
        number |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            number -= (bits & 16) and 1 << shift  # the highest bit is the sign
            counts.append(number + (counts[-2] if len(counts) > 2 else 0))
            number = shift = 0
    return counts
