"""What Pillow reads and writes: the whole of JPEG and BMP, and PNG where nothing is special about it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from unetpp.data.sources import Slices
from unetpp.data.volume import Geometry, Volume


class PillowSource:
    """A decoded Pillow image; blocks are cut from it on demand, so that no second copy of it exists."""

    def __init__(self, image: Any, geometry: Geometry) -> None:
        self._image = image
        self.geometry = geometry
        first_pixel = _pixels(image.crop((0, 0, 1, 1)))
        self.shape: tuple[int, ...] = (len(first_pixel), image.height, image.width)
        self.dtype = first_pixel.dtype.newbyteorder("=")

    def read(self, slices: Slices) -> np.ndarray:
        (top, bottom, _), (left, right, _) = (
            part.indices(size) for part, size in zip(slices, self.shape[1:], strict=True)
        )
        block = self._image.crop((left, top, right, bottom))
        return np.ascontiguousarray(_pixels(block), dtype=self.dtype)


def load(plugin: str, path: Path, header_only: bool = False) -> Any:
    """The decoded Pillow image, as the camera's orientation tag shows it; or what its header says.

    Args:
        plugin: Pillow's name for the format, as in `Jpeg`ImagePlugin. Its class is called directly: `Image.open` refuses
            images above 179 million pixels.
        path: of the file.
        header_only: leave the pixels in the file.
    """
    from PIL import ImageOps

    with path.open("rb") as stream:
        image = getattr(import_module(f"PIL.{plugin}ImagePlugin"), f"{plugin}ImageFile")(stream)
        if header_only:
            return image
        image.load()
    image.info.pop("transparency", None)
    ImageOps.exif_transpose(image, in_place=True)
    return image


def geometry_of(image: Any, suffix: str) -> Geometry:
    return Geometry(suffix, header=image.info.get("dpi"))


def open_image(plugin: str, path: Path, suffix: str) -> PillowSource:
    image = load(plugin, path)
    return PillowSource(image, geometry_of(image, suffix))


def read(plugin: str, path: Path, suffix: str) -> Volume:
    """Read the pixels, those of a palette as its numbers."""
    image = load(plugin, path)
    if image.mode in ("P", "PA"):
        return Volume(np.atleast_3d(np.asarray(image))[None, :, :, 0], geometry_of(image, suffix))
    return Volume(_pixels(image), geometry_of(image, suffix))


def write(array: np.ndarray, geometry: Geometry, path: Path) -> None:
    from PIL import Image

    options = {"dpi": geometry.header} if geometry.header else {}
    Image.fromarray(array).save(path, **options)


def _pixels(image: Any) -> np.ndarray:
    """Pixels (C, Y, X) of a Pillow image: C is 1 for grey, 3 for colour; alpha is dropped."""
    mode = _mode(image)
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


def _mode(image: Any) -> str:
    """The Pillow mode whose pixels we hand out."""
    if image.mode in ("1", "L", "LA", "La"):
        return "L"
    return str(image.mode) if image.mode in ("I", "F") or image.mode.startswith("I;16") else "RGB"
