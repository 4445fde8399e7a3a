"""From label files to class indices, by the meaning of their values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from unetpp.errors import DataError, Problem
from unetpp.labels.classes import Classes, ignored_index, index_type
from unetpp.labels.facts import names_by_value
from unetpp.labels.views import (
    Slices,
    drop_even_alpha,
    is_drawn_in_alpha,
    is_visible,
    pack_colors,
    read_brightness,
    read_colors,
    read_numbers,
    scale_of,
    unpack_colors,
)
from unetpp.plan import LabelPlan
from unetpp.scratch import allocate_array, release
from unetpp.slabs import slabs
from unetpp.volume import Volume

_COLORS_AT_ONCE = 2**14


def encode_label(label: Volume, classes: Classes, meaning: LabelPlan, where: str | Path) -> np.ndarray:
    """Encode a label file as class indices (*spatial).

    Args:
        label: the label as its file stores it.
        classes: the classes.
        meaning: what the values of the file mean.
        where: the file, for errors.

    Returns:
        Class indices; `ignored_index` where nobody labeled.

    Raises:
        DataError: a value that stands for no class, or NaN.
    """
    label = drop_even_alpha(label)
    if meaning.kind == "segments" and label.segments:
        return _encode_segments(label, classes, where)
    if meaning.kind == "channels" and label.channels > 1:
        return _encode_channels(label, classes, where)
    if meaning.kind == "colors" and (label.channels == 3 or label.palette is not None):
        return _encode_colors(label, classes, meaning)
    in_alpha = is_drawn_in_alpha(label)
    if meaning.kind == "binary":
        cut = meaning.cut or half_of_range(label, meaning, in_alpha)
        return _encode_two(label, meaning, lambda block: read_brightness(label, block, meaning.inverted, in_alpha), cut)
    if meaning.kind == "objects":
        return _encode_two(label, meaning, lambda block: read_numbers(label, block, meaning.inverted, in_alpha), 0.5)
    if meaning.kind == "colors":  # a gray file among colors
        known = Classes(classes.names, tuple(pack_colors(np.asarray(meaning.colors)).tolist()), meaning.ignore)
        return known.encode(read_colors(label, (slice(None),) * label.dims), where)
    return replace(classes, ignore=meaning.ignore).encode(_collect_whole(label, meaning, in_alpha, where), where)


def half_of_range(label: Volume, meaning: LabelPlan, in_alpha: bool = False) -> float:
    """Find half of the range that holds the values of a file: 0 to 1, to 255 or to 65535."""
    tops = [read_brightness(label, block, meaning.inverted, in_alpha).max() for block in slabs(label.shape)]
    return half(scale_of(float(max(tops))))


def half(highest: float) -> float:
    """Return the cut of a mask with this highest value: 128 for 255, 0.5 for 1."""
    return (highest + 1) // 2 if highest > 1 else 0.5


def cut_at_half(label: Volume) -> np.ndarray:
    """Cut a mask at half of its own range: foreground (*spatial)."""
    return _cut_above(label, lambda top: top / 2)


def guess_foreground(label: Volume) -> np.ndarray:
    """Guess what one label marks (*spatial), before the meaning of its values is known."""
    return _cut_above(label, lambda top: top / 8 if top >= 250 else 1)


def _cut_above(label: Volume, choose_cut: Callable[[float], float]) -> np.ndarray:
    in_alpha, label = is_drawn_in_alpha(label), drop_even_alpha(label)
    found = allocate_array(label.shape, bool)
    blocks = [*slabs(label.shape)]
    top = max(float(read_brightness(label, block, in_alpha=in_alpha).max()) for block in blocks)
    cut = choose_cut(top)
    for block in blocks:
        found[block] = top > 0 and read_brightness(label, block, in_alpha=in_alpha) >= min(cut, top)
        release(found)
    return found


def _encode_two(label: Volume, meaning: LabelPlan, read: Callable[[Slices], np.ndarray], cut: float) -> np.ndarray:
    indices = allocate_array(label.shape, np.uint8)
    for slices in slabs(label.shape):
        block = read(slices)
        indices[slices] = block >= cut
        if meaning.ignore is not None:
            indices[slices][block == meaning.ignore] = ignored_index(2)
        release(indices)
    return indices


def _collect_whole(label: Volume, meaning: LabelPlan, in_alpha: bool, where: str | Path) -> np.ndarray:
    """Collect the numbers of a label; fractions are refused."""
    if label.array.dtype.kind in "iu" and label.channels == 1 and label.alpha is None and not meaning.inverted:
        stored: np.ndarray = label.array[0]
        return stored
    whole: np.ndarray | None = None
    for slices in slabs(label.shape):
        block = read_numbers(label, slices, meaning.inverted, in_alpha)
        if block.dtype.kind == "f" and not (np.isfinite(block) & (block == np.rint(block))).all():
            got, action = "label values that are not whole numbers", 'Use `data.labels="binary"` if it is a mask.'
            raise DataError(Problem(str(where), got, "whole numbers, one for each class", action, topic="values"))
        if whole is None:
            whole = allocate_array(label.shape, np.int64 if block.dtype.kind == "f" else block.dtype)
        whole[slices] = block
        release(whole)
    assert whole is not None
    return whole


def _encode_colors(label: Volume, classes: Classes, meaning: LabelPlan) -> np.ndarray:
    """Give each voxel the class of the nearest color; transparent voxels are background."""
    indices = allocate_array(label.shape, index_type(len(classes.names)))
    for slices in slabs(label.shape):
        colors, places = np.unique(read_colors(label, slices), return_inverse=True)
        indices[slices] = nearest_classes(colors, meaning)[places].reshape(indices[slices].shape)
        if label.alpha is not None:
            indices[slices][~is_visible(label, slices)] = 0
    return indices


def nearest_classes(colors: Iterable[int], meaning: LabelPlan) -> np.ndarray:
    """Find the class of the nearest color of the table, for each of some packed colors."""
    table = [*meaning.colors] if meaning.colors else []
    if not table:
        action = "Give label images, or name the color of each class: `data.labels`."
        raise DataError(Problem("labels", "colors, and no table of their classes", "a color for each class", action))
    codes = np.arange(len(table))
    if meaning.ignore is not None:
        table.append(tuple(unpack_colors(np.asarray(meaning.ignore)).tolist()))
        codes = np.append(codes, ignored_index(len(codes)))
    known, packed = np.asarray(table, dtype=np.int64), np.asarray([*colors], dtype=np.int64)
    found = np.empty(len(packed), np.intp)
    for start in range(0, len(packed), _COLORS_AT_ONCE):
        some = unpack_colors(packed[start : start + _COLORS_AT_ONCE])
        distances = ((some[:, None] - known[None]) ** 2).sum(axis=-1)
        found[start : start + _COLORS_AT_ONCE] = codes[distances.argmin(axis=1)]
    return found


def _encode_segments(label: Volume, classes: Classes, where: str | Path) -> np.ndarray:
    """Give each voxel the class that has the name of its segment; of overlapping layers the last counts."""
    index = {name: place for place, name in enumerate(classes.names)}
    indices = allocate_array(label.shape, index_type(len(classes.names)), zeros=True)
    for layer, channel in enumerate(label.array):
        names = names_by_value(label.segments, layer)
        if foreign := sorted({*names.values()} - {*index}):
            raise DataError(Problem(str(where), f"the segment {foreign[0]}", ", ".join(index), "Declare the class."))
        places = {value: index[name] for value, name in names.items() if value}
        values = tuple(places)
        lookup = Classes(tuple(names[value] for value in values), values)
        for slices in slabs(label.shape):
            block = channel[slices]
            marked = block != 0
            if marked.any():
                found = lookup.encode(block[marked], where)
                indices[slices][marked] = np.asarray(list(places.values()))[found]
            release(indices)
    return indices


def _encode_channels(label: Volume, classes: Classes, where: str | Path) -> np.ndarray:
    """Give each voxel the class of its channel; one channel more is that of the background."""
    first = len(classes.names) - label.channels
    if first not in (0, 1):
        got, expected = f"{label.channels} channels", f"{len(classes.names) - 1}, one for each class"
        raise DataError(Problem(str(where), got, expected, "Give all labels the same channels."))
    indices = allocate_array(label.shape, index_type(len(classes.names)), zeros=True)
    for number, channel in enumerate(label.array, start=first):
        for slices in slabs(label.shape):
            indices[slices][channel[slices] != 0] = number
            release(indices)
    return indices
