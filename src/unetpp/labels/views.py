"""Views of a label file, block by block: numbers as stored, the brightness that a palette gives them, or colors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unetpp.slabs import slabs
from unetpp.volume import Volume

ROUNDING = 1e-3
"""Largest distance from a whole number that the scale factor in a header leaves."""

_TINT = 8
"""Largest difference between red, green and blue of a gray value after compression."""

Slices = tuple[slice, ...]


def drop_even_alpha(label: Volume) -> Volume:
    """Drop a transparency that says nothing: the same everywhere, or that of one class of a palette beside 0."""
    if label.alpha is None:
        return label
    is_even = label.alpha.min() == label.alpha.max()
    if not is_even and label.palette is not None:
        visible = is_visible(label, (slice(None),) * label.dims)
        is_even = bool((label.array[0][visible] == 0).any() and label.array[0][~visible].all())
    return replace(label, alpha=None) if is_even else label


def is_drawn_in_alpha(label: Volume) -> bool:
    """Tell whether transparency is the mask: it varies, and what was drawn has one color."""
    if label.alpha is None or label.alpha.min() == label.alpha.max():
        return False
    drawn = is_visible(label, (slice(None),) * label.dims)
    return all(channel.size == 0 or channel.min() == channel.max() for channel in (each[drawn] for each in label.array))


def is_visible(label: Volume, slices: Slices) -> np.ndarray:
    """Tell for each voxel of a block whether it is more opaque than transparent."""
    assert label.alpha is not None
    half = 128 if label.alpha.dtype == np.uint8 else (int(label.alpha.max()) + 1) // 2
    visible: np.ndarray = label.alpha[slices] >= half
    return visible


def is_colored(label: Volume) -> bool:
    """Tell whether a label has channels that differ by more than compression makes gray values differ."""
    if label.channels == 1:
        return False
    largest, brightest = 0.0, 0.0
    for slices in slabs(label.shape):
        block = label.array[:, *slices]
        high = block.max(axis=0)
        largest = max(largest, float((high - block.min(axis=0)).max()))
        brightest = max(brightest, float(high.max()))
    return largest > (_TINT if brightest >= 128 else 0)


def read_numbers(label: Volume, slices: Slices, invert: bool = False, in_alpha: bool = False) -> np.ndarray:
    """Read the numbers of a block (*spatial).

    Args:
        label: the label; of several channels the brightest counts.
        slices: the block.
        invert: obey a header that says that 0 is white.
        in_alpha: the numbers are those of the transparency.

    Returns:
        Numbers; fractions within `ROUNDING` of whole numbers are rounded.
    """
    if in_alpha and label.alpha is not None:
        transparency: np.ndarray = label.alpha[slices]
        return transparency
    block = label.array[:, *slices]
    numbers = block[0] if len(block) == 1 else block.max(axis=0)
    if numbers.dtype == bool:
        numbers = numbers.view(np.uint8)
    if invert and label.is_inverted and numbers.dtype.kind == "u":
        numbers = np.iinfo(numbers.dtype).max - numbers
    if label.alpha is not None:
        numbers = np.where(is_visible(label, slices), numbers, numbers.dtype.type(0))
    return round_nearly(numbers)


def round_nearly(numbers: np.ndarray) -> np.ndarray:
    """Round the fractions that lie within `ROUNDING` of a whole number."""
    if numbers.dtype.kind != "f":
        return numbers
    with np.errstate(invalid="ignore"):
        whole = np.rint(numbers)
        found: np.ndarray = np.where(np.abs(numbers - whole) <= ROUNDING, whole, numbers)
    return found


def read_brightness(label: Volume, slices: Slices, invert: bool = False, in_alpha: bool = False) -> np.ndarray:
    """Read a block (*spatial) as it looks in a viewer: palettes as brightness; arguments as of `read_numbers`."""
    numbers = read_numbers(label, slices, invert, in_alpha)
    if label.palette is None or in_alpha:
        return numbers
    brightness: np.ndarray = label.palette.max(axis=1)[np.minimum(numbers, len(label.palette) - 1)]
    return brightness


def read_colors(label: Volume, slices: Slices) -> np.ndarray:
    """Read a block (*spatial) as colors, packed as red * 65536 + green * 256 + blue; transparent voxels are black."""
    block = label.array[:, *slices]
    if label.palette is not None:
        colors: np.ndarray = pack_colors(label.palette)[np.minimum(block[0], len(label.palette) - 1)]
    else:
        limited = np.clip(block, 0, 255).astype(np.int32)
        colors = pack_colors(np.moveaxis(np.broadcast_to(limited, (3, *limited.shape[1:])), 0, -1))
    if label.alpha is not None:
        colors = np.where(is_visible(label, slices), colors, 0)
    return colors


def pack_colors(colors: np.ndarray) -> np.ndarray:
    """Pack colors (..., 3) into integers (...)."""
    wide = colors.astype(np.int32)
    packed: np.ndarray = (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]
    return packed


def round_colors(packed: np.ndarray) -> np.ndarray:
    """Round packed colors to ninths of the range, so that noise changes few of them."""
    return pack_colors((unpack_colors(packed) + 16) >> 5)


def unpack_colors(packed: np.ndarray) -> np.ndarray:
    """Unpack integers (...) into colors (..., 3)."""
    colors: np.ndarray = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], axis=-1)
    return colors


def scale_of(highest: float) -> int:
    """Find the range that holds the numbers of a mask: 0 to 1, to 255 or to 65535."""
    return next((scale for scale in (1, 255) if highest <= scale + ROUNDING), 65535)
