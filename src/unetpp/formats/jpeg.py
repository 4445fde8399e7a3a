"""JPEG, by Pillow. Lossy: segmentations are written as PNG."""

from unetpp.formats import pillow
from unetpp.formats.format import Format, starts_with

_PLUGIN = pillow.Plugin("Jpeg")
_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
JPEG = Format(
    "JPEG",
    _SUFFIXES,
    read=_PLUGIN.read,
    open=_PLUGIN.open,
    takes_axes=True,
    sniff=starts_with(b"\xff\xd8\xff"),
    written_as=dict.fromkeys(_SUFFIXES, ".png"),
)
