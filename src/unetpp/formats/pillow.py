"""Reading and writing by Pillow: JPEG, BMP and ordinary PNG."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from unetpp.formats.sources import Slices
from unetpp.volume import Geometry, Volume


class PillowSource:
    """A decoded Pillow image; blocks are converted on demand, without a second copy of the image."""

    def __init__(self, image: Any, geometry: Geometry) -> None:
        self._image = image
        self.geometry = geometry
        first_pixel = _convert(image.crop((0, 0, 1, 1)))
        self.shape: tuple[int, ...] = (len(first_pixel), image.height, image.width)
        self.dtype = first_pixel.dtype.newbyteorder("=")

    def read(self, slices: Slices) -> np.ndarray:
        """Crop a block and convert it to (C, Y, X)."""
        (top, bottom, _), (left, right, _) = (
            part.indices(size) for part, size in zip(slices, self.shape[1:], strict=True)
        )
        return np.ascontiguousarray(_convert(self._image.crop((left, top, right, bottom))), dtype=self.dtype)


@dataclass(frozen=True)
class Plugin:
    """One of Pillow's formats. Its class is called directly: `Image.open` refuses images above 179 million pixels."""

    name: str
    """Pillow's name for the format, as in `Jpeg`ImagePlugin."""

    def load(self, path: Path, header_only: bool = False) -> Any:
        """Decode an image and rotate it by its EXIF orientation; with `header_only`, neither."""
        from PIL import ImageOps

        with path.open("rb") as stream:
            image = getattr(import_module(f"PIL.{self.name}ImagePlugin"), f"{self.name}ImageFile")(stream)
            if header_only:
                return image
            image.load()
        image.info.pop("transparency", None)
        ImageOps.exif_transpose(image, in_place=True)
        return image

    def open(self, path: Path, suffix: str) -> PillowSource:
        """Open an image for reading in blocks, a palette as colors."""
        image = self.load(path)
        return PillowSource(image, read_geometry(image, suffix))

    def read(self, path: Path, suffix: str) -> Volume:
        """Read a whole image, a palette as indices."""
        image = self.load(path)
        indices = image.mode in ("P", "PA")
        array = np.atleast_3d(np.asarray(image))[None, :, :, 0] if indices else _convert(image)
        return Volume(array, read_geometry(image, suffix))


def read_geometry(image: Any, suffix: str) -> Geometry:
    """Read the resolution of a Pillow image, which its segmentation gets too."""
    return Geometry(suffix, header=image.info.get("dpi"))


def write(array: np.ndarray, geometry: Geometry, path: Path) -> None:
    """Write an array by the suffix of its path.

    Args:
        array: gray values (Y, X), uint8 or uint16.
        geometry: that of the image, whose resolution is written.
        path: path of the file.
    """
    from PIL import Image

    options = {"dpi": geometry.header} if geometry.header else {}
    Image.fromarray(array).save(path, **options)


def _convert(image: Any) -> np.ndarray:
    """Convert a Pillow image to (C, Y, X): C is 1 for gray, 3 for color; alpha is dropped."""
    is_deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
    mode = image.mode if is_deep else "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
