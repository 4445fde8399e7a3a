"""Images of OME-Zarr stores, read by blocks: folders and addresses of object stores."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np

from unetpp.errors import DataError, Problem
from unetpp.formats.format import FileRefused
from unetpp.formats.object_store import Objects, is_of_store, open_objects, store_failures
from unetpp.formats.ome_zarr import ImageMetadata, parse_image
from unetpp.formats.sources import Slices
from unetpp.volume import Geometry

SUFFIX = ".zarr"
_LOOKED_AT = 3
"""Blocks of an image whose voxels tell it from another of the same size."""


@dataclass(frozen=True)
class ZarrImage:
    """An image of a store. Workers get it as it is; arrays are opened where they are read."""

    objects: Objects
    metadata: ImageMetadata
    zarr_format: int
    """2 (OME-Zarr 0.4) or 3 (0.5)."""
    opening: str = ""
    """Drawn by `open_zarr_image`: a process that lives longer than a command reads the metadata of arrays anew."""

    def array(self, level: int = 0) -> Any:
        """Open an array of the pyramid, unless this process has it open."""
        return keep_array(self.objects, self.metadata.levels[level].path, self.zarr_format, self.opening)

    def shape(self, level: int = 0) -> tuple[int, ...]:
        """Shape of an array of the pyramid along all axes."""
        return tuple(self.array(level).shape)

    def size(self, axis: str) -> int:
        """Size of an axis at full resolution; 1 if there is none of this name."""
        order = self.metadata.order
        return int(self.shape()[order.index(axis)]) if axis in order else 1

    def source(self, channels: Sequence[int], time: int = 0, plane: int | None = None) -> ZarrSource:
        """Open a volume, an image, or one plane of a volume."""
        return ZarrSource(self, tuple(channels), time, plane)

    def identify(self) -> str:
        """Compute what tells this image from others: a digest of its metadata, shape, and some of its voxels."""
        array = self.array()
        found = hashlib.sha256(repr((self.metadata, array.shape, str(array.dtype))).encode())
        sizes = [min(size, 64) for size in array.shape]
        for share in np.linspace(0, 1, _LOOKED_AT):
            corner = [round(share * (size - own)) for size, own in zip(array.shape, sizes, strict=True)]
            area = tuple(slice(start, start + own) for start, own in zip(corner, sizes, strict=True))
            found.update(np.ascontiguousarray(_read(self, area)).tobytes())
        return found.hexdigest()


class ZarrSource:
    """One image of a store as an `ImageSource`: shape (C, *spatial)."""

    def __init__(self, image: ZarrImage, channels: tuple[int, ...], time: int, plane: int | None) -> None:
        self._image, self._channels, self._time, self._plane = image, channels, time, plane
        order, shape, spacing = image.metadata.order, image.shape(), image.metadata.spacing_mm
        self._kept = [axis for axis in image.metadata.spatial if plane is None or order[axis] != "z"]
        self.shape = (len(channels), *(int(shape[axis]) for axis in self._kept))
        self.dtype: np.dtype[Any] = np.dtype(image.array().dtype).newbyteorder("=")
        spacing = spacing if spacing is None or plane is None else spacing[1:]
        self.geometry = Geometry(SUFFIX, spacing_mm=spacing)

    def read(self, slices: Slices) -> np.ndarray:
        """Read the block (C, *spatial) within `slices`, one for each spatial axis."""
        order, shape = self._image.metadata.order, self._image.shape()
        area = [slice(0, size) for size in shape]
        for name, place in (("t", self._time), ("z", self._plane)):
            if place is not None and name in order:
                area[order.index(name)] = slice(place, place + 1)
        for axis, part in zip(self._kept, slices, strict=True):
            area[axis] = slice(*part.indices(shape[axis])[:2])
        sizes = [area[axis].stop - area[axis].start for axis in self._kept]
        blocks = []
        for first, last in _join_runs(self._channels):
            if "c" in order:
                area[order.index("c")] = slice(first, last + 1)
            blocks.append(_read(self._image, tuple(area)).reshape(last + 1 - first, *sizes))
        found = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        return np.ascontiguousarray(found, dtype=self.dtype)


def open_zarr_image(path: str | PathLike[str]) -> ZarrImage:
    """Open the image of an OME-Zarr store.

    Args:
        path: folder or address of the group of the image.

    Raises:
        DataError: no image of OME-Zarr 0.4 or 0.5, arrays that are missing or do not fit the axes, no rights.
        MissingExtraError: zarr or obstore is not installed.
    """
    objects = open_objects(path)
    attributes, zarr_format = read_attributes(objects)
    try:
        if attributes is None:
            expected, action = "an image of OME-Zarr 0.4 or 0.5", "Name the group of an image, such as in.ome.zarr."
            raise FileRefused("no Zarr group", expected, action)
        image = ZarrImage(objects, parse_image(attributes), zarr_format, draw_opening())
        for level in range(len(image.metadata.levels)):
            _check_array(image, level)
    except FileRefused as refused:
        raise DataError(Problem(str(objects), refused.got, refused.expected, refused.action)) from None
    return image


def read_attributes(objects: Objects, path: str = "") -> tuple[dict[str, Any] | None, int]:
    """Read the attributes of a group, and the version of Zarr that it has; None: there is no group."""
    prefix = f"{path}/" if path else ""
    keys = {3: f"{prefix}zarr.json", 2: f"{prefix}.zattrs"}
    for zarr_format, key in keys.items():
        content = objects.read_or_none(key)
        if content is None:
            continue
        try:
            values = json.loads(content)
            found = values.get("attributes", {}) if zarr_format == 3 else values
            return dict(found), zarr_format
        except (ValueError, AttributeError, TypeError):
            action = "Restore it from the original."
            raise DataError(Problem(f"{objects}/{key}", "no JSON object", "metadata of Zarr", action)) from None
    objects.read(keys[3])  # names the refusal, if that is what it was
    return (None, 3) if objects.read_or_none(f"{prefix}.zgroup") is None else ({}, 2)


def open_array(objects: Objects, path: str, zarr_format: int, writes: bool = False) -> Any:
    """Open an array of a store, as it is now."""
    import zarr

    with store_failures(f"{objects}/{path}"):
        return zarr.open_array(
            objects.zarr(writes), path=path, mode="r+" if writes else "r", zarr_format=2 if zarr_format == 2 else 3
        )


@functools.lru_cache(maxsize=64)
def keep_array(objects: Objects, path: str, zarr_format: int, opening: str, writes: bool = False) -> Any:
    """Open an array of a store; the same one for all that has the same `opening`."""
    return open_array(objects, path, zarr_format, writes)


def draw_opening() -> str:
    """Draw what tells one opening of a store from another: what lies there may be replaced in between."""
    return secrets.token_hex(8)


def _check_array(image: ZarrImage, level: int) -> None:
    """Refuse an array that does not fit the axes, or whose voxels are no numbers."""
    path, array = image.metadata.levels[level].path, image.array(level)
    if len(array.shape) != len(image.metadata.axes):
        got = f"an array {path} of {len(array.shape)} axes ({' x '.join(map(str, array.shape))})"
        expected = f"{len(image.metadata.axes)}, as its metadata ({image.metadata.order})"
        raise FileRefused(got, expected, "Correct the metadata.")
    if np.dtype(array.dtype).kind not in "biuf":
        raise FileRefused(f"an array {path} of {array.dtype}", "whole or floating-point numbers", "Convert it.")
    if 0 in array.shape:
        raise FileRefused(f"an array {path} without voxels", "an image", "Write it again.")


def _read(image: ZarrImage, area: Slices) -> np.ndarray:
    """Read an area of the array at full resolution.

    Raises:
        DataError: naming the chunk that cannot be decoded, or what the store refuses.
    """
    array = image.array()
    try:
        with store_failures(str(image.objects)):
            found: np.ndarray = np.asarray(array[area])
    except DataError as error:
        if is_of_store(error.__cause__):
            raise
        raise DataError(_find_broken(image, array, area)) from error.__cause__
    return found.view(np.uint8) if found.dtype == bool else found


def _find_broken(image: ZarrImage, array: Any, area: Slices) -> Problem:
    """Find the chunk of an area that cannot be decoded."""
    sizes = array.shards or array.chunks
    ranges = [range(part.start // size, -(-part.stop // size)) for part, size in zip(area, sizes, strict=True)]
    for place in itertools.product(*ranges):
        start = [number * size for number, size in zip(place, sizes, strict=True)]
        try:
            array[tuple(slice(first, first + size) for first, size in zip(start, sizes, strict=True))]
        except Exception:
            separator = "." if image.zarr_format == 2 and "." in str(array.metadata.dimension_separator) else "/"
            name = f"{'' if image.zarr_format == 2 else 'c/'}{separator.join(map(str, place))}"
            where = f"{image.objects}/{image.metadata.levels[0].path}/{name}"
            break
    else:
        where = str(image.objects)
    action = "Restore it from the original; then run the command again with `resume=True`."
    return Problem(where, "a chunk that cannot be decoded", "a whole one", action)


def _join_runs(channels: Sequence[int]) -> list[tuple[int, int]]:
    """Join consecutive channels, which are read at once: (first, last) of each run."""
    runs: list[tuple[int, int]] = []
    for channel in channels:
        if runs and channel == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], channel)
        else:
            runs.append((channel, channel))
    return runs
