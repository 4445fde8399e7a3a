"""JPEG, by Pillow. Lossy: segmentations are written as PNG."""

from unetpp.formats import pillow
from unetpp.formats.format import Format, starts_with

_PLUGIN = pillow.Plugin("Jpeg")
JPEG = Format(
    "JPEG",
    (".jpg", ".jpeg"),
    read=_PLUGIN.read,
    open=_PLUGIN.open,
    sniff=starts_with(b"\xff\xd8\xff"),
    written_as={".jpg": ".png", ".jpeg": ".png"},
)
