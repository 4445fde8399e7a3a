"""TIFF, OME-TIFF and ImageJ, by tifffile. Large files are mapped or decompressed onto disk, and written in tiles."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from unetpp import scratch
from unetpp.formats.axes import arrange, choose_axes
from unetpp.formats.format import FileRefused, Format, starts_with
from unetpp.formats.orientation import TAG, note_orientation, turn_upright
from unetpp.formats.tiff_ome import check_planes, find_own_axes, names_partners
from unetpp.formats.tiff_pages import read_pages
from unetpp.formats.tiff_samples import find_image, note_other_images, read_samples, show_samples
from unetpp.formats.tiff_sizes import read_sizes, turn_sizes
from unetpp.volume import Geometry, Volume

_SUFFIXES = (".tif", ".tiff", ".ome.tif", ".ome.tiff")
_ALONE = "one of several OME-TIFF files of an image, read alone: what its partners hold is not in it"
MOST_PAGES = 65_536
TILE = 512
"""Rows and columns of the tiles of a large file, so that viewers can read parts of it."""


def _read(path: Path, suffix: str, axes: str | None = None, is_label: bool = True) -> Volume:
    import tifffile

    with _mute("tifffile"), tifffile.TiffFile(path) as tiff:  # its log of a damaged file is in our message
        if _is_truncated(tiff):
            raise ValueError("the file ends before its last page")
        if (pages := len(tiff.pages)) > MOST_PAGES:  # each takes time, whatever is in it
            raise FileRefused(f"{pages:,} pages", f"at most {MOST_PAGES:,}", "Save parts of it as files of their own.")
        if not names_partners(tiff):
            check_planes(tiff)
            return _read_image(path, suffix, axes, is_label, tiff, tiff)
        with tifffile.TiffFile(path, is_ome=False) as alone:
            return _read_image(path, suffix, axes, is_label, tiff, alone)


def _read_image(path: Path, suffix: str, axes: str | None, is_label: bool, tiff: Any, alone: Any) -> Volume:
    """Read the first image of a file.

    Args:
        path: path of the file.
        suffix: its suffix.
        axes: axes that the user has set.
        is_label: numbers as they are, instead of as they are shown.
        tiff: the file, opened by tifffile.
        alone: the file, opened without its partners in a set of OME-TIFF files.
    """
    series = find_image(alone)
    array, page, letters, notes = read_pages(path, series), series.keyframe, series.axes, note_other_images(alone)
    if alone is not tiff:
        letters, counts = find_own_axes(tiff, array.size // page.size)
        array, letters, notes = array.reshape(*counts, *page.shape), letters + page.axes, (_ALONE,)
    sizes, header = read_sizes(tiff)
    arranged = arrange(array, _choose(letters, array.shape, axes, is_label))
    orientation = page.tags.valueof(TAG, 1)
    upright = turn_upright(arranged.array, orientation)
    if orientation in (5, 6, 7, 8):
        sizes, header = turn_sizes(sizes, header)
    spacing = tuple(sizes.get(axis, 0) for axis in arranged.axes)
    geometry = Geometry(
        suffix, spacing if all(spacing) else None, header=header, notes=notes + note_orientation(orientation)
    )
    return read_samples(upright, page, geometry) if is_label else show_samples(upright, page, geometry, axes)


def _choose(letters: str, shape: tuple[int, ...], axes: str | None, is_label: bool) -> str:
    """Choose the axes: those that the user has set for the images need not fit labels."""
    try:
        return choose_axes(letters, shape, axes)
    except FileRefused:
        if not is_label:
            raise
        return letters


@contextmanager
def _mute(logger: str) -> Iterator[None]:
    """Keep unhandled log records off standard error. (A level would apply to all threads.)"""
    found, nowhere = logging.getLogger(logger), logging.NullHandler()
    found.addHandler(nowhere)
    try:
        yield
    finally:
        found.removeHandler(nowhere)


def _is_truncated(tiff: Any) -> bool:
    """Tell whether the last page points to one that is absent, which tifffile would skip silently."""
    len(tiff.pages)  # reads them all
    size = tiff.tiff.offsetsize
    tiff.filehandle.seek(tiff.pages.next_page_offset)
    return any(tiff.filehandle.read(size))


def _write(array: np.ndarray, geometry: Geometry, path: Path) -> None:
    import tifffile

    options: dict[str, Any] = dict(geometry.header) if isinstance(geometry.header, dict) else {}
    imagej, ome = options.pop("imagej", None), options.pop("ome", None)
    data: np.ndarray | Iterator[np.ndarray] = array
    axes = {"axes": "ZYX"[-array.ndim :]}
    if imagej is not None:  # the spacing of planes is in a tag of ImageJ, whose files are uncompressed
        options |= {"imagej": True, "metadata": axes | imagej}
    else:
        is_ome = ome is not None or geometry.suffix.startswith(".ome")
        options |= {"metadata": axes | (ome or {}), "ome": is_ome}
        options |= {"compression": "deflate", "bigtiff": array.nbytes > 2**31, "buffersize": scratch.PIECE}
        if array.nbytes > scratch.LARGE and array.ndim == 2:
            data = _cut_tiles(array)
            options |= {"shape": array.shape, "dtype": array.dtype, "tile": (TILE, TILE)}
    tifffile.imwrite(path, data, photometric="minisblack", **options)


def _cut_tiles(array: np.ndarray) -> Iterator[np.ndarray]:
    for row in range(0, array.shape[0], TILE):
        yield from (array[row : row + TILE, column : column + TILE] for column in range(0, array.shape[1], TILE))
        scratch.release(array)


TIFF = Format(
    "TIFF",
    _SUFFIXES,
    read=_read,
    open=partial(_read, is_label=False),
    takes_axes=True,
    write=_write,
    sniff=starts_with(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
)
