"""Pages of a TIFF as one array: small ones in memory, large ones mapped or decompressed onto disk."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from unetpp import scratch
from unetpp.formats import limits
from unetpp.formats.format import FileRefused

_UNCOMPRESSED = 1


def read_pages(path: Path, series: Any) -> np.ndarray:
    """Read a series of pages.

    Args:
        path: path of the file.
        series: a series of tifffile.

    Returns:
        The array, with the axes of the series.

    Raises:
        FileRefused: it claims more than the file can hold, or misses pages.
        ValueError: the file is damaged.
    """
    if any(page is None for page in series.pages):
        missing = sum(page is None for page in series.pages)
        got = f"a header that names {len(series.pages)} planes, of which {missing} are missing"
        action = "Restore it from the original, or save its planes anew."
        raise FileRefused(got, "all of them in the file", action)
    _check_claim(path, series)
    if series.nbytes <= scratch.LARGE:
        return np.asarray(series.asarray())
    return _decompress(series)


def _check_claim(path: Path, series: Any) -> None:
    page = series.keyframe
    limits.check_claim(path, page.chunks, prod(page.chunks) * page.dtype.itemsize)  # a tile larger than its image
    if page.compression != _UNCOMPRESSED:
        limits.check_claim(path, series.shape, series.nbytes)
        return
    bits = page.bitspersample if isinstance(page.bitspersample, int) else 8 * page.dtype.itemsize
    is_sparse = not all(page.databytecounts)  # tiles that were never written
    is_subsampled = page.subsampling not in (None, (1, 1))
    size = prod(series.shape) * bits // 8
    ratio = None if is_sparse else 2 if is_subsampled else 1
    limits.check_claim(path, series.shape, size, ratio)


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
