"""Limits on what a header may claim: its sizes are believed only after the length of the file was looked at."""

from __future__ import annotations

from pathlib import Path

import psutil

from unetpp.formats import scratch
from unetpp.formats.format import FileRefused

DEFLATE = 1032
"""Largest number of bytes that one byte of a PNG or of zlib can hold (its format allows no more)."""

MOST_PER_BYTE = 5000
"""Largest number of bytes that one byte of any other compressed file is believed to hold, above `scratch.LARGE`."""


def check_claim(path: Path, shape: tuple[int, ...], size: int, most_per_byte: float = MOST_PER_BYTE) -> None:
    """Refuse a file that is too short for what its header claims.

    Args:
        path: path of the file.
        shape: shape that the header claims, for the message.
        size: number of bytes of the decoded image.
        most_per_byte: largest number of these that one byte of the file can hold; 1: uncompressed.

    Raises:
        FileRefused: the file is too short.
    """
    length = path.stat().st_size
    is_exact = most_per_byte <= DEFLATE
    if size <= length * most_per_byte or (not is_exact and size <= scratch.LARGE):
        return
    sizes = " x ".join(str(axis) for axis in shape)
    got = (
        f"a file of {length:,} bytes that is truncated, or whose header claims too much: {sizes}, {size / 1e6:,.0f} MB"
    )
    action = "Restore it from the original, or remove it."
    if not is_exact:
        action = "Restore it from the original; if it is whole, convert it to an uncompressed TIFF."
    raise FileRefused(got, f"at most {most_per_byte:,g} times its length", action)


def check_memory(size: int) -> None:
    """Refuse to decode in memory what would take more than half of what is free.

    Raises:
        MemoryError: naming the size and the limit.
    """
    limit = psutil.virtual_memory().available / 2
    if size > max(limit, scratch.LARGE):
        needed = f"{size / 1e6:,.0f} MB, more than half of the free memory ({limit / 1e6:,.0f} MB)"
        raise MemoryError(f"{needed}; TIFF and PNG without Exif orientation are read from disk")
