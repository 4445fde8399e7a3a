"""WebP, by Pillow. Often lossy: segmentations are written as PNG."""

from unetpp.formats import pillow


def _sniff(head: bytes) -> bool:
    return head.startswith(b"RIFF") and head[8:12] == b"WEBP"


WEBP = pillow.Plugin("WebP").declare("WebP", (".webp",), _sniff)
