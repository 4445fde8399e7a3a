"""Samples of a TIFF as they mean: palettes, bits, inverted gray, CMYK, transparency."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from unetpp.formats.pixels import convert_cmyk, convert_ycbcr, find_range, map_slabs, scale, split_alpha, without_alpha
from unetpp.volume import Geometry, Volume

_ALPHA = (1, 2)
"""Values of the tag ExtraSamples that stand for transparency."""
_JPEG = (6, 7, 33007, 34892, 65000)
"""Compressions whose decoder converts YCbCr itself."""
_NODATA = 42113
"""Tag of GDAL with the number of pixels that have no data."""


def read_samples(array: np.ndarray, page: Any, geometry: Geometry) -> Volume:
    """Return a label: numbers as they are, but bits become 0 (dark) and 255 (bright); transparency apart.

    Args:
        array: (C, *spatial).
        page: its first page, by tifffile.
        geometry: geometry of the result.
    """
    photometric = _name(page)
    if photometric == "PALETTE":
        indices = array.astype(np.uint8) if array.dtype == bool else array
        found = split_alpha(indices, geometry) if _has_alpha(indices, page) else Volume(indices, geometry)
        return replace(found, palette=_read_palette(page).T)
    if array.dtype == bool:
        return Volume(_read_bits(array, photometric), geometry)
    label = split_alpha(array, geometry) if _has_alpha(array, page) else Volume(array, geometry)
    inverted = photometric == "MINISWHITE" and len(label.array) == 1
    return Volume(label.array, geometry, alpha=label.alpha, is_inverted=inverted)


def show_samples(array: np.ndarray, page: Any, geometry: Geometry, axes: str | None) -> Volume:
    """Return an image: palettes as colors, gray from dark to bright at the scale of its bits, without transparency.

    Args:
        array: (C, *spatial).
        page: its first page, by tifffile.
        geometry: geometry of the result.
        axes: axes that the user has set, which keep every channel; None: colors alone.
    """
    photometric = _name(page)
    if photometric == "PALETTE":
        colors = _read_palette(page)
        return Volume(map_slabs(array, lambda block: colors[:, block[0].astype(np.intp)], 3, np.uint8), geometry)
    if array.dtype == bool:
        return Volume(_read_bits(array, photometric), geometry)
    bits = page.bitspersample if isinstance(page.bitspersample, int) else 8 * array.dtype.itemsize
    if photometric == "MINISWHITE" and array.dtype.kind == "u":
        white = array.dtype.type(2**bits - 1)
        array = map_slabs(array, lambda block: white - block, len(array), array.dtype)
    if bits < 8 and array.dtype.kind == "u":
        array = scale(array, 2**bits - 1)
    if photometric == "SEPARATED" and len(array) in (4, 5) and array.dtype.kind == "u" and not axes:
        noted = replace(geometry, notes=(*geometry.notes, "CMYK, converted to RGB"))
        return Volume(convert_cmyk(array[:4], 2**bits - 1), noted)
    if photometric == "YCBCR" and len(array) == 3 and array.dtype == np.uint8 and page.compression not in _JPEG:
        return Volume(convert_ycbcr(array), geometry)
    noted = replace(geometry, notes=geometry.notes + _note_missing_values(array, page) + _note_lab(photometric))
    if _has_alpha(array, page):
        return without_alpha(split_alpha(array, noted), axes)
    return Volume(array, noted)


def find_image(tiff: Any) -> Any:
    """Return the first image (series) in a file, opened by tifffile, which is not a thumbnail of another."""
    return next((series for series in tiff.series if not series.keyframe.is_reduced), tiff.series[0])


def note_other_images(tiff: Any) -> tuple[str, ...]:
    """Return a note on further images in a file, opened by tifffile, that differ from the first in size or kind."""
    count = len(tiff.series)
    return (f"holds {count} images of different sizes or kinds; one alone is read",) if count > 1 else ()


def _note_missing_values(array: np.ndarray, page: Any) -> tuple[str, ...]:
    """Return a note on floating-point pixels without data, which satellite images mark by a number (GDAL)."""
    if array.dtype.kind != "f":
        return ()
    usual = [-9999.0, float(np.finfo(array.dtype).min), -3.4028234663852886e38]
    with suppress(ValueError):
        usual.append(float(str(page.tags.valueof(_NODATA, "")).strip("\0 ")))
    lowest = find_range(array)[0]
    if lowest not in usual:
        return ()
    return (f"pixels of {lowest:g} probably have no data; they count as intensities",)


def _note_lab(photometric: str) -> tuple[str, ...]:
    is_lab = photometric in ("CIELAB", "ICCLAB", "ITULAB")
    return ("colors of CIELab, read as its three channels; RGB images of the same data set differ",) if is_lab else ()


def _name(page: Any) -> str:
    return str(getattr(page.photometric, "name", ""))


def _read_palette(page: Any) -> np.ndarray:
    """Read the colors (3, n); those of old programs have 8 bits of 16."""
    colors = np.asarray(page.colormap)
    return np.asarray(colors >> 8 if colors.max(initial=0) > 255 else colors, dtype=np.uint8)


def _read_bits(array: np.ndarray, photometric: str) -> np.ndarray:
    dark = photometric == "MINISWHITE"
    return map_slabs(array, lambda block: np.where(block != dark, 255, 0), len(array), np.uint8)


def _has_alpha(array: np.ndarray, page: Any) -> bool:
    """Tell whether the last of the channels, which are the samples of one page, is transparency."""
    extra = page.extrasamples
    return len(extra) == 1 and extra[0] in _ALPHA and len(array) == page.samplesperpixel and len(array) > 1
