"""Images in memory and their geometry. Axis order is always (C, *spatial), spatial = (Z, Y, X) or (Y, X)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Geometry:
    """Position of the voxels of a file in space; a writer needs it to write another array on the same grid."""

    suffix: str = ".tif"
    """Suffix of the file, as `formats.suffix_of` returns it."""
    spacing_mm: tuple[float, ...] | None = None
    """Distance between voxels along each spatial axis; None: the format has no millimeters."""
    affine: np.ndarray | None = None
    """4 x 4 matrix from voxel index (x, y, z) to millimeters in RAS+ (right, anterior, superior), as in NIfTI."""
    header: Any = None
    """Header of the format, read only by its own reader and writer."""

    def matches(self, other: Geometry, tolerance: float = 0.01) -> bool:
        """Tell whether two grids are equal, to `tolerance` of a voxel; one without millimeters matches any."""
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
        """Number of spatial axes."""
        return self.array.ndim - 1

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.array)
