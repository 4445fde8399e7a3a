"""Tiles of images that no browser holds: cut here, in bounded memory, from the file and its segmentation."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageColor

from unetpp import labels
from unetpp.formats.readers import open_image
from unetpp.formats.sources import ImageSource
from unetpp.infer.overlay import find_outlines
from unetpp.serve.job import Job, View
from unetpp.serve.problems import Refused
from unetpp.serve.views import is_color, measure_window, require_channel

if TYPE_CHECKING:
    from unetpp.serve.state import ServerState

TILE = 512
OPEN_FILES = 6
"""Files that are kept open: some formats are decompressed when they are opened."""
OVERVIEW = 2048
"""Pixels of the longest side of the overview from which the coarse tiles are cut."""
SLAB_PIXELS = 2**24
SURE = 0.02
"""Entropy up to which a map of doubt shows nothing."""
_INFERNO = [(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)]
"""Colors of that map of matplotlib at 0, 1/4, 1/2, 3/4 and 1."""


@dataclass(frozen=True)
class TileStyle:
    """How a tile is drawn."""

    size: str | None
    classes: str | None
    """Indices of the classes that are shown; None: all."""
    outlines: bool
    low: float | None
    """Intensities shown as black and white; None: by percentiles."""
    high: float | None
    channel: int = 0
    """That is shown of an image that is not in colors."""


@dataclass(frozen=True, eq=False)
class _Opened:
    source: ImageSource
    overview: np.ndarray
    """(C, rows, columns), every `step` pixels."""
    step: int
    """A power of two, as those of the levels: coarser ones are cut from the overview."""
    windows: dict[int, tuple[float, float]] = field(default_factory=dict)
    """Of the channels that were shown."""

    def find_window(self, channel: int) -> tuple[float, float]:
        """Find the intensities of a channel that are shown as black and white; raises Refused."""
        if channel not in self.windows:
            self.windows[channel] = (0.0, 255.0) if is_color(self.source) else measure_window(self.source, channel)
        return self.windows[channel]


class TileCache:
    """Draws tiles, and keeps some files open."""

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._opened: OrderedDict[tuple[str, str], _Opened] = OrderedDict()
        self._lock = threading.Lock()
        self._opening: dict[tuple[str, str], threading.Lock] = {}

    def draw(self, job: Job, view: View, layer: str, level: int, column: int, row: int, style: TileStyle) -> bytes:
        """Draw a tile as PNG.

        Raises:
            Refused: no such layer, tile or channel, or no map of doubt.
        """
        width, height = view.shape[0], view.shape[1]
        levels = max(1, (max(width, height) - 1).bit_length())
        step = 2 ** (levels - level) if 0 <= level <= levels else 0  # no power of a number that anyone may send
        top, left = row * TILE * step, column * TILE * step
        if not (view.shape[2] == 1 and step and 0 <= top < height and 0 <= left < width):
            expected = f"levels 0 to {levels} of a plane of {width} x {height} pixels, within them"
            raise Refused(404, "tile", f"tile {column}_{row} of level {level}"[:80], expected, "")
        if layer == "image":
            opened = self._open((job.id, layer), lambda: self._state.open_image(job))
            return _encode(_draw_image(_cut(opened, top, left, step), opened, style))
        if layer not in ("labels", "doubt"):
            raise Refused(404, "layer", repr(layer[:40]), "image, labels or doubt", "Choose one of them.")
        found = self._state.require_size(job, style.size)
        if layer == "doubt":
            path = self._state.require_file(job, found.uncertainty, "uncertainty")
            opened = self._open((job.id, str(path)), lambda: open_image(path))
            return _encode(_draw_doubt(_cut(opened, top, left, step)[0]))
        path = self._state.require_file(job, found.file, "result")
        opened = self._open((job.id, str(path)), lambda: open_image(path))
        known = labels.make_labels(self._state.data_of(job))
        indices = known.encode(_cut(opened, top, left, step)[0], path)
        colors = [entry.color for entry in self._state.shelf.card(job.model).classes]
        return _encode(_draw_labels(indices, colors, style))

    def find_window(self, job: Job, view: View, channel: int) -> tuple[float, float]:
        """Find the intensities of a channel that are shown as black and white; raises Refused."""
        if view.kind != "large image":
            return measure_window(self._state.open_image(job), channel)
        return self._open((job.id, "image"), lambda: self._state.open_image(job)).find_window(channel)

    def open_source(self, job: Job, view: View, path: Path | None = None) -> ImageSource:
        """Open the image of a job, or a file of its results; those of large images stay open, as for their tiles."""

        def open_source() -> ImageSource:
            return self._state.open_image(job) if path is None else open_image(path)

        key = job.id, "image" if path is None else str(path)
        return self._open(key, open_source).source if view.kind == "large image" else open_source()

    def _open(self, key: tuple[str, str], open_source: Callable[[], ImageSource]) -> _Opened:
        with self._lock:
            opening = self._opening.setdefault(key, threading.Lock())
        with opening:  # others wait for this file alone
            with self._lock:
                found = self._opened.get(key)
            found = found or _open_overview(open_source())
            with self._lock:
                self._opening.pop(key, None)
                self._opened[key] = found
                self._opened.move_to_end(key)
                while len(self._opened) > OPEN_FILES:
                    self._opened.popitem(last=False)
            return found


def _open_overview(source: ImageSource) -> _Opened:
    step = 2 ** (-(-max(source.shape[1:]) // OVERVIEW) - 1).bit_length()
    return _Opened(source, _read_every(source, step), step)


def _read_every(source: ImageSource, step: int) -> np.ndarray:
    """Read every so many pixels, in slabs of bounded memory."""
    rows, columns = source.shape[1:]
    count = max(step, SLAB_PIXELS // max(1, columns) // step * step)
    parts = [
        source.read((slice(row, min(rows, row + count)), slice(0, columns)))[:, ::step, ::step].copy()
        for row in range(0, rows, count)
    ]
    return np.concatenate(parts, axis=1)


def _cut(opened: _Opened, top: int, left: int, step: int) -> np.ndarray:
    """Cut a tile (C, rows, columns): from the overview where that is as fine, else from the file."""
    if step >= opened.step > 1:
        every, first, start = step // opened.step, top // opened.step, left // opened.step
        return opened.overview[:, first : first + TILE * every : every, start : start + TILE * every : every]
    rows, columns = opened.source.shape[1:]
    bottom, right = min(rows, top + TILE * step), min(columns, left + TILE * step)
    count = max(step, SLAB_PIXELS // max(1, right - left) // step * step)
    parts = [
        opened.source.read((slice(row, min(bottom, row + count)), slice(left, right)))[:, ::step, ::step]
        for row in range(top, bottom, count)
    ]
    return np.concatenate(parts, axis=1)


def _draw_image(pixels: np.ndarray, opened: _Opened, style: TileStyle) -> Image.Image:
    if is_color(opened.source) and style.low is None:
        return Image.fromarray(np.ascontiguousarray(np.moveaxis(pixels, 0, -1)))
    require_channel(opened.source, style.channel)
    low, high = style.low, style.high
    if low is None or high is None:
        window = opened.find_window(style.channel)
        low, high = window[0] if low is None else low, window[1] if high is None else high
    shown = pixels if is_color(opened.source) else pixels[style.channel : style.channel + 1]
    scaled = 255 * np.clip((shown.astype(np.float32) - low) / max(high - low, 1e-9), 0, 1)
    found = np.moveaxis(np.rint(np.nan_to_num(scaled)).astype(np.uint8), 0, -1)
    return Image.fromarray(np.ascontiguousarray(found if found.shape[-1] == 3 else found[..., 0]))


def _draw_doubt(values: np.ndarray) -> Image.Image:
    """Draw entropies, 0 to 1, in the colors that the viewer of volumes has for them; what is sure is clear."""
    shown = np.clip(np.nan_to_num(values), 0, 1)
    picture = np.empty((*shown.shape, 4), np.uint8)
    for number, shades in enumerate(zip(*_INFERNO, strict=True)):
        picture[..., number] = np.interp(shown, np.linspace(0, 1, len(shades)), shades)
    picture[..., 3] = np.where(shown > SURE, 255, 0)
    return Image.fromarray(picture, "RGBA")


def _draw_labels(indices: np.ndarray, colors: list[str], style: TileStyle) -> Image.Image:
    table = np.zeros((int(np.iinfo(indices.dtype).max) + 1, 4), np.uint8)
    shown = _read_classes(style.classes, len(colors))
    for index in shown:
        table[index] = (*ImageColor.getrgb(colors[index])[:3], 255)
    picture = table[indices]
    if style.outlines:
        picture[~find_outlines(np.where(np.isin(indices, shown), indices, 0))] = 0
    return Image.fromarray(picture, "RGBA")


def _read_classes(text: str | None, count: int) -> list[int]:
    if text is None:
        return list(range(1, count))
    numbers = [int(each) for each in text.split(",") if each.isdecimal() and len(each) < 6]
    return [number for number in numbers if 0 < number < count]


def _encode(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=1)
    return stream.getvalue()
