"""PNG: by Pillow, but large files by rows, and 16-bit colors, which Pillow would reduce to 8, by imagecodecs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from unetpp.formats import pillow, png_rows, scratch
from unetpp.formats.format import Format, starts_with
from unetpp.slabs import slabs
from unetpp.volume import Geometry, Volume

_PLUGIN = pillow.Plugin("Png")


def _open(path: Path, suffix: str) -> pillow.PillowSource | Volume:
    if (large := _read_large(path, suffix)) is not None:
        return large
    return _read(path, suffix) if _is_deep_color(path) else _PLUGIN.open(path, suffix)


def _read(path: Path, suffix: str) -> Volume:
    if not _is_deep_color(path):
        return _PLUGIN.read(path, suffix)
    from imagecodecs import png_decode

    geometry = pillow.read_geometry(_PLUGIN.load(path), suffix)  # raises if the file is damaged
    pixels = np.moveaxis(png_decode(path.read_bytes()), -1, 0)
    return Volume(pixels[: 3 if len(pixels) >= 3 else 1], geometry)  # without alpha


def _read_large(path: Path, suffix: str) -> Volume | None:
    """Decompress a large PNG onto disk; None if it is small or cannot be read by rows."""
    header = png_rows.read_header(path)
    if header is None or header.row_bytes * header.height <= scratch.LARGE or png_rows.may_be_rotated(path):
        return None
    # raises if the header is damaged
    geometry = pillow.read_geometry(_PLUGIN.load(path, header_only=True), suffix)
    channels = 3 if header.samples >= 3 else 1
    array = scratch.allocate_array((header.height, header.width, channels), np.uint8 if header.bits == 8 else np.uint16)
    row = 0
    for pixels in png_rows.read_rows(path, header):
        array[row : row + len(pixels)] = pixels[..., :channels]  # without alpha
        row += len(pixels)
        scratch.release(array)
    return Volume(np.moveaxis(array, -1, 0), geometry)


def _is_deep_color(path: Path) -> bool:
    with path.open("rb") as stream:
        head = stream.read(26)
    return len(head) == 26 and head[24] == 16 and head[25] != 0


def _write(array: np.ndarray, geometry: Geometry, path: Path) -> None:
    if array.nbytes > scratch.LARGE and array.dtype in (np.uint8, np.uint16):
        png_rows.write_rows(_yield_slabs(array), array.shape, array.dtype, path, geometry.header)
    else:
        pillow.write(array, geometry, path)


def _yield_slabs(array: np.ndarray) -> Iterator[np.ndarray]:
    for slices in slabs(array.shape):
        yield array[slices]
        scratch.release(array)


PNG = Format("PNG", (".png",), read=_read, open=_open, write=_write, sniff=starts_with(b"\x89PNG"))
