"""CVAT for images 1.1: one XML for many images, with polygons, masks, boxes and ellipses."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from unetpp.annotations.documents import read_xml, to_ring
from unetpp.annotations.outlines import Annotations, Outline, ellipse, rectangle


def matches(root: Element) -> bool:
    """Tell whether XML is CVAT's."""
    return root.tag == "annotations" and root.find("image") is not None


def read(path: Path) -> Annotations:
    """Read all areas, those of a higher z_order on top; points and lines are left out."""
    images: dict[str, tuple[Outline, ...]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    left_out: set[str] = set()
    for image in read_xml(path).iter("image"):
        name = image.get("name", "")
        shapes = sorted(image, key=lambda shape: int(shape.get("z_order", "0")))
        found = [(shape, _read_outline(shape)) for shape in shapes]
        images[name] = tuple(outline for _, outline in found if outline is not None)
        left_out |= {shape.tag for shape, outline in found if outline is None}
        sizes[name] = (int(image.get("height", "0")), int(image.get("width", "0")))
    names = tuple(sorted({outline.name for outlines in images.values() for outline in outlines}))
    return Annotations("CVAT", images, names, {n: size for n, size in sizes.items() if all(size)}, tuple(left_out))


def _read_outline(shape: Element) -> Outline | None:
    name = shape.get("label", "")
    if shape.tag == "polygon":
        return Outline(name, (to_ring(map(float, pair.split(",")) for pair in shape.get("points", "").split(";")),))
    if shape.tag == "box":
        left, top, right, bottom = (_number(shape, key) for key in ("xtl", "ytl", "xbr", "ybr"))
        return Outline(name, (rectangle(left, top, right, bottom),))
    if shape.tag == "ellipse":
        x, y, radius_x, radius_y = (_number(shape, key) for key in ("cx", "cy", "rx", "ry"))
        return Outline(name, (ellipse(x, y, radius_x, radius_y, float(shape.get("rotation", "0"))),))
    if shape.tag == "mask":
        left, top, width, height = (int(_number(shape, key)) for key in ("left", "top", "width", "height"))
        runs = [int(each) for each in shape.get("rle", "").split(",")]
        if not 0 < width * height < 2**31 or min(runs) < 0 or sum(runs) != width * height:
            raise ValueError("run lengths that do not fill their mask")
        mask = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
        return Outline(name, mask=mask, corner=(top, left))
    return None


def _number(shape: Element, key: str) -> float:
    return float(shape.get(key, "nan"))
