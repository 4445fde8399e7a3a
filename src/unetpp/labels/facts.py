"""What one label file shows: its numbers, colors and outlines, in bounded size, measured in slabs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import numpy as np

from unetpp.labels.outlines import Outlines, find_thin_values, measure_blend, measure_outlines
from unetpp.labels.pieces import Pieces, count_pieces, join_pieces
from unetpp.labels.views import (
    Slices,
    drop_even_alpha,
    is_colored,
    is_drawn_in_alpha,
    pack_colors,
    read_brightness,
    read_colors,
    read_numbers,
    round_colors,
    round_nearly,
)
from unetpp.slabs import slabs
from unetpp.volume import Segment, Volume

_Key = TypeVar("_Key", int, str)
MAX_VALUES = 4096
"""Largest number of values that are counted one by one."""
_FEW, _MANY = 8, 40
"""A picture has more values than `_MANY`, and the commonest `_FEW` colors cover less than half of it."""
NOISE_FROM = 64
"""Only labels that reach this value (or have fractions) may be masks with gray outlines."""


@dataclass(frozen=True)
class LabelFacts:
    """What one label file shows. Values are whole numbers; fractions are in `outlines` alone."""

    voxels: int
    counts: Mapping[int, int]
    """Voxels of each whole number as stored, at most `MAX_VALUES` of them."""
    lowest: float
    highest: float
    overflows: bool = False
    """More values than `MAX_VALUES`."""
    fractions: int = 0
    """Voxels that are not whole numbers."""
    undefined: int = 0
    """Voxels that are NaN or infinite."""
    colors: Mapping[int, int] = field(default_factory=dict)
    """Voxels of each packed color, of color images and palettes; else empty."""
    is_color: bool = False
    """The file holds colors, not numbers."""
    many_colors: bool = False
    """More colors than `MAX_VALUES`."""
    palette: Mapping[int, int] = field(default_factory=dict)
    """Packed color of each index that occurs."""
    in_alpha: bool = False
    """The mask is the transparency: `counts` are those of it."""
    is_inverted: bool = False
    """The header says that 0 is white."""
    white: int = 255
    """Highest number of the file's type, which stands for 0 where numbers are inverted."""
    bright_border: float = 0.0
    """Fraction of the voxels at the borders of the image that are above half of the highest value."""
    outlines: Outlines | None = None
    """Where the values between dark and bright lie; None: there are none."""
    thin: frozenset[int] = frozenset()
    """Whole numbers, or packed colors, that cover no area: hardly a voxel has neighbors of its own value."""
    blend: tuple[int, int] = (0, 0)
    """Steps of 2 or more between neighbors: direct ones, and those with one voxel of a number between."""
    pieces: Pieces | None = None
    """Whether each value is one connected piece; None: not looked at."""
    segments: Mapping[str, int] = field(default_factory=dict)
    """Voxels of each segment that the header names."""
    unnamed: int = 0
    """Voxels of values that no segment of the header has."""
    channels: tuple[int, ...] = ()
    """Voxels set in each channel, for one channel for each class."""
    overlap: int = 0
    """Voxels in several channels, or in several segments."""
    uncovered: int = 0
    """Voxels in no channel."""
    notes: tuple[str, ...] = ()
    """Remarks of the reader."""

    @property
    def values(self) -> set[int]:
        """Whole numbers that occur."""
        return set(self.counts)

    @property
    def is_picture(self) -> bool:
        """Whether the file is an image rather than a label: many values or colors, in no areas, on no background."""
        counts = self.colors or self.counts
        most = sorted(counts.values())[-_FEW:]
        if self.is_color:
            return self.many_colors or (len(counts) > _MANY and sum(most) < self.voxels / 2)
        scattered = self.pieces is not None and self.pieces.single < self.pieces.looked_at / 2
        commonest = max(counts, key=lambda value: counts[value], default=0)
        return len(counts) > _MANY and scattered and commonest not in (0, self.lowest, self.highest)

    def look_through_palette(self) -> Mapping[int, int]:
        """Count the voxels by brightness."""
        if not self.palette:
            return self.counts
        found: Counter[int] = Counter()
        for index, count in self.counts.items():
            color = self.palette[index]
            found[max(color >> 16, color >> 8 & 255, color & 255)] += count
        return dict(sorted(found.items()))


