"""Strokes of a person: painted voxels with their classes and our affine, as a request brings them."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, Field

from unetpp.errors import DataError, Problem

Run = tuple[int, int, int]
"""(first voxel, number of voxels, class index); voxels are counted along x, then y, then z."""
MOST_VOXELS = 2**28


class Correction(BaseModel):
    """A corrected segmentation: what was painted, over what was predicted or over nothing."""

    size: str | None = Field(None, max_length=40)
    """Size whose segmentation was painted over; null: the largest."""
    shape: tuple[
        Annotated[int, Field(ge=1, le=2**20)],
        Annotated[int, Field(ge=1, le=2**20)],
        Annotated[int, Field(ge=1, le=2**20)],
    ]
    """Voxels along x, y, z of the grid that was painted on: of the whole image or a box of it."""
    affine: Annotated[
        list[Annotated[list[float], Field(min_length=4, max_length=4)]], Field(min_length=4, max_length=4)
    ]
    """4 x 4, from voxel (x, y, z) of that grid to millimeters (RAS+)."""
    runs: list[Run] = Field(max_length=5_000_000)
    """Painted voxels."""
    unpainted: Literal["predicted", "unsaid"] = "predicted"
    """Whether the rest is right as it was predicted, or nobody says what it is."""

    def draw(self, num_classes: int, where: str) -> tuple[np.ndarray, np.ndarray]:
        """Draw the strokes.

        Args:
            num_classes: of the model, background included.
            where: the image, for errors.

        Returns:
            Class index of each painted voxel, -1 elsewhere, (x, y, z) int16; and the affine.

        Raises:
            DataError: runs outside the grid, or of other classes.
        """
        size = int(np.prod(self.shape, dtype=np.int64))
        runs = np.asarray(self.runs, dtype=np.int64).reshape(-1, 3)
        affine = np.asarray(self.affine, dtype=float)
        starts, lengths, classes = runs.T
        inside = (starts >= 0) & (lengths > 0) & (lengths <= size) & (starts <= size - lengths)
        known = (classes >= 0) & (classes < num_classes)
        if size > MOST_VOXELS or not (inside & known).all() or not _is_place(affine):
            got = "strokes outside the image, or of a class that the model does not have"
            expected = f"voxels of the image, and classes 0 to {num_classes - 1}"
            raise DataError(Problem(where, got, expected, "Load the image again, and paint there."))
        painted = np.full(size, -1, np.int16)
        for start, length, index in runs.tolist():
            painted[start : start + length] = index
        return painted.reshape(self.shape, order="F"), affine


def find_runs(classes: np.ndarray) -> list[Run]:
    """Write class indices (x, y, z) as runs, without those below 0: the inverse of `Correction.draw`."""
    flat = classes.reshape(-1, order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    starts = np.concatenate([[0], edges])
    lengths = np.diff(np.concatenate([starts, [flat.size]]))
    values = flat[starts]
    return [
        (int(start), int(length), int(value))
        for start, length, value in zip(starts, lengths, values, strict=True)
        if value >= 0
    ]


def _is_place(affine: np.ndarray) -> bool:
    if not np.isfinite(affine).all() or not np.array_equal(affine[3], [0, 0, 0, 1]):
        return False
    return bool(abs(np.linalg.det(affine[:3, :3])) > 1e-12)
