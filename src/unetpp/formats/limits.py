"""Limits on what a header may claim: its sizes are believed only after the length of the file was looked at."""

from __future__ import annotations

from pathlib import Path

from unetpp import scratch
from unetpp.formats.format import FileRefused
from unetpp.free_memory import measure_free_bytes

DEFLATE = 1032
"""Largest number of bytes that one byte of a PNG or of zlib can hold (its format allows no more)."""

MOST_PER_BYTE = 5000
"""Largest number of bytes that one byte of any other compressed file is believed to hold, above `scratch.LARGE`."""

MEMORY_SHARE = 0.5
"""Largest share of the free memory that one image may take which is decoded in memory."""


def check_claim(path: Path, shape: tuple[int, ...], size: int, most_per_byte: float | None = None) -> None:
    """Refuse a file that is too short for what its header claims.

    Args:
        path: path of the file.
        shape: shape that the header claims, for the message.
        size: number of bytes of the decoded image.
        most_per_byte: largest number of these that one byte of the file can hold; 1: uncompressed; None: unknown,
            `MOST_PER_BYTE`.

    Raises:
        FileRefused: the file is too short.
    """
    length, most = path.stat().st_size, most_per_byte or MOST_PER_BYTE
    if size <= length * most or (most_per_byte is None and size <= scratch.LARGE):
        return
    sizes = " x ".join(str(axis) for axis in shape)
    got = (
        f"a file of {length:,} bytes that is truncated, or whose header claims too much: {sizes}, {size / 1e6:,.0f} MB"
    )
    action = "Restore it from the original, or remove it."
    if most_per_byte is None:
        whole = "if it is whole, convert it to an uncompressed TIFF, or raise `unetpp.formats.limits.MOST_PER_BYTE`."
        action = f"Restore it from the original; {whole}"
    expected = "as many bytes as the header says" if most == 1 else f"at most {most:,g} times the length of the file"
    raise FileRefused(got, expected, action)


def check_memory(size: int) -> None:
    """Refuse to decode in memory what would take more than `MEMORY_SHARE` of what is free.

    Raises:
        MemoryError: naming the size and the limit.
    """
    if size <= scratch.LARGE:  # free memory takes longer to measure than a small image to read
        return
    limit = measure_free_bytes() * MEMORY_SHARE
    if size > limit:
        needed = f"{size / 1e6:,.0f} MB, more than {MEMORY_SHARE:.0%} of the free memory ({limit / 1e6:,.0f} MB)"
        raise MemoryError(f"{needed}; TIFF and PNG without Exif orientation are read from disk")