def measure_label(label: Volume, is_medical: bool = False, closely: bool = True) -> LabelFacts:
    """Measure a label.

    Args:
        label: the label as its file stores it.
        is_medical: its format stores places in space; three channels are then no colors, numbers no objects.
        closely: also look at outlines and pieces; False: its meaning is known.

    Returns:
        What it shows.
    """
    label = drop_even_alpha(label)
    if label.segments:
        return _measure_segments(label)
    if label.channels > 1 and (is_medical or label.channels != 3):
        return _measure_channels(label)
    in_alpha = is_drawn_in_alpha(label)
    is_color = is_colored(label) and not in_alpha
    numbers = _count_numbers(label, in_alpha)
    found = LabelFacts(
        voxels=int(np.prod(label.shape)),
        **vars(numbers),
        is_color=is_color,
        in_alpha=in_alpha,
        is_inverted=label.is_inverted,
        white=int(np.iinfo(label.array.dtype).max) if label.array.dtype.kind == "u" else 255,
        bright_border=_measure_border(label, numbers.highest),
        notes=label.geometry.notes,
    )
    if (label.palette is not None or is_color) and not in_alpha:
        found = _add_colors(found, label)
    if is_color and closely and len(found.colors) > 2:
        thin = find_thin_values(lambda slices: round_colors(read_colors(label, slices)), label.shape, 0.25)
        rounded = round_colors(np.asarray([*found.colors])).tolist()
        pairs = zip(found.colors, rounded, strict=True)
        found = replace(found, thin=frozenset(color for color, near in pairs if near in thin))
    return found if is_color or numbers.undefined else _look_closely(found, label, closely, closely and not is_medical)


def _add_colors(found: LabelFacts, label: Volume) -> LabelFacts:
    colors, many = _count(label, lambda slices: read_colors(label, slices))
    palette = {}
    if label.palette is not None:
        table = pack_colors(label.palette)
        palette = {value: int(table[min(value, len(table) - 1)]) for value in found.counts}
    return replace(found, colors=colors, many_colors=many, palette=palette)


def _look_closely(found: LabelFacts, label: Volume, at_outlines: bool, at_pieces: bool) -> LabelFacts:
    """Add outlines where values may be gray, and pieces where they may be numbers of objects."""
    brightest, several = 255 if found.palette else found.highest, len(found.counts) > 2
    is_continuous = found.fractions > 0 or found.overflows
    if found.highest > 0 and (is_continuous or (at_outlines and several and brightest >= NOISE_FROM)):
        read = partial(read_brightness, label, in_alpha=found.in_alpha)
        found = replace(found, outlines=measure_outlines(read, label.shape))
        if not (is_continuous or found.palette):
            found = replace(found, thin=find_thin_values(read, label.shape))
    if at_pieces and several and not (is_continuous or found.palette or found.in_alpha):
        found = replace(found, pieces=count_pieces(round_nearly(label.array[0]), found.counts))
        if found.lowest >= 0 and found.highest < NOISE_FROM:
            read = partial(read_numbers, label)
            found = replace(found, blend=measure_blend(read, label.shape, find_thin_values(read, label.shape)))
    return found


def join_facts(parts: Sequence[LabelFacts]) -> LabelFacts:
    """Join what the parts of one file show."""
    if len(parts) == 1:
        return parts[0]
    looked_at = [part.outlines for part in parts if part.outlines is not None]
    return replace(
        parts[0],
        voxels=sum(part.voxels for part in parts),
        counts=_add_counts(part.counts for part in parts),
        lowest=min(part.lowest for part in parts),
        highest=max(part.highest for part in parts),
        overflows=any(part.overflows for part in parts),
        fractions=sum(part.fractions for part in parts),
        undefined=sum(part.undefined for part in parts),
        colors=_add_counts(part.colors for part in parts),
        many_colors=any(part.many_colors for part in parts),
        palette={index: color for part in parts for index, color in part.palette.items()},
        outlines=max(looked_at, key=lambda each: each.voxels, default=None),
        thin=frozenset.intersection(*(part.thin for part in parts)),
        blend=(sum(part.blend[0] for part in parts), sum(part.blend[1] for part in parts)),
        pieces=join_pieces([part.pieces for part in parts if part.pieces is not None]),
        segments=_add_counts(part.segments for part in parts),
        unnamed=sum(part.unnamed for part in parts),
        channels=tuple(map(sum, zip(*(part.channels for part in parts), strict=True))),
        overlap=sum(part.overlap for part in parts),
        uncovered=sum(part.uncovered for part in parts),
    )


def _add_counts(parts: Iterable[Mapping[_Key, int]]) -> dict[_Key, int]:
    total: Counter[_Key] = Counter()
    for part in parts:
        total.update(part)
    return dict(sorted(total.items()))


@dataclass
class _Numbers:
    counts: dict[int, int]
    lowest: float
    highest: float
    overflows: bool
    fractions: int
    undefined: int


