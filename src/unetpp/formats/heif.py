"""HEIC and HEIF (photographs of phones), by pillow-heif, and AVIF, by Pillow. Segmentations are written as PNG."""

from unetpp.formats import pillow


def _sniff_heif(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")


def _sniff_avif(head: bytes) -> bool:
    return head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis")


HEIF = pillow.Plugin("Heif", module="pillow_heif").declare(
    "HEIF", (".heic", ".heif"), _sniff_heif, needs=("pillow-heif", "heif")
)
AVIF = pillow.Plugin("Avif").declare("AVIF", (".avif",), _sniff_avif)
