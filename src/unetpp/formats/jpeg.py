"""JPEG, by Pillow. Lossy: segmentations are written as PNG."""

from unetpp.formats import pillow
from unetpp.formats.foreign import JPEG_LS


def _sniff(head: bytes) -> bool:
    return head.startswith(b"\xff\xd8\xff") and not head.startswith(JPEG_LS)


JPEG = pillow.Plugin("Jpeg").declare("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), _sniff)
