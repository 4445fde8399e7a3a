"""TIFF, OME-TIFF and ImageJ, by tifffile. Large files are mapped or decompressed onto disk, and written in tiles."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from unetpp.formats import scratch
from unetpp.formats.format import Format, starts_with
from unetpp.slabs import slabs
from unetpp.volume import Geometry, Volume

_SUFFIXES = (".tif", ".tiff", ".ome.tif", ".ome.tiff")
TILE = 512
"""Rows and columns of the tiles of a large file, so that viewers can read parts of it."""


def _read(path: Path, suffix: str, colors: bool = False) -> Volume:
    import tifffile

    with _mute("tifffile"), tifffile.TiffFile(path) as tiff:  # its log of a damaged file is in our message
        if _is_truncated(tiff):
            raise ValueError("the file ends before its last page")
        series, page = tiff.series[0], tiff.pages.first
        array = series.asarray() if series.nbytes <= scratch.LARGE else _decompress(series)
        array = _move_channels_first(array, series.axes)
        header: dict[str, Any] = {}
        if "XResolution" in page.tags:
            header |= {"resolution": page.resolution, "resolutionunit": page.resolutionunit}
        if (imagej := tiff.imagej_metadata) is not None:
            header["imagej"] = {key: imagej[key] for key in ("spacing", "unit") if key in imagej}
        suffix = suffix if suffix in _SUFFIXES else ".tif"  # a TIFF under another name: its segmentation is a TIFF
        return Volume(_convert_samples(array, page, colors), Geometry(suffix, header=header))


@contextmanager
def _mute(logger: str) -> Iterator[None]:
    """Keep unhandled log records off standard error. (A level would apply to all threads.)"""
    found, nowhere = logging.getLogger(logger), logging.NullHandler()
    found.addHandler(nowhere)
    try:
        yield
    finally:
        found.removeHandler(nowhere)


def _decompress(series: Any) -> np.ndarray:
    """Map a large series, or decompress it onto disk tile by tile."""
    mapped = series.dataoffset is not None and series.keyframe.is_memmappable
    if (
        mapped
        or series.is_multifile
        or series.transform is not None
        or series.is_truncated
        or len(series) * prod(series.keyframe.shaped) != prod(series.shape)
    ):
        return np.asanyarray(series.asarray(out="memmap"))  # by tifffile
    array = scratch.allocate_array(series.shape, series.dtype)
    planes = array.reshape(len(series), *series.keyframe.shaped)  # separate samples, depth, rows, columns, samples
    for plane, page in zip(planes, series, strict=True):
        if page is None:
            plane[...] = 0
            continue

        def store(
            decoded: tuple[np.ndarray | None, tuple[int, ...], tuple[int, ...]], plane: np.ndarray = plane
        ) -> None:
            segment, (sample, depth, row, column, _), shape = decoded
            inside = plane[sample, depth : depth + shape[0], row : row + shape[1], column : column + shape[2]]
            whole = tuple(slice(size) for size in inside.shape)
            inside[...] = series.keyframe.nodata if segment is None else segment[whole]

        # the decoding threads store tiles: none waits in memory
        for _ in page.segments(func=store, sort=True, buffersize=scratch.PIECE):
            scratch.release(array)
    return array


def _is_truncated(tiff: Any) -> bool:
    """Tell whether the last page points to one that is absent, which tifffile would skip silently."""
    len(tiff.pages)  # reads them all
    size = tiff.tiff.offsetsize
    tiff.filehandle.seek(tiff.pages.next_page_offset)
    return any(tiff.filehandle.read(size))


def _move_channels_first(array: np.ndarray, axes: str) -> np.ndarray:
    """Reorder the axes of tifffile (S, C: channels; Y, X; all others: planes) to (C, [Z,] Y, X)."""
    keep = [axis for axis, size in enumerate(array.shape) if size > 1 or axes[axis] in "YX"]
    array = array.reshape([array.shape[axis] for axis in keep])
    kinds = "".join("C" if axes[axis] in "SC" else axes[axis] if axes[axis] in "YX" else "Z" for axis in keep)
    if sorted(kinds.replace("C", "", 1).replace("Z", "", 1)) != ["X", "Y"]:
        raise ValueError(f"axes {axes} of sizes {array.shape} are more than channels, planes, rows and columns")
    array = array if "C" in kinds else array[None]
    kinds = kinds if "C" in kinds else "C" + kinds
    return array.transpose([kinds.index(kind) for kind in "CZYX" if kind in kinds])


def _convert_samples(array: np.ndarray, page: Any, colors: bool) -> np.ndarray:
    """Drop alpha, convert palettes to `colors`, and bits to 0 (dark) and 255 (bright)."""
    photometric = getattr(page.photometric, "name", "")
    if photometric == "PALETTE" and colors:
        palette = np.asarray(page.colormap >> 8, dtype=np.uint8)
        return _map_slabs(array, lambda block: palette[:, block[0]], 3, np.uint8)
    if array.dtype == bool:
        return _map_slabs(
            array, lambda block: np.where(block == (photometric != "MINISWHITE"), 255, 0), len(array), np.uint8
        )
    if photometric == "MINISWHITE" and array.dtype.kind == "u" and colors:
        return _map_slabs(array, lambda block: np.iinfo(array.dtype).max - block, len(array), array.dtype)
    visible = {"RGB": 3, "YCBCR": 3, "MINISBLACK": 1}.get(photometric, len(array))
    has_alpha = any(sample in (1, 2) for sample in page.extrasamples)
    return array[:visible] if has_alpha and len(array) == visible + 1 else array


def _map_slabs(
    array: np.ndarray, change: Callable[[np.ndarray], np.ndarray], channels: int, dtype: DTypeLike
) -> np.ndarray:
    """Apply a function to an array (C, *spatial) slab by slab: the array may be huge."""
    found = scratch.allocate_array((channels, *array.shape[1:]), dtype)
    for slices in slabs(array.shape[1:]):
        found[(slice(None), *slices)] = change(array[(slice(None), *slices)])
        scratch.release(found)
        scratch.release(array)
    return found


def _write(array: np.ndarray, geometry: Geometry, path: Path) -> None:
    import tifffile

    options: dict[str, Any] = dict(geometry.header) if isinstance(geometry.header, dict) else {}
    imagej = options.pop("imagej", None)
    data: np.ndarray | Iterator[np.ndarray] = array
    axes = {"axes": "ZYX"[-array.ndim :]}
    if imagej is not None:  # the spacing of planes is in a tag of ImageJ, whose files are uncompressed
        options |= {"imagej": True, "metadata": axes | imagej}
    else:
        options |= {"metadata": axes, "compression": "deflate", "bigtiff": array.nbytes > 2**31}
        options |= {"buffersize": scratch.PIECE}
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
    open=partial(_read, colors=True),
    write=_write,
    sniff=starts_with(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    written_as={".ome.tif": ".tif", ".ome.tiff": ".tiff"},
)
