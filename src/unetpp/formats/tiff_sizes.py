"""Physical sizes of TIFF pixels: OME-XML and ImageJ state them. Dots per inch are for printers and no physical size."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

_MM = {
    "m": 1e3,
    "dm": 1e2,
    "cm": 10.0,
    "mm": 1.0,
    "um": 1e-3,
    "micron": 1e-3,
    "microns": 1e-3,
    "micrometer": 1e-3,
    "micrometers": 1e-3,
    "micrometre": 1e-3,
    "micrometres": 1e-3,
    "millimeter": 1.0,
    "millimeters": 1.0,
    "centimeter": 10.0,
    "nanometer": 1e-6,
    "nanometers": 1e-6,
    "nm": 1e-6,
    "pm": 1e-9,
    "\u00e5": 1e-7,
    "angstrom": 1e-7,
}
"""Millimeters by unit in lower case. Inches are left out: ImageJ takes them over from the dots per inch of scans."""

Sizes = dict[str, float]
"""Distance of neighbors in mm by axis: X, Y, Z."""


def find_pixels(tiff: Any) -> ElementTree.Element | None:
    """Return the element Pixels of the first image in the OME-XML of a file; None: it has none."""
    if not tiff.is_ome:
        return None
    try:
        return ElementTree.fromstring(tiff.ome_metadata).find("{*}Image/{*}Pixels")
    except ElementTree.ParseError:
        return None


def read_sizes(tiff: Any) -> tuple[Sizes, dict[str, Any]]:
    """Read the physical sizes of a file, opened by tifffile.

    Returns:
        The sizes, without axes whose size is unknown; and what `tiff` writes to state them again.
    """
    page = tiff.pages.first
    header: dict[str, Any] = {}
    if "XResolution" in page.tags:
        header |= {"resolution": page.resolution, "resolutionunit": page.resolutionunit}
    if (pixels := find_pixels(tiff)) is not None:
        names = [f"PhysicalSize{axis}{unit}" for axis in "XYZ" for unit in ("", "Unit")]
        header["ome"] = {name: pixels.attrib[name] for name in names if name in pixels.attrib}
        return _read_ome(pixels), header
    if (imagej := tiff.imagej_metadata) is not None:
        header["imagej"] = {key: imagej[key] for key in ("spacing", "unit") if key in imagej}
        return _read_imagej(imagej, header), header
    return {}, header


def turn_sizes(sizes: Sizes, header: dict[str, Any]) -> tuple[Sizes, dict[str, Any]]:
    """Exchange X and Y in what `read_sizes` returned, for an image that was turned by a quarter."""
    other = {"X": "Y", "Y": "X", "Z": "Z"}
    header = dict(header)
    if "resolution" in header:
        header["resolution"] = header["resolution"][::-1]
    if "ome" in header:
        start = len("PhysicalSize")
        header["ome"] = {
            key[:start] + other[key[start]] + key[start + 1 :]: value for key, value in header["ome"].items()
        }
    return {other[axis]: size for axis, size in sizes.items()}, header


def _read_ome(pixels: ElementTree.Element) -> Sizes:
    sizes = {}
    for axis in "XYZ":
        unit = pixels.attrib.get(f"PhysicalSize{axis}Unit", "um")  # the schema's default
        size = _to_mm(pixels.attrib.get(f"PhysicalSize{axis}"), unit)
        if size is not None:
            sizes[axis] = size
    return sizes


def _read_imagej(imagej: dict[str, Any], header: dict[str, Any]) -> Sizes:
    unit = str(imagej.get("unit", ""))
    steps = {axis: 1 / float(value) for axis, value in zip("XY", header.get("resolution", ()), strict=False) if value}
    found = {axis: _to_mm(step, unit) for axis, step in (steps | {"Z": imagej.get("spacing")}).items()}
    return {axis: size for axis, size in found.items() if size is not None}


def _to_mm(value: Any, unit: str) -> float | None:
    """Convert a size to mm; None: no positive number, or a unit of no known length (pixels)."""
    name = unit.strip().replace("\\u00B5", "u").replace("\u00b5", "u").replace("\u03bc", "u").lower()
    try:
        size = float(value) * _MM[name]
    except (TypeError, ValueError, KeyError):
        return None
    return size if 0 < size < 1e6 else None
