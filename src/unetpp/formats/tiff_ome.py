"""OME-TIFF files of a set: each states the planes of all of them; a file is read alone, and never its partners."""

from __future__ import annotations

from math import prod
from typing import Any
from xml.etree import ElementTree

from unetpp.formats.tiff_sizes import find_pixels


def names_partners(tiff: Any) -> bool:
    """Tell whether the OME-XML of a file says that other files hold a part of its image."""
    return any(not is_own for _, is_own in _list_planes(tiff))


def find_own_axes(tiff: Any, pages: int) -> tuple[str, tuple[int, ...]]:
    """Find what the pages of one file of a set are.

    Args:
        tiff: the file, opened by tifffile.
        pages: number of its pages.

    Returns:
        Letters and sizes of the axes that the pages run along, C, Z and T; unknown ones are the letter I.
    """
    pixels = find_pixels(tiff)
    order = pixels.attrib.get("DimensionOrder", "XYCZT")[:1:-1] if pixels is not None else ""
    places = {tuple(place[axis] for axis in order) for place, is_own in _list_planes(tiff) if is_own}
    sizes = tuple(len(set(along)) for along in zip(*places, strict=True))
    return (order, sizes) if prod(sizes) == pages and sizes else ("I", (pages,))


def _list_planes(tiff: Any) -> list[tuple[dict[str, int], bool]]:
    """List the planes that the header names: their index along C, Z and T, and whether they lie in this file."""
    pixels = find_pixels(tiff)
    if pixels is None:
        return []
    own = ElementTree.fromstring(tiff.ome_metadata).attrib.get("UUID")
    order = pixels.attrib.get("DimensionOrder", "XYCZT")[2:]
    planes = []
    for data in pixels.findall("{*}TiffData"):
        uuid = data.find("{*}UUID")
        name = "" if uuid is None else uuid.attrib.get("FileName", "").lower()
        is_own = uuid is None or (uuid.text == own if own is not None else name in ("", tiff.filename.lower()))
        place = {axis: int(data.attrib.get(f"First{axis}", 0)) for axis in order}
        for _ in range(min(int(data.attrib.get("PlaneCount", 1)), len(tiff.pages))):
            planes.append((dict(place), is_own))
            for axis in order:
                place[axis] += 1
                if place[axis] < int(pixels.attrib.get(f"Size{axis}", 1)):
                    break
                place[axis] = 0
    return planes
