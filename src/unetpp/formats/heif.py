"""HEIC and HEIF (photographs of phones), by pillow-heif, and AVIF, by Pillow. Segmentations are written as PNG."""

from unetpp.formats import pillow
from unetpp.formats.format import Format

_HEIF = pillow.Plugin("Heif", module="pillow_heif")
_AVIF = pillow.Plugin("Avif")


def _sniff_heif(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")


def _sniff_avif(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis")


HEIF = Format(
    "HEIF",
    (".heic", ".heif"),
    read=_HEIF.read,
    open=_HEIF.open,
    takes_axes=True,
    sniff=_sniff_heif,
    written_as={".heic": ".png", ".heif": ".png"},
    needs=("pillow-heif", "heif"),
)
AVIF = Format(
    "AVIF",
    (".avif",),
    read=_AVIF.read,
    open=_AVIF.open,
    takes_axes=True,
    sniff=_sniff_avif,
    written_as={".avif": ".png"},
)
