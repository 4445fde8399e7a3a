"""GIF, by Pillow. Segmentations are written as PNG."""

from unetpp.formats import pillow
from unetpp.formats.format import Format, starts_with

_PLUGIN = pillow.Plugin("Gif")
GIF = Format(
    "GIF",
    (".gif",),
    read=_PLUGIN.read,
    open=_PLUGIN.open,
    takes_axes=True,
    sniff=starts_with(b"GIF87a", b"GIF89a"),
    written_as={".gif": ".png"},
)
