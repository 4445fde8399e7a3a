"""An image in memory and where its voxels lie. Axis order is always (C, *spatial), spatial = (Z, Y, X) or (Y, X)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where the voxels of a file lie, and what a writer needs to put others onto the same grid."""

    suffix: str = ".tif"
    """Format of the file, as `formats.suffix_of` gives it."""
    spacing_mm: tuple[float, ...] | None = None
    """Distance between voxels along each spatial axis; None where the format has no millimetres."""
    affine: np.ndarray | None = None
    """4 x 4: voxel index (x, y, z) to millimetres, axes to the right, front and top (RAS+, as NIfTI has it)."""
    header: Any = None
    """What else the format says about the grid; only its own reader and writer look inside."""

    def matches(self, other: Geometry, tolerance: float = 0.01) -> bool:
        """Whether two files lie on the same grid, to `tolerance` of a voxel; a file without millimetres fits any."""
        unit = tolerance * min((*(self.spacing_mm or ()), *(other.spacing_mm or ()), np.inf))
        if self.affine is not None and other.affine is not None:
            return bool(np.allclose(self.affine, other.affine, rtol=0, atol=unit))
        if self.spacing_mm is not None and other.spacing_mm is not None:
            same_dims = len(self.spacing_mm) == len(other.spacing_mm)
            return same_dims and bool(np.allclose(self.spacing_mm, other.spacing_mm, rtol=0, atol=unit))
        return True


@dataclass(frozen=True, eq=False)
class Volume:
    """An image or a label: array (C, *spatial) in the file's number type, and its geometry."""

    array: np.ndarray
    geometry: Geometry

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each spatial axis."""
        return self.array.shape[1:]

    @property
    def dims(self) -> int:
        return self.array.ndim - 1

    @property
    def channels(self) -> int:
        return len(self.array)
