"""The grid on which the page shows an image: axes x, y, z to the right, the front and the head, and the way back.

A viewer that gets voxels in this order has nothing to turn: what is painted there comes back with an affine of ours,
and is placed by that affine alone, whatever the file's axes are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

from unetpp.errors import DataError, Problem
from unetpp.volume import Geometry

_TOLERANCE = 1e-2
"""Largest distance, in voxels, of a painted voxel from one of the image."""

Box = tuple[tuple[int, int], ...]
"""(start, stop) along x, y, z."""


@dataclass(frozen=True, eq=False)
class DisplayGrid:
    """How the voxels of a file lie on the page.

    Args:
        spatial: shape of the file, (Z, Y, X) or (Y, X).
        file_affine: 4 x 4, from voxel (x, y, z) of the file to RAS+.
    """

    spatial: tuple[int, ...]
    file_affine: np.ndarray

    @classmethod
    def of(cls, spatial: Sequence[int], geometry: Geometry) -> DisplayGrid:
        """Make the grid of a file. Without a place, rows run down and planes towards the head, as pictures do."""
        if geometry.affine is not None:
            return cls(tuple(spatial), np.asarray(geometry.affine, dtype=float))
        steps = [*reversed(geometry.spacing_mm or (1.0,) * len(spatial)), 1.0][:3]
        return cls(tuple(spatial), np.diag([steps[0], -steps[1], steps[2], 1.0]))

    @property
    def _file_shape(self) -> tuple[int, int, int]:
        shape = (*self.spatial[::-1], 1)[:3]
        return shape[0], shape[1], shape[2]

    @property
    def _turn(self) -> np.ndarray:
        return np.asarray(io_orientation(self.file_affine))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along x, y, z."""
        found = [0, 0, 0]
        for size, (axis, _) in zip(self._file_shape, self._turn, strict=True):
            found[int(axis)] = size
        return found[0], found[1], found[2]

    @property
    def affine(self) -> np.ndarray:
        """4 x 4, from voxel (x, y, z) of the page to RAS+."""
        return np.asarray(self.file_affine @ inv_ornt_aff(self._turn, self._file_shape))

    def turn(self, block: np.ndarray) -> np.ndarray:
        """Turn an array of the file, or a block of it, (*spatial) to (x, y, z)."""
        xyz = block.transpose().reshape((*block.shape[::-1], 1)[:3])
        turned: np.ndarray = apply_orientation(xyz, self._turn)
        return turned

    def locate(self, box: Box) -> tuple[slice, ...]:
        """Find the block of the file, one slice for each spatial axis, that a box of the page shows."""
        slices = []
        for size, (axis, flip) in zip(self._file_shape, self._turn, strict=True):
            start, stop = box[int(axis)]
            slices.append(slice(start, stop) if flip > 0 else slice(size - stop, size - start))
        return tuple(slices[: len(self.spatial)][::-1])

    def find_shown(self, block: tuple[slice, ...]) -> Box:
        """Find the box of the page that shows a block of the file: the inverse of `locate`."""
        parts = [(part.start, part.stop) for part in (*block[::-1], slice(0, 1))[:3]]
        box = [(0, 0)] * 3
        for (start, stop), size, (axis, flip) in zip(parts, self._file_shape, self._turn, strict=True):
            box[int(axis)] = (start, stop) if flip > 0 else (size - stop, size - start)
        return tuple(box)

    def find_voxel(self, point: Sequence[float], affine: np.ndarray) -> tuple[int, ...]:
        """Find the voxel of the file, one number for each spatial axis, in which a voxel of another grid lies.

        Args:
            point: x, y, z.
            affine: 4 x 4, from voxels of that grid to RAS+.
        """
        place = np.linalg.inv(self.file_affine) @ affine @ [*point, 1.0]
        limits = np.asarray(self._file_shape) - 1
        xyz = np.clip(np.rint(place[:3]), 0, limits).astype(int)
        return tuple(int(each) for each in xyz[: len(self.spatial)][::-1])

    def move(self, box: Box) -> np.ndarray:
        """Return the affine of a box of the page."""
        moved = self.affine.copy()
        moved[:3, 3] += moved[:3, :3] @ [start for start, _ in box]
        return moved

    def place(self, painted: np.ndarray, affine: np.ndarray, where: str) -> tuple[tuple[slice, ...], np.ndarray]:
        """Place painted voxels on the file by their affine.

        Args:
            painted: (x, y, z), of the whole image or a box of it.
            affine: 4 x 4, from its voxels to RAS+.
            where: the image, for errors.

        Returns:
            The block of the file, and the values for it, (*spatial).

        Raises:
            DataError: voxels that are none of the image.
        """
        move = np.linalg.inv(self.file_affine) @ affine
        steps, start = np.rint(move[:3, :3]).astype(int), np.rint(move[:3, 3]).astype(int)
        single = (np.abs(steps).sum(axis=0) == 1).all() and (np.abs(steps).sum(axis=1) == 1).all()
        ends = move[:3, :3] @ (np.asarray(painted.shape) - 1) + move[:3, 3]
        exact = steps @ (np.asarray(painted.shape) - 1) + start
        off = max(np.abs(ends - exact).max(), np.abs(move[:3, 3] - start).max())
        low, high = np.minimum(start, exact), np.maximum(start, exact) + 1
        if not single or not off < _TOLERANCE or (low < 0).any() or (high > self._file_shape).any():
            got = f"strokes on another grid ({' x '.join(map(str, painted.shape))} voxels)"
            raise DataError(Problem(where, got, "voxels of this image", "Load the image again, and paint there."))
        axes = [int(np.flatnonzero(steps[axis])[0]) for axis in range(3)]
        turned = painted.transpose(axes)
        turned = turned[tuple(slice(None, None, int(steps[axis, axes[axis]])) for axis in range(3))]
        slices = tuple(slice(int(first), int(last)) for first, last in zip(low, high, strict=True))
        count = len(self.spatial)
        flat = turned if count == 3 else turned[:, :, 0]
        return slices[:count][::-1], flat.transpose()
