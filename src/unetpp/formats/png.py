"""PNG: by Pillow, but large files by rows, and 16-bit colors, which Pillow would reduce to 8, by imagecodecs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from unetpp import scratch
from unetpp.formats import limits, pillow, png_rows
from unetpp.formats.format import Format, starts_with
from unetpp.formats.orientation import TAG, note_orientation, turn_upright
from unetpp.formats.pixels import note_transparency, split_alpha, without_alpha
from unetpp.slabs import slabs
from unetpp.volume import Geometry, Volume


def _check(path: Path) -> None:
    """Refuse a PNG that is too short for its header; one whose rows end early, which Pillow would fill with 0."""
    header = png_rows.read_any_header(path)
    if header is not None:
        size = header.row_bytes * header.height
        limits.check_claim(path, (header.height, header.width), size, limits.DEFLATE)
        png_rows.check_rows(path, header)


_PLUGIN = pillow.Plugin("Png", check=_check)


def _open(path: Path, suffix: str, axes: str | None = None) -> pillow.PillowSource | Volume:
    pillow.check_axes(axes)
    if (large := _read_large(path, suffix, axes)) is not None:
        return large
    if _is_deep_color(path):
        return without_alpha(_read_deep(path, suffix), axes)
    return _PLUGIN.open(path, suffix, axes)


def _read(path: Path, suffix: str, axes: str | None = None) -> Volume:
    if _is_deep_color(path):
        return _read_deep(path, suffix)
    label = _PLUGIN.read(path, suffix, axes)
    header = png_rows.read_any_header(path)
    if header is not None and header.color_type == png_rows.GRAY and header.bits in (2, 4):
        return replace(label, array=label.array // (255 // (2**header.bits - 1)))  # Pillow scales them to 255
    return label


def _read_deep(path: Path, suffix: str) -> Volume:
    from imagecodecs import png_decode

    with path.open("rb") as stream:
        image = _PLUGIN.open_header(path, stream)
        image.load()  # raises if the file is damaged, and finds an orientation behind the pixels
    orientation = image.getexif().get(TAG, 1)
    geometry = replace(pillow.read_geometry(image, suffix), notes=note_orientation(orientation))
    pixels = np.moveaxis(np.atleast_3d(png_decode(path.read_bytes())), -1, 0)
    upright = turn_upright(pixels, orientation)
    return split_alpha(upright, geometry) if len(upright) in (2, 4) else Volume(upright, geometry)


def _read_large(path: Path, suffix: str, axes: str | None) -> Volume | None:
    """Decompress a large PNG onto disk; None if it is small or cannot be read by rows."""
    header = png_rows.read_header(path)
    if header is None or header.row_bytes * header.height <= scratch.LARGE or png_rows.may_be_rotated(path):
        return None
    limits.check_claim(path, (header.height, header.width), header.row_bytes * header.height, limits.DEFLATE)
    with path.open("rb") as stream:  # raises if the header is damaged
        geometry = pillow.read_geometry(pillow.Plugin("Png").open_header(path, stream, in_memory=False), suffix)
    colors = 3 if header.samples >= 3 else 1
    channels = colors if axes is None else header.samples
    array = scratch.allocate_array((header.height, header.width, channels), np.uint8 if header.bits == 8 else np.uint16)
    row, first, varies = 0, None, False
    for pixels in png_rows.read_rows(path, header):
        if channels < header.samples:
            first = pixels[0, 0, -1] if first is None else first
            varies = varies or bool((pixels[..., -1] != first).any())
        array[row : row + len(pixels)] = pixels[..., :channels]
        row += len(pixels)
        scratch.release(array)
    return Volume(np.moveaxis(array, -1, 0), replace(geometry, notes=note_transparency(header.samples, varies)))


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


PNG = Format(
    "PNG",
    (".png",),
    read=_read,
    open=_open,
    takes_axes=True,
    write=_write,
    sniff=starts_with(b"\x89PNG"),
)
