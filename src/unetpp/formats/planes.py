"""Planes of a volume as images of their own: the slices as they are stored, each with its axes in one order.

Volumes with an orientation may store the rows of a slice from front to back or from back to front. A network of planes
must not notice: right stays right.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import NamedTuple

import numpy as np

from unetpp.formats.sources import ImageSource, Slices
from unetpp.volume import Geometry


class PlaneTurn(NamedTuple):
    """What turns a stored plane (..., Y, X): exchange its two axes, then flip them."""

    exchange: bool = False
    flips: tuple[bool, bool] = (False, False)
    """Of the axes after the exchange."""

    def apply(self, plane: np.ndarray) -> np.ndarray:
        """View a stored plane with its axes turned."""
        return self._flip(plane.swapaxes(-1, -2) if self.exchange else plane)

    def undo(self, plane: np.ndarray) -> np.ndarray:
        """View a turned plane as it is stored."""
        flipped = self._flip(plane)
        return flipped.swapaxes(-1, -2) if self.exchange else flipped

    def _flip(self, plane: np.ndarray) -> np.ndarray:
        rows, columns = (slice(None, None, -1 if flip else 1) for flip in self.flips)
        return plane[..., rows, columns]


AS_STORED = PlaneTurn()


def find_turn(volume: Geometry) -> PlaneTurn:
    """Find what makes the axes of planes run to the right, the front and the head, as the header has them.

    Columns run along the first of these directions that lies in the plane, rows along the other. Planes of a volume
    without an orientation are left as they are.
    """
    if volume.affine is None or not volume.is_placed:
        return AS_STORED
    steps = volume.affine[:3, :2] / np.linalg.norm(volume.affine[:3, :2], axis=0)
    columns, rows = max(permutations(range(3), 2), key=lambda pair: abs(steps[pair[0], 0]) + abs(steps[pair[1], 1]))
    flips = bool(steps[rows, 1] < 0), bool(steps[columns, 0] < 0)
    return PlaneTurn(True, flips[::-1]) if columns > rows else PlaneTurn(False, flips)


def plane_geometry(volume: Geometry) -> Geometry:
    """Return the grid of a plane of a volume: its two voxel sizes, and no place in space."""
    spacing = None if volume.spacing_mm is None else volume.spacing_mm[1:]
    if spacing is not None and find_turn(volume).exchange:
        spacing = spacing[::-1]
    return replace(volume, spacing_mm=spacing, affine=None, header=None, other_affines=(), is_placed=False)


class PlaneSource:
    """One plane (of the first spatial axis) of a volume, as an image of its own."""

    def __init__(self, source: ImageSource, plane: int) -> None:
        self._source, self._plane = source, plane
        self._turn = find_turn(source.geometry)
        self.geometry = plane_geometry(source.geometry)
        sizes = source.shape[2:]
        self.shape = (source.shape[0], *(sizes[::-1] if self._turn.exchange else sizes))
        self.dtype = source.dtype

    def read(self, slices: Slices) -> np.ndarray:
        """Read a block of the plane."""
        spans = [part.indices(size)[:2] for part, size in zip(slices, self.shape[1:], strict=True)]
        stored = [
            slice(size - stop, size - start) if flip else slice(start, stop)
            for (start, stop), size, flip in zip(spans, self.shape[1:], self._turn.flips, strict=True)
        ]
        if self._turn.exchange:
            stored.reverse()
        block = self._source.read((slice(self._plane, self._plane + 1), *stored))[:, 0]
        return np.ascontiguousarray(self._turn.apply(block))
