"""GIF, by Pillow. Segmentations are written as PNG."""

from unetpp.formats import pillow
from unetpp.formats.format import starts_with

GIF = pillow.Plugin("Gif").declare("GIF", (".gif",), starts_with(b"GIF87a", b"GIF89a"))
