"""WebP, by Pillow. Often lossy: segmentations are written as PNG."""

from unetpp.formats import pillow
from unetpp.formats.format import Format


def _sniff(head: bytes) -> bool:
    return head.startswith(b"RIFF") and head[8:12] == b"WEBP"


_PLUGIN = pillow.Plugin("WebP")
WEBP = Format(
    "WebP",
    (".webp",),
    read=_PLUGIN.read,
    open=_PLUGIN.open,
    takes_axes=True,
    sniff=_sniff,
    written_as={".webp": ".png"},
)
