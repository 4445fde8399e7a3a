"""BMP, by Pillow."""

from __future__ import annotations

import struct
from pathlib import Path

from unetpp.formats import limits, pillow
from unetpp.formats.format import Format, starts_with


def _check(path: Path) -> None:
    """Refuse an uncompressed BMP that is shorter than its pixels."""
    with path.open("rb") as stream:
        head = stream.read(34)
    if len(head) < 34:
        return  # Pillow's error says so
    if struct.unpack_from("<I", head, 14)[0] == 12:  # the header of OS/2
        width, height, _, bits = struct.unpack_from("<HHHH", head, 18)
        compression = 0
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", head, 18)
    if compression in (0, 3, 6):  # none, or bit masks
        shape = (abs(height), abs(width))
        limits.check_claim(path, shape, shape[0] * (shape[1] * bits // 8), 1)


_PLUGIN = pillow.Plugin("Bmp", check=_check)
BMP = Format(
    "BMP",
    (".bmp",),
    read=_PLUGIN.read,
    open=_PLUGIN.open,
    takes_axes=True,
    write=pillow.write,
    sniff=starts_with(b"BM"),
)
