"""JPEG, by Pillow. Lossy: segmentations are written as PNG."""

from functools import partial

from unetpp.data.formats import pillow
from unetpp.data.formats.format import Format, starts_with

JPEG = Format(
    "JPEG",
    (".jpg", ".jpeg"),
    read=partial(pillow.read, "Jpeg"),
    open=partial(pillow.open_image, "Jpeg"),
    sniff=starts_with(b"\xff\xd8\xff"),
    written_as={".jpg": ".png", ".jpeg": ".png"},
)