def _count_numbers(label: Volume, in_alpha: bool) -> _Numbers:
    found = _Numbers({}, np.inf, -np.inf, False, 0, 0)

    def read(slices: Slices) -> np.ndarray:
        block = read_numbers(label, slices, in_alpha=in_alpha)
        if block.dtype.kind == "f":
            finite = np.isfinite(block)
            found.undefined += int(block.size - np.count_nonzero(finite))
            whole = finite & (block == np.rint(block)) & (np.abs(block) < 2**62)
            found.fractions += int(np.count_nonzero(finite & ~whole))
            _widen(found, block[finite])
            numbers: np.ndarray = block[whole].astype(np.int64)
            return numbers
        _widen(found, block)
        return block

    found.counts, found.overflows = _count(label, read)
    return found


def _widen(found: _Numbers, block: np.ndarray) -> None:
    if block.size:
        found.lowest, found.highest = min(found.lowest, float(block.min())), max(found.highest, float(block.max()))


def _count(label: Volume, read: Callable[[Slices], np.ndarray]) -> tuple[dict[int, int], bool]:
    """Count the voxels of each value, slab by slab, up to `MAX_VALUES`."""
    counts: Counter[int] = Counter()
    overflows = False
    for slices in slabs(label.shape):
        values, numbers = count_block(read(slices))
        if len(values) > MAX_VALUES:
            overflows = True
            values, numbers = values[:MAX_VALUES], numbers[:MAX_VALUES]
        counts.update(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
        if len(counts) > MAX_VALUES:
            overflows = True
            counts = Counter(dict(counts.most_common(MAX_VALUES)))
    return dict(sorted(counts.items())), overflows


def count_block(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of an integer array and the number of voxels of each."""
    flat = block.reshape(-1)
    if flat.dtype in (np.uint8, np.uint16) or (flat.size and flat.min() >= 0 and flat.max() < 2**16):
        numbers = np.bincount(flat.astype(np.intp, copy=False))
        values = np.flatnonzero(numbers)
        return values, numbers[values]
    found, counts = np.unique(flat, return_counts=True)
    return found, counts


def _measure_border(label: Volume, highest: float) -> float:
    """Measure how much of the outermost rows and columns is bright."""
    array = label.array[0]
    edges = [array[..., index, :].reshape(-1) for index in (0, -1)]
    edges += [array[..., index].reshape(-1) for index in (0, -1)]
    return float(np.mean(np.concatenate(edges) > highest / 2))


def _measure_segments(label: Volume) -> LabelFacts:
    """Count the voxels of each named segment of each layer."""
    voxels, unnamed, overlap = dict.fromkeys((segment.name for segment in label.segments), 0), 0, 0
    lowest, highest = np.inf, -np.inf
    for slices in slabs(label.shape):
        marked = np.zeros(label.array[0][slices].shape, np.uint8)
        for layer, channel in enumerate(label.array):
            block = channel[slices]
            lowest, highest = min(lowest, float(block.min())), max(highest, float(block.max()))
            names = names_by_value(label.segments, layer)
            for value, count in zip(*(part.tolist() for part in count_block(block)), strict=True):
                if value in names:
                    voxels[names[value]] += count
                elif value:
                    unnamed += count
            marked += block != 0
        overlap += int(np.count_nonzero(marked > 1))
    counts = {0: 0}
    size, notes = int(np.prod(label.shape)), label.geometry.notes
    return LabelFacts(size, counts, lowest, highest, segments=voxels, unnamed=unnamed, overlap=overlap, notes=notes)


def names_by_value(segments: tuple[Segment, ...], layer: int) -> dict[int, str]:
    """Name the segment of each value in a layer."""
    return {segment.value: segment.name for segment in segments if segment.layer == layer}


def _measure_channels(label: Volume) -> LabelFacts:
    """Count the voxels set in each channel."""
    set_in, overlap, uncovered, wrong = np.zeros(label.channels, np.int64), 0, 0, 0
    lowest, highest = np.inf, -np.inf
    for slices in slabs(label.shape):
        block = label.array[:, *slices]
        lowest, highest = min(lowest, float(block.min())), max(highest, float(block.max()))
        marked = block != 0
        set_in += marked.reshape(label.channels, -1).sum(axis=1)
        times = marked.sum(axis=0)
        overlap, uncovered = overlap + int((times > 1).sum()), uncovered + int((times == 0).sum())
        wrong += int(np.count_nonzero(marked & (block != block.max())))
    size, notes = int(np.prod(label.shape)), label.geometry.notes
    found = tuple(int(count) for count in set_in)
    return LabelFacts(
        size,
        {},
        lowest,
        highest,
        fractions=wrong,
        channels=found,
        overlap=overlap,
        uncovered=uncovered,
        notes=notes,
    )
