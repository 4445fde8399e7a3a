"""PBM, PGM, PPM and PFM (Netpbm), mapped from their files. Segmentations are written as PNG."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unetpp.formats import limits
from unetpp.formats.format import Format
from unetpp.formats.pillow import check_axes
from unetpp.formats.pixels import scale
from unetpp.volume import Geometry, Volume

_HEAD = 2**16
_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
_BITS = re.compile(rb"P[14]" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})\s()")
_NUMBERS = re.compile(rb"P[2356]" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})\s")
_FLOATS = re.compile(rb"P[Ff]\s(\d{1,9})\s(\d{1,9})\s([-+.\deE]+)\s")
_SUFFIXES = (".ppm", ".pgm", ".pbm", ".pnm", ".pfm")


class _Header(NamedTuple):
    kind: str
    width: int
    height: int
    largest: float
    """Number of white; of floats, its sign is the byte order."""
    offset: int

    @property
    def channels(self) -> int:
        return 3 if self.kind in "36F" else 1


def _read_header(path: Path) -> _Header:
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    found = _BITS.match(head) or _NUMBERS.match(head) or _FLOATS.match(head)
    if found is None:
        raise ValueError("its header is damaged")
    width, height, largest = found.groups()
    header = _Header(chr(head[1]), int(width), int(height), float(largest or 1), found.end())
    if header.kind in "2356" and not 0 < header.largest < 65536:
        raise ValueError(f"its header says that white is {header.largest:g}")
    return header


def _read_pixels(path: Path, header: _Header) -> np.ndarray:
    """Read the numbers of a file as they are: (C, Y, X)."""
    shape = (header.height, header.width, header.channels)
    if header.kind in "123":
        pixels = _read_text(path, header)
    elif header.kind == "4":
        columns = -(-header.width // 8)
        packed = _map(path, header, np.dtype(np.uint8), (header.height, columns, 1))
        pixels = np.unpackbits(packed[..., 0], axis=1, count=header.width)[..., None]
    elif header.kind in "56":
        pixels = _map(path, header, np.dtype(np.uint8 if header.largest < 256 else ">u2"), shape)
    else:
        pixels = _map(path, header, np.dtype("<f4" if header.largest < 0 else ">f4"), shape)[::-1]
    return np.moveaxis(pixels, -1, 0)


def _map(path: Path, header: _Header, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> np.ndarray:
    limits.check_claim(path, shape, int(np.prod(shape, dtype=object)) * dtype.itemsize + header.offset, 1)
    return np.memmap(path, dtype, mode="r", offset=header.offset, shape=shape)


def _read_text(path: Path, header: _Header) -> np.ndarray:
    shape = (header.height, header.width, header.channels)
    size = header.height * header.width * header.channels
    limits.check_claim(path, shape, size, 1)  # a digit each, at least
    limits.check_memory(path.stat().st_size * 16)
    text = re.sub(rb"#[^\r\n]*", b"", path.read_bytes()[header.offset :])
    if header.kind == "1":  # its digits need no space between them
        text = b" ".join(digit.to_bytes() for digit in b"".join(text.split()))
    words = text.split()
    if len(words) < size:
        raise ValueError("the file ends before its last number")
    numbers = np.array([int(word) for word in words[:size]], np.int64).reshape(shape)
    if numbers.min(initial=0) < 0 or numbers.max(initial=0) > header.largest:
        raise ValueError(f"a number above {header.largest:g}, which its header calls white")
    return numbers.astype(np.uint8 if header.largest < 256 else np.uint16)


def _read(path: Path, suffix: str, axes: str | None = None) -> Volume:
    header = _read_header(path)
    pixels = _read_pixels(path, header)
    if header.kind in "14":  # bits: 1 is black
        pixels = np.where(pixels, np.uint8(0), np.uint8(255))
    return Volume(pixels, Geometry(suffix))


def _open(path: Path, suffix: str, axes: str | None = None) -> Volume:
    check_axes(axes)
    image, header = _read(path, suffix), _read_header(path)
    if header.kind in "2356":
        return Volume(scale(image.array, int(header.largest)), image.geometry)
    return image


def _sniff(head: bytes) -> bool:
    return re.match(rb"P[1-6Ff]\s+[#\d]", head) is not None


PNM = Format(
    "PNM",
    _SUFFIXES,
    read=_read,
    open=_open,
    takes_axes=True,
    sniff=_sniff,
    written_as=dict.fromkeys(_SUFFIXES, ".png"),
)
