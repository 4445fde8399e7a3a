"""LabelMe: one JSON for each image, with shapes."""

from __future__ import annotations

import base64
import binascii
import io
from pathlib import Path
from typing import Any

import numpy as np

from unetpp.annotations.documents import Lenient, check, to_ring
from unetpp.annotations.outlines import Annotations, Outline, ellipse, rectangle
from unetpp.json_files import read_json


class _Shape(Lenient):
    label: str
    points: list[tuple[float, float]]
    shape_type: str | None = None
    mask: str | None = None


class _Document(Lenient):
    shapes: list[_Shape]
    imageHeight: int | None = None
    imageWidth: int | None = None


def matches(content: Any) -> bool:
    """Tell whether JSON is LabelMe's."""
    return isinstance(content, dict) and "shapes" in content and ("imagePath" in content or "imageData" in content)


def read(path: Path) -> Annotations:
    """Read polygons, rectangles, circles and masks; points and lines are left out."""
    document = check(_Document, read_json(path))
    outlines = [(shape, _read_outline(shape)) for shape in document.shapes]
    left_out = {f"{shape.shape_type}s" for shape, outline in outlines if outline is None}
    found = tuple(outline for _, outline in outlines if outline is not None)
    size = (document.imageHeight, document.imageWidth)
    sizes = {"": (size[0], size[1])} if size[0] and size[1] else {}
    names = tuple(sorted({outline.name for outline in found}))
    return Annotations("LabelMe", {"": found}, names, sizes, tuple(sorted(left_out)))


def _read_outline(shape: _Shape) -> Outline | None:
    kind, points = shape.shape_type or "polygon", shape.points
    if kind == "polygon":
        return Outline(shape.label, (to_ring(points),))
    if kind in ("rectangle", "mask", "circle") and len(points) != 2:
        raise ValueError(f"a {kind} of {len(points)} points")
    if kind == "rectangle":
        return Outline(shape.label, (rectangle(*points[0], *points[1]),))
    if kind == "circle":
        radius = float(np.hypot(points[1][0] - points[0][0], points[1][1] - points[0][1]))
        return Outline(shape.label, (ellipse(*points[0], radius, radius),))
    if kind == "mask" and shape.mask:
        return Outline(shape.label, mask=_decode(shape.mask), corner=(round(points[0][1]), round(points[0][0])))
    return None


def _decode(text: str) -> np.ndarray:
    from PIL.PngImagePlugin import PngImageFile

    try:
        image = PngImageFile(io.BytesIO(base64.b64decode(text, validate=True)))
        return np.asarray(image.convert("L")) > 0
    except (binascii.Error, OSError, SyntaxError) as error:
        raise ValueError(f"a mask that is no PNG ({error})") from None
