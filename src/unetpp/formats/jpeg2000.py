"""JPEG 2000: by Pillow, but more than 8 bits by imagecodecs, as Pillow would reduce colors to 8.

Often lossy: segmentations are written as PNG.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unetpp.formats import limits, pillow
from unetpp.formats.format import Format, starts_with
from unetpp.volume import Geometry, Volume

_SUFFIXES = (".jp2", ".j2k", ".jpx", ".j2c", ".jpc", ".jpf")
_BOX = b"\0\0\0\x0cjP  \r\n\x87\n"
_START = b"\xff\x4f\xff\x51"
_HEADER = 2**16


class _Size(NamedTuple):
    """Fields of the marker SIZ (ISO 15444-1, A.5.1)."""

    height: int
    width: int
    channels: int
    depth: int
    """Bits of a sample less one; 128 is added for signed numbers."""

    @property
    def is_deep(self) -> bool:
        """Whether Pillow would change the numbers, or not read them."""
        return self.depth > 7 or self.channels > 4


def _read_size(path: Path) -> _Size:
    with path.open("rb") as stream:
        head = stream.read(_HEADER)
    start = head.find(_START) + len(_START)
    if start < len(_START) or len(head) < start + 39:
        raise ValueError("its size is missing")
    right, bottom, left, top = struct.unpack_from(">4I", head, start + 4)
    channels, depth = struct.unpack_from(">HB", head, start + 36)
    return _Size(bottom - top, right - left, channels, depth)


def _check(path: Path) -> None:
    size = _read_size(path)
    limits.check_claim(path, (size.height, size.width), size.width * size.height * size.channels)


_PLUGIN = pillow.Plugin("Jpeg2K", check=_check)


def _open(path: Path, suffix: str, axes: str | None = None) -> pillow.PillowSource | Volume:
    if not _read_size(path).is_deep:
        return _PLUGIN.open(path, suffix, axes)
    pillow.check_axes(axes)
    return _read(path, suffix)


def _read(path: Path, suffix: str, axes: str | None = None) -> Volume:
    size = _read_size(path)
    if not size.is_deep:
        return _PLUGIN.read(path, suffix, axes)
    from imagecodecs import jpeg2k_decode

    _check(path)
    limits.check_memory(size.width * size.height * size.channels * 4)
    pixels = np.moveaxis(np.atleast_3d(jpeg2k_decode(path.read_bytes())), -1, 0)
    return Volume(pixels, Geometry(suffix))


JPEG2000 = Format(
    "JPEG 2000",
    _SUFFIXES,
    read=_read,
    open=_open,
    takes_axes=True,
    sniff=starts_with(_BOX, _START),
    written_as=dict.fromkeys(_SUFFIXES, ".png"),
)
