"""Outlines of annotated regions, and their pixels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class Outline:
    """One annotated region of an image: rings, or a mask."""

    name: str
    """Name of its class."""
    rings: tuple[np.ndarray, ...] = ()
    """Closed lines (n, 2) of x and y in pixels; the upper left pixel covers 0 to 1. A ring within another is a hole."""
    mask: np.ndarray | None = None
    """Pixels (rows, columns), bool, instead of rings."""
    corner: tuple[int, int] = (0, 0)
    """Row and column of the upper left pixel of `mask`."""


@dataclass(frozen=True, eq=False)
class Annotations:
    """Outlines in one file, of one image or of many."""

    kind: str
    """Name of the format, for messages."""
    images: Mapping[str, tuple[Outline, ...]]
    """Outlines by the file name of the image, as the file has it; "" stands for the image of the same stem."""
    names: tuple[str, ...]
    """Names of all classes, in the order of the file."""
    sizes: Mapping[str, tuple[int, int]]
    """Rows and columns of the images, as far as the file states them."""
    left_out: tuple[str, ...] = ()
    """Kinds of annotations that have no area, such as points and boxes, which are left out."""
    in_fractions: bool = False
    """Points are fractions of the image's width and height, not pixels."""

    def find(self, key: str, shape: tuple[int, int]) -> tuple[Outline, ...]:
        """Return the outlines of an image of this name and these rows and columns, in pixels."""
        if not self.in_fractions:
            return self.images[key]
        size = np.array(shape[::-1])
        return tuple(replace(each, rings=tuple(ring * size for ring in each.rings)) for each in self.images[key])


def rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """Make the ring of a rectangle."""
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=np.float64)


def ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0.0) -> np.ndarray:
    """Make the ring of an ellipse.

    Args:
        x: center.
        y: center.
        radius_x: half of its first axis.
        radius_y: half of its second axis.
        degrees: angle by which it is turned clockwise, as seen on the screen.
    """
    angle, turn = np.linspace(0, 2 * np.pi, 180, endpoint=False), np.deg2rad(degrees)
    first, second = radius_x * np.cos(angle), radius_y * np.sin(angle)
    turned = first * np.cos(turn) - second * np.sin(turn), first * np.sin(turn) + second * np.cos(turn)
    return np.stack([x + turned[0], y + turned[1]], axis=1)


def draw(outlines: Iterable[Outline], values: Mapping[str, int], shape: tuple[int, int]) -> np.ndarray:
    """Draw outlines into a label; later ones lie on top of earlier ones, as annotation programs show them.

    Args:
        outlines: outlines of one image.
        values: label value of each class.
        shape: rows and columns of the image.

    Returns:
        Label values (Y, X), uint8 or uint16; 0 where nothing was drawn.
    """
    label = np.zeros(shape, dtype=np.uint8 if max(values.values(), default=0) < 2**8 else np.uint16)
    for outline in outlines:
        if outline.mask is not None:
            (top, left), (rows, columns) = outline.corner, outline.mask.shape
            place = label[max(0, top) : max(0, top + rows), max(0, left) : max(0, left + columns)]
            part = outline.mask[max(0, -top) :, max(0, -left) :][: place.shape[0], : place.shape[1]]
        else:
            place, part = _fill(outline.rings, label)
        place[part] = values[outline.name]
    return label


def _fill(rings: Sequence[np.ndarray], label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the pixels whose center lies within an odd number of rings.

    Returns:
        A view of the part of the label around the rings, and the pixels to fill in it.
    """
    starts = np.concatenate([*rings, np.empty((0, 2))])
    ends = np.concatenate([*(np.roll(ring, -1, axis=0) for ring in rings), np.empty((0, 2))])
    limits = np.array(label.shape[::-1])
    low, high = (np.clip(np.round(edge), 0, limits).astype(int) for edge in _extent(starts))
    place = label[low[1] : high[1], low[0] : high[0]]
    first, last = (np.sort(np.stack([starts[:, 1], ends[:, 1]]), axis=0) - 0.5).round(9)
    first_row = np.clip(np.ceil(first), low[1], high[1]).astype(int)
    count = np.clip(np.ceil(last), low[1], high[1]).astype(int) - first_row  # rows whose center the edge passes
    edge = np.repeat(np.arange(len(starts)), count)
    row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first_row, count)
    (x, y), (to_x, to_y) = starts[edge].T, ends[edge].T
    crossing = x + (row + 0.5 - y) * (to_x - x) / (to_y - y)
    column = np.clip(np.ceil((crossing - 0.5).round(9)), low[0], high[0]).astype(int) - low[0]
    changes = np.zeros((place.shape[0], place.shape[1] + 1), dtype=np.int32)
    np.add.at(changes, (row - low[1], column), 1)
    return place, np.cumsum(changes[:, :-1], axis=1) % 2 == 1


def _extent(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if not len(points):
        return np.zeros(2), np.zeros(2)
    return np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))
