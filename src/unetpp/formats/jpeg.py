"""JPEG, by Pillow. Lossy: segmentations are written as PNG."""

from unetpp.formats import pillow
from unetpp.formats.foreign import JPEG_LS
from unetpp.formats.format import Format

_PLUGIN = pillow.Plugin("Jpeg")
_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")


def _sniff(head: bytes) -> bool:
    return head.startswith(b"\xff\xd8\xff") and not head.startswith(JPEG_LS)


JPEG = Format(
    "JPEG",
    _SUFFIXES,
    read=_PLUGIN.read,
    open=_PLUGIN.open,
    takes_axes=True,
    sniff=_sniff,
    written_as=dict.fromkeys(_SUFFIXES, ".png"),
)
