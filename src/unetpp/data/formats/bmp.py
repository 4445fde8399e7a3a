"""BMP, by Pillow."""

from functools import partial

from unetpp.data.formats import pillow
from unetpp.data.formats.format import Format, starts_with

BMP = Format(
    "BMP",
    (".bmp",),
    read=partial(pillow.read, "Bmp"),
    open=partial(pillow.open_image, "Bmp"),
    write=pillow.write,
    sniff=starts_with(b"BM"),
)
