"""BMP, by Pillow."""

from unetpp.formats import pillow
from unetpp.formats.format import Format, starts_with

_PLUGIN = pillow.Plugin("Bmp")
BMP = Format(
    "BMP",
    (".bmp",),
    read=_PLUGIN.read,
    open=_PLUGIN.open,
    write=pillow.write,
    sniff=starts_with(b"BM"),
)
