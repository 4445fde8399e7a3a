"""PNG files by rows: libraries read and write them whole, which takes too much memory for huge images."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from unetpp import scratch

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_READ = 2**16
GRAY = 0
_PALETTE = 3
_SAMPLES = {GRAY: 1, 2: 3, _PALETTE: 1, 4: 2, 6: 4}
"""Samples of a pixel by color type: gray, RGB, palette, gray and RGB with alpha."""
_PASSES = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))
"""First row, step of rows, first column and step of columns of the passes of an interlaced image (section 8.2)."""


class Header(NamedTuple):
    """Fields of the chunk IHDR (PNG specification, section 11.2.2)."""

    width: int
    height: int
    bits: int
    color_type: int
    compression: int
    filters: int
    interlaced: int

    @property
    def samples(self) -> int:
        """Number of samples of a pixel."""
        return _SAMPLES[self.color_type]

    @property
    def row_bytes(self) -> int:
        """Size of a row in bytes, without its filter byte."""
        return self._row_bytes(self.width)

    @property
    def data_bytes(self) -> int:
        """Size of all rows in bytes, with their filter bytes."""
        if not self.interlaced:
            return (self.row_bytes + 1) * self.height
        passes = (
            (len(range(top, self.height, down)), len(range(left, self.width, right)))
            for top, down, left, right in _PASSES
        )
        return sum(rows * (self._row_bytes(columns) + 1) for rows, columns in passes if columns)

    def _row_bytes(self, width: int) -> int:
        return -(-width * self.samples * self.bits // 8)


def read_any_header(path: Path) -> Header | None:
    """Read the header of a PNG; None for other files."""
    with path.open("rb") as stream:
        if stream.read(16) != SIGNATURE + struct.pack(">I", 13) + b"IHDR":
            return None
        fields = stream.read(13)
    header = Header(*struct.unpack(">IIBBBBB", fields)) if len(fields) == 13 else None
    return header if header is not None and header.color_type in _SAMPLES else None


def read_header(path: Path) -> Header | None:
    """Read the header of a PNG whose rows can be read in order.

    None for other files, and for interlaced images, palettes and fewer than 8 bits.
    """
    header = read_any_header(path)
    in_order = header is not None and header.color_type != _PALETTE and header.bits in (8, 16) and not header.interlaced
    return header if in_order else None


def check_rows(path: Path, header: Header) -> None:
    """Decompress a PNG without keeping its pixels.

    Raises:
        ValueError: the file is damaged, or ends before its last row.
    """
    for _ in _inflate(path, _READ, header.data_bytes):
        pass


def may_be_rotated(path: Path) -> bool:
    """Tell whether a PNG has a chunk that may state the orientation of the camera: EXIF, raw profile or XMP."""
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
    """Yield pixels (rows, width, samples) from the first row to the last, about `scratch.PIECE` bytes at a time.

    Raises:
        ValueError: the file is truncated or damaged.
    """
    from imagecodecs import png_decode

    stride = header.row_bytes + 1
    count = max(1, scratch.PIECE // stride)
    above = bytes(header.row_bytes)
    for rows in _inflate(path, stride * count, stride * header.height):
        # make a PNG that starts with the row above: the decoder undoes the filters, which refer to it
        number = len(rows) // stride
        whole = [
            SIGNATURE,
            _pack_chunk(b"IHDR", struct.pack(">IIBBBBB", *header._replace(height=number + 1))),
            _pack_chunk(b"IDAT", zlib.compress(b"\0" + above + rows, 0)),
            _pack_chunk(b"IEND", b""),
        ]
        pixels = png_decode(b"".join(whole)).reshape(number + 1, header.width, header.samples)[1:]
        above = pixels[-1].astype(pixels.dtype.newbyteorder(">")).tobytes()
        yield pixels


def write_rows(
    rows: Iterable[np.ndarray],
    shape: tuple[int, int],
    dtype: np.dtype[Any],
    path: Path,
    dpi: tuple[float, float] | None = None,
) -> None:
    """Write gray values.

    Args:
        rows: blocks (rows, width) in order.
        shape: height and width of the image.
        dtype: uint8 or uint16.
        path: path of the file.
        dpi: resolution along x and y in dots per inch.
    """
    bits = 8 * dtype.itemsize
    height, width = shape
    with path.open("wb") as file:
        file.write(SIGNATURE + _pack_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, GRAY, 0, 0, 0)))
        if dpi is not None:
            file.write(_pack_chunk(b"pHYs", struct.pack(">IIB", *(int(value / 0.0254 + 0.5) for value in dpi), 1)))
        compressor = zlib.compressobj()
        for block in rows:
            data = np.ascontiguousarray(block, dtype.newbyteorder(">")).view(np.uint8)
            filtered = np.pad(data, ((0, 0), (1, 0))).tobytes()  # filter type 0 (none) before each row
            file.write(_pack_chunk(b"IDAT", compressor.compress(filtered)))
        file.write(_pack_chunk(b"IDAT", compressor.flush()) + _pack_chunk(b"IEND", b""))


def _inflate(path: Path, piece: int, total: int) -> Iterator[bytes]:
    """Yield the decompressed IDAT chunks in pieces of `piece` bytes, the last shorter, `total` bytes in all."""
    inflate = zlib.decompressobj()
    waiting = bytearray()
    yielded = 0
    for data in _read_image_data(path):
        while data and yielded < total:
            wanted = min(piece, total - yielded)
            waiting += inflate.decompress(data, wanted - len(waiting))
            data = inflate.unconsumed_tail
            if len(waiting) == wanted:
                yield bytes(waiting)
                yielded += len(waiting)
                waiting.clear()
    if yielded < total:
        raise ValueError("the file ends before its last row")


def _read_image_data(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        stream.seek(len(SIGNATURE))
        kind = b""
        while kind != b"IEND":
            length, kind = _read_chunk_head(stream)
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


def _read_chunk_head(stream: IO[bytes]) -> tuple[int, bytes]:
    """Read length and kind of the next chunk."""
    head = stream.read(8)
    if len(head) < 8:
        raise ValueError("the file ends before its last chunk")
    length, kind = struct.unpack(">I4s", head)
    return length, kind


def _pack_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
