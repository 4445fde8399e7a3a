"""PNG files by rows: libraries read and write them whole, which for a huge image is more memory than the work that is done on it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from unetpp.data import scratch

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_READ = 2**16
_GREY, _COLOUR = 0, 2
_SAMPLES = {_GREY: 1, _COLOUR: 3, 4: 2, 6: 4}
"""Of a pixel, for each type of colour: grey, colour, both with alpha."""


class Header(NamedTuple):
    """What a PNG says of itself (PNG specification, section 11.2.2)."""

    width: int
    height: int
    bits: int
    colour: int
    compression: int
    filters: int
    interlaced: int

    @property
    def samples(self) -> int:
        return _SAMPLES[self.colour]

    @property
    def row_bytes(self) -> int:
        return self.width * self.samples * self.bits // 8


def header_of(path: Path) -> Header | None:
    """The header of a PNG whose rows can be read one after the other and as they are; None for any other file, and for palettes and fewer than 8 bits."""
    with path.open("rb") as stream:
        if stream.read(16) != SIGNATURE + struct.pack(">I", 13) + b"IHDR":
            return None
        header = Header(*struct.unpack(">IIBBBBB", stream.read(13)))
    return header if header.colour in _SAMPLES and header.bits in (8, 16) and not header.interlaced else None


def may_be_turned(path: Path) -> bool:
    """Whether a picture says, in one of three ways, how its camera was held."""
    with path.open("rb") as stream:
        stream.seek(len(SIGNATURE))
        while len(head := stream.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            begin = stream.read(min(length, 30))
            if kind == b"eXIf" or begin.startswith((b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")):
                return True
            stream.seek(length - len(begin) + 4, 1)
    return False


def read_rows(path: Path, header: Header) -> Iterator[np.ndarray]:
    """Pixels (rows, width, samples), from the first row to the last, as many at once as `scratch.PIECE` holds.

    Raises:
        ValueError: the file ends too early, or its content is damaged.
    """
    from imagecodecs import png_decode

    stride = header.row_bytes + 1
    count = max(1, scratch.PIECE // stride)
    above = bytes(header.row_bytes)
    for rows in _unpacked(path, stride * count, stride * header.height):
        # a PNG of its own, whose first row is the one above: the decoder undoes the filters, which look up to it
        number = len(rows) // stride
        whole = [
            SIGNATURE,
            _packed(b"IHDR", struct.pack(">IIBBBBB", *header._replace(height=number + 1))),
            _packed(b"IDAT", zlib.compress(b"\0" + above + rows, 0)),
            _packed(b"IEND", b""),
        ]
        pixels = png_decode(b"".join(whole)).reshape(number + 1, header.width, header.samples)[1:]
        above = pixels[-1].astype(pixels.dtype.newbyteorder(">")).tobytes()
        yield pixels


def write_rows(
    rows: Iterable[np.ndarray],
    shape: tuple[int, int],
    dtype: np.dtype,
    path: Path,
    dpi: tuple[float, float] | None = None,
) -> None:
    """Write grey values, uint8 or uint16, from rows (some, width) that come one after the other."""
    bits = 8 * dtype.itemsize
    height, width = shape
    with path.open("wb") as file:
        file.write(SIGNATURE + _packed(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, _GREY, 0, 0, 0)))
        if dpi is not None:
            file.write(_packed(b"pHYs", struct.pack(">IIB", *(int(value / 0.0254 + 0.5) for value in dpi), 1)))
        compressor = zlib.compressobj()
        for some in rows:
            data = np.ascontiguousarray(some, dtype.newbyteorder(">")).view(np.uint8)
            filtered = np.pad(data, ((0, 0), (1, 0))).tobytes()  # each row after its filter: none
            file.write(_packed(b"IDAT", compressor.compress(filtered)))
        file.write(_packed(b"IDAT", compressor.flush()) + _packed(b"IEND", b""))


def _unpacked(path: Path, piece: int, total: int) -> Iterator[bytes]:
    """What the IDAT chunks hold, in pieces of that many bytes, of which the last is shorter."""
    inflate = zlib.decompressobj()
    waiting = bytearray()
    given = 0
    for data in _image_data(path):
        while data and given < total:
            wanted = min(piece, total - given)
            waiting += inflate.decompress(data, wanted - len(waiting))
            data = inflate.unconsumed_tail
            if len(waiting) == wanted:
                yield bytes(waiting)
                given += len(waiting)
                waiting.clear()
    if given < total:
        raise ValueError("the file ends before its last row")


def _image_data(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        stream.seek(len(SIGNATURE))
        kind = b""
        while kind != b"IEND":
            length, kind = _chunk(stream)
            if kind != b"IDAT":
                stream.seek(length + 4, 1)
                continue
            check = zlib.crc32(kind)
            while length:
                data = stream.read(min(length, _READ))
                if not data:
                    raise ValueError("the file ends within its pixels")
                length -= len(data)
                check = zlib.crc32(data, check)
                yield data
            if stream.read(4) != struct.pack(">I", check):
                raise ValueError("its pixels are damaged (checksum)")


def _chunk(stream: IO[bytes]) -> tuple[int, bytes]:
    """Length and kind of the chunk that follows."""
    head = stream.read(8)
    if len(head) < 8:
        raise ValueError("the file ends before its last chunk")
    length, kind = struct.unpack(">I4s", head)
    return length, kind


def _packed(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
