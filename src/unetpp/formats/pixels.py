"""Changes of pixel values, slab by slab: an array may be larger than memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import DTypeLike

from unetpp import scratch
from unetpp.slabs import slabs
from unetpp.volume import Geometry, Volume


def map_slabs(
    array: np.ndarray, change: Callable[[np.ndarray], np.ndarray], channels: int, dtype: DTypeLike
) -> np.ndarray:
    """Apply a function to an array.

    Args:
        array: (C, *spatial).
        change: maps a slab (C, *spatial) to one of `channels` channels.
        channels: number of channels of the result.
        dtype: number type of the result.
    """
    found = scratch.allocate_array((channels, *array.shape[1:]), dtype)
    for slices in slabs(array.shape[1:]):
        found[(slice(None), *slices)] = change(array[(slice(None), *slices)])
        scratch.release(found)
        scratch.release(array)
    return found


def scale(array: np.ndarray, largest: int) -> np.ndarray:
    """Scale numbers from 0..`largest` to the full range of 8 or 16 bits, as viewers show them."""
    full = 255 if largest < 256 else 65535
    if largest == full:
        return array
    return map_slabs(
        array,
        lambda block: np.minimum(full, np.rint(block.astype(np.float64) * (full / largest))),
        len(array),
        np.uint8 if full == 255 else np.uint16,
    )


def convert_cmyk(array: np.ndarray, largest: int) -> np.ndarray:
    """Convert cyan, magenta, yellow and black to red, green and blue, as Pillow does."""

    def convert(block: np.ndarray) -> np.ndarray:
        light = largest - block[3:].astype(np.int64)
        return light - (2 * block[:3].astype(np.int64) * light + largest) // (2 * largest)

    return map_slabs(array, convert, 3, array.dtype)


def split_alpha(array: np.ndarray, geometry: Geometry) -> Volume:
    """Take transparency, the last channel, off an array (C, *spatial)."""
    return Volume(array[:-1], geometry, alpha=array[-1])


def without_alpha(volume: Volume, axes: str | None) -> Volume:
    """Turn a label whose transparency was taken off into an image: with it, or without it and with a note if it varies.

    Args:
        volume: as `split_alpha` returns it.
        axes: axes that the user has set, which keep every channel; None: colors alone.
    """
    if volume.alpha is None:
        return volume
    if axes is not None:
        return Volume(np.concatenate([volume.array, volume.alpha[None]]), volume.geometry)
    low, high = find_range(volume.alpha)
    notes = note_transparency(len(volume.array) + 1, low != high)
    return Volume(volume.array, replace(volume.geometry, notes=volume.geometry.notes + notes))


def convert_ycbcr(array: np.ndarray) -> np.ndarray:
    """Convert brightness and color differences in 8 bits (3, *spatial) to red, green and blue, by Pillow."""
    from PIL import Image

    def convert(block: np.ndarray) -> np.ndarray:
        flat = np.ascontiguousarray(np.moveaxis(block, 0, -1)).reshape(-1, block.shape[-1], 3)
        image = Image.frombytes("YCbCr", flat.shape[1::-1], flat.tobytes())
        return np.moveaxis(np.asarray(image.convert("RGB")).reshape(*block.shape[1:], 3), -1, 0)

    return map_slabs(array, convert, 3, np.uint8)


def find_range(array: np.ndarray) -> tuple[float, float]:
    """Find the smallest and the largest number, NaN aside."""
    low, high = np.inf, -np.inf
    for slices in slabs(array.shape):
        block = array[slices]
        low, high = (
            min(low, float(np.fmin.reduce(block, axis=None))),
            max(high, float(np.fmax.reduce(block, axis=None))),
        )
        scratch.release(array)
    return low, high


def note_transparency(channels: int, varies: bool) -> tuple[str, ...]:
    """Return the note of an image whose last channel is left out as transparency; none if it is constant.

    Args:
        channels: number of channels in the file, the last one included.
        varies: whether its numbers differ.
    """
    if not varies:
        return ()
    which = {2: "second", 4: "fourth"}.get(channels, "last")
    return (f'the {which} channel varies and is left out as transparency; keep it with `data.axes="YXC"`',)
