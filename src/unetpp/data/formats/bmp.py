"""BMP, by Pillow."""

from unetpp.data.formats import pillow
from unetpp.data.formats.format import Format, starts_with

_PLUGIN = pillow.Plugin("Bmp")
BMP = Format(
    "BMP",
    (".bmp",),
    read=_PLUGIN.read,
    open=_PLUGIN.open,
    write=pillow.write,
    sniff=starts_with(b"BM"),
)
