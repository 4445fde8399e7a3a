"""What a viewer gets: parts of an image, its segmentation and its map of doubt, as NIfTI on the grid of the page."""

from __future__ import annotations

from math import ceil, prod
from pathlib import Path
from typing import Any, Literal

import nibabel
import numpy as np

from unetpp import labels
from unetpp.formats.readers import open_image
from unetpp.formats.sources import ImageSource
from unetpp.plan import DataPlan
from unetpp.serve.display import Box, DisplayGrid
from unetpp.serve.job import View
from unetpp.serve.problems import Refused
from unetpp.slabs import slabs

LONGEST_SIDE = 2048
"""Pixels of the longest side of an image that the viewer of volumes shows; larger ones are shown in tiles."""
VIEW_VOXELS = 2**25
"""Largest number of voxels that a browser gets at once."""
_TYPES = {"b": np.uint8, "u1": np.uint8, "i1": np.int16, "i2": np.int16, "u2": np.uint16}


def make_view(source: ImageSource) -> View:
    """Describe how the page shows an image."""
    spatial = source.shape[1:]
    grid = DisplayGrid.of(source.shape[1:], source.geometry)
    is_flat = len(spatial) == 2
    kind: Literal["image", "large image", "volume"] = "volume"
    if is_flat:
        kind = "large image" if max(spatial) > LONGEST_SIDE else "image"
    step = 1 if is_flat else max(1, ceil((prod(spatial) / VIEW_VOXELS) ** (1 / 3)), ceil(max(spatial) / LONGEST_SIDE))
    return View(
        kind=kind,
        shape=grid.shape,
        affine=grid.affine.tolist(),
        channels=source.shape[0],
        is_color=is_color(source),
        step=step,
    )


def is_color(source: ImageSource) -> bool:
    """Tell whether the channels of an image are red, green and blue."""
    return source.shape[0] == 3 and source.dtype == np.uint8 and len(source.shape) == 3


def require_channel(source: ImageSource, channel: int) -> None:
    """Refuse a channel that an image does not have; raises Refused."""
    if not 0 <= channel < source.shape[0]:
        raise Refused(422, "channel", str(channel)[:80], f"0 to {source.shape[0] - 1}", "Change it.")


def parse_box(text: str | None, shape: tuple[int, int, int]) -> Box:
    """Read a box of the page, "x0,x1,y0,y1,z0,z1"; None: the whole image.

    Raises:
        Refused: no box of the image.
    """
    if text is None:
        return tuple((0, size) for size in shape)
    try:
        numbers = [int(each) for each in text.split(",")]
        box = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    except ValueError:
        box = ()
    if len(box) != 3 or any(not 0 <= start < stop <= size for (start, stop), size in zip(box, shape, strict=True)):
        expected = f"x0,x1,y0,y1,z0,z1 within {' x '.join(map(str, shape))} voxels"
        raise Refused(422, "box", repr(text[:80]), expected, "Change it.")
    return box


def draw_image(source: ImageSource, box: str | None, step: int, channel: int) -> bytes:
    """Return a part of an image as NIfTI: colors as they are, else one channel.

    Args:
        source: the image.
        box: of the page, as `parse_box` reads it.
        step: every how many voxels.
        channel: of images that are not in colors.

    Raises:
        Refused: no such part or channel, or one that is too large.
        DataError: the file cannot be read.
    """
    grid = DisplayGrid.of(source.shape[1:], source.geometry)
    require_channel(source, channel)
    found = parse_box(box, grid.shape)
    in_color = is_color(source)
    blocks = []
    for number in range(3) if in_color else [channel]:
        blocks.append(_read_every(lambda slices, n=number: source.read(slices)[n], grid, found, step))
    voxels = _pack_colors(blocks) if in_color else _simplify(blocks[0])
    return write_nifti(voxels, _stretch(grid.move(found), step))


