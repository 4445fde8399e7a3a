"""Reading and writing by Pillow: JPEG, BMP, GIF, WebP, small JPEG 2000 and ordinary PNG."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from unetpp.formats import limits
from unetpp.formats.format import FileRefused, Format
from unetpp.formats.orientation import TAG, note_orientation
from unetpp.formats.pixels import note_transparency
from unetpp.formats.sources import Slices
from unetpp.slabs import slabs
from unetpp.volume import Geometry, Volume

_BYTES = {"I": 4, "F": 4, "I;16": 2, "1": 1, "L": 1, "P": 1, "LA": 4, "PA": 4}
"""Bytes of a pixel in memory by mode; 4 in all others."""


class PillowSource:
    """A decoded Pillow image; blocks are converted on demand, without a second copy of the image."""

    def __init__(self, image: Any, geometry: Geometry, mode: str | None = None) -> None:
        self._image = image
        self._mode = mode or choose_mode(image)
        self.geometry = geometry
        first_pixel = convert(image.crop((0, 0, 1, 1)), self._mode)
        self.shape: tuple[int, ...] = (len(first_pixel), image.height, image.width)
        self.dtype = first_pixel.dtype.newbyteorder("=")

    def read(self, slices: Slices) -> np.ndarray:
        """Crop a block and convert it to (C, Y, X)."""
        (top, bottom, _), (left, right, _) = (
            part.indices(size) for part, size in zip(slices, self.shape[1:], strict=True)
        )
        found = np.empty((self.shape[0], max(0, bottom - top), max(0, right - left)), self.dtype)
        for rows, columns in slabs(found.shape[1:]):  # Pillow warns of large crops
            box = (left, top + rows.start, left + columns.stop, top + rows.stop)
            found[:, rows] = convert(self._image.crop(box), self._mode)
        return found


class Decoded(NamedTuple):
    """A decoded Pillow image, upright."""

    image: Any
    geometry: Geometry
    frames: int


@dataclass(frozen=True)
class Plugin:
    """One of Pillow's formats. Its class is called directly: `Image.open` refuses images above 179 million pixels."""

    name: str
    """Pillow's name for the format, as in `Jpeg`ImagePlugin."""
    module: str = ""
    """Module of its class, where it is not Pillow's own."""
    check: Callable[[Path], object] | None = None
    """Called first, refuses a file that is too short for its header; None: by its number of pixels."""

    def open_header(self, path: Path, stream: Any, in_memory: bool = True) -> Any:
        """Read the header of an image, and refuse sizes that do not fit the file or the memory.

        Args:
            path: path of the file.
            stream: the file.
            in_memory: Pillow is going to decode it.
        """
        if self.check is not None:
            self.check(path)
        module = import_module(self.module or f"PIL.{self.name}ImagePlugin")
        image = getattr(module, f"{self.name}ImageFile")(stream)
        pixels = image.width * image.height
        if self.check is None:
            limits.check_claim(path, (image.height, image.width), pixels)
        if in_memory:
            limits.check_memory(pixels * _BYTES.get(image.mode, 4))
        return image

    def load(self, path: Path, suffix: str) -> Decoded:
        """Decode an image and turn it upright by its EXIF orientation."""
        from PIL import ImageOps

        with path.open("rb") as stream:
            image = self.open_header(path, stream)
            frames = getattr(image, "n_frames", 1)
            image.load()
        orientation = image.getexif().get(TAG, 1)
        ImageOps.exif_transpose(image, in_place=True)
        notes = note_orientation(orientation)
        if frames > 1:
            notes += (f"a film of {frames} frames; the first alone is read",)
        return Decoded(image, replace(read_geometry(image, suffix), notes=notes), frames)

    def open(self, path: Path, suffix: str, axes: str | None = None) -> PillowSource:
        """Open an image for reading in blocks, a palette as colors, without transparency.

        Args:
            path: path of the file.
            suffix: its suffix.
            axes: rows, columns and channels: every channel is kept, transparency too; None: colors alone.
        """
        check_axes(axes)
        image, geometry, _ = self.load(path, suffix)
        bands = image.getbands()
        if axes is None and image.mode == "CMYK":
            geometry = replace(geometry, notes=(*geometry.notes, "CMYK, converted to RGB"))
        if axes is None and image.mode in ("LA", "RGBA"):
            low, high = image.getchannel("A").getextrema()
            geometry = replace(geometry, notes=geometry.notes + note_transparency(len(bands), low != high))
        image.info.pop("transparency", None)
        return PillowSource(image, geometry, choose_mode(image, axes is not None))

    def read(self, path: Path, suffix: str, axes: str | None = None) -> Volume:
        """Read a label, a palette as indices; arguments as of `open`, but transparency is always apart."""
        image, geometry, frames = self.load(path, suffix)
        if frames > 1:
            action = "Save one frame, or each as a file of its own."
            raise FileRefused(f"a film of {frames} frames", "a label of one frame", action)
        alpha = _read_alpha(image)
        image.info.pop("transparency", None)
        if image.mode not in ("P", "PA"):
            return Volume(convert(image, choose_mode(image)), geometry, alpha=alpha)
        indices = np.atleast_3d(np.asarray(image))[None, :, :, 0]
        return Volume(indices, geometry, _read_palette(image, int(indices.max(initial=0))), alpha)

    def declare(self, name: str, suffixes: tuple[str, ...], sniff: Callable[[bytes], bool], **options: Any) -> Format:
        """Declare a format whose segmentations are written as PNG.

        Args:
            name: name in messages.
            suffixes: suffixes in lower case, with the dot.
            sniff: recognizes it by the first bytes of a file.
            options: other fields of the `Format`.
        """
        written_as = dict.fromkeys(suffixes, ".png")
        return Format(name, suffixes, self.read, self.open, True, sniff=sniff, written_as=written_as, **options)


def check_axes(axes: str | None) -> None:
    """Refuse axes that a flat image does not have.

    Raises:
        FileRefused: other axes than rows, columns and channels.
    """
    if axes is not None and not set(axes) <= set("YXCS"):
        action = "Change `data.axes`, or convert the images to one format."
        raise FileRefused(f"an image of rows, columns and channels with `data.axes={axes}`", "Y, X and C", action)


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


def choose_mode(image: Any, every_channel: bool = False) -> str:
    """Choose the mode to convert an image to: gray or RGB in 8 bits, or deep gray as it is.

    Args:
        image: a Pillow image.
        every_channel: with transparency, and CMYK as it is.
    """
    mode = str(image.mode)
    if mode in ("I", "F") or mode.startswith("I;16"):
        return mode
    if mode in ("1", "L", "LA", "La"):
        return "LA" if every_channel and mode == "LA" else "L"
    return mode if every_channel and mode in ("RGBA", "CMYK") else "RGB"


def convert(image: Any, mode: str) -> np.ndarray:
    """Convert a Pillow image to (C, Y, X)."""
    pixels = np.asarray(image if image.mode == mode else image.convert(mode))
    return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)


def _read_alpha(image: Any) -> np.ndarray | None:
    if image.mode in ("LA", "PA", "RGBA"):
        return np.asarray(image.getchannel("A"))
    if "transparency" in image.info and image.mode in ("1", "L", "P", "RGB"):
        full = image.convert("LA" if image.mode in ("1", "L") else "RGBA")
        return np.asarray(full.getchannel("A"))
    return None


def _read_palette(image: Any, largest: int) -> np.ndarray:
    """Read the colors of a palette, black where it is shorter than the largest index."""
    colors = np.array(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    return np.pad(colors, ((0, max(0, largest + 1 - len(colors))), (0, 0)))