def draw_labels(
    path: Path, data: DataPlan, source: ImageSource, box: str | None, step: int, label: ImageSource | None = None
) -> bytes:
    """Return a part of a segmentation as class indices, in NIfTI.

    Args:
        path: the segmentation.
        data: classes of the model.
        source: the image.
        box: of the page, as `parse_box` reads it.
        step: every how many voxels.
        label: the segmentation, if it is open already.
    """
    grid = DisplayGrid.of(source.shape[1:], source.geometry)
    found = parse_box(box, grid.shape)
    opened, known = label or open_image(path), labels.make_labels(data)
    indices = _read_every(lambda slices: known.encode(opened.read(slices)[0], path), grid, found, step)
    return write_nifti(indices, _stretch(grid.move(found), step))


def draw_doubt(path: Path, source: ImageSource, box: str | None, step: int) -> bytes:
    """Return a part of a map of uncertainty, 0 to 1 in steps of 1/255, in NIfTI."""
    grid = DisplayGrid.of(source.shape[1:], source.geometry)
    found, doubts = parse_box(box, grid.shape), open_image(path)
    values = _read_every(lambda slices: doubts.read(slices)[0], grid, found, step)
    return write_nifti(np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8), _stretch(grid.move(found), step), 1 / 255)


def _read_every(read: Any, grid: DisplayGrid, box: Box, step: int) -> np.ndarray:
    """Read every so many voxels of a box, slab by slab, and turn them to (x, y, z)."""
    if prod(-(-(stop - start) // step) for start, stop in box) > VIEW_VOXELS:
        expected = f"at most {VIEW_VOXELS:,} voxels"
        raise Refused(413, "box", "a part that is too large for a browser", expected, "Ask for less, or a larger step.")
    slices = grid.locate(box)
    if step == 1:
        return grid.turn(read(slices))
    first = slices[0]
    rows = [
        read((slice(row, row + 1), *slices[1:]))[(slice(None), *(slice(None, None, step),) * (len(slices) - 1))]
        for row in range(first.start, first.stop, step)
    ]
    return grid.turn(np.concatenate(rows))


def _stretch(affine: np.ndarray, step: int) -> np.ndarray:
    stretched = affine.copy()
    stretched[:3, :3] *= step
    return stretched


def _simplify(voxels: np.ndarray) -> np.ndarray:
    """Convert to a type of numbers that viewers read."""
    kind = _TYPES.get(voxels.dtype.kind) or _TYPES.get(voxels.dtype.str[1:]) or np.float32
    return voxels.astype(kind, copy=False)


def _pack_colors(channels: list[np.ndarray]) -> np.ndarray:
    packed = np.empty(channels[0].shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for name, values in zip("RGB", channels, strict=True):
        packed[name] = values
    return packed


def write_nifti(voxels: np.ndarray, affine: np.ndarray, slope: float | None = None) -> bytes:
    """Write voxels (x, y, z) as the bytes of an uncompressed NIfTI-1 file.

    Args:
        voxels: of a type that NIfTI has.
        affine: 4 x 4.
        slope: by which a viewer multiplies them.
    """
    image = nibabel.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    raw = image.to_bytes() if slope is None else _with_slope(image, slope)
    return bytes(raw)


def _with_slope(image: Any, slope: float) -> bytes:
    raw = bytearray(image.to_bytes())
    raw[112:116] = np.float32(slope).tobytes()  # scl_slope, which nibabel resets
    return bytes(raw)


def measure_window(source: ImageSource, channel: int = 0) -> tuple[float, float]:
    """Measure the intensities that are shown as black and white, over slabs that are spread over a channel.

    Raises:
        Refused: no such channel.
        DataError: the file cannot be read.
    """
    require_channel(source, channel)
    blocks = [*slabs(source.shape[1:])]
    some = blocks[:: max(1, len(blocks) // 8)][:8]
    values = np.concatenate([source.read(block)[channel][..., ::4].reshape(-1) for block in some])
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (0, 1)
    return float(low), float(high) if high > low else float(low) + 1
