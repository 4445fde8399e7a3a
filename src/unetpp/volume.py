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
    other_affines: tuple[np.ndarray, ...] = ()
    """Further places that the header states, or that another library reads from it: a label may lie at any of them."""
    is_placed: bool = True
    """Whether the header states place and orientation; False: `affine` is a default of the format."""
    notes: tuple[str, ...] = ()
    """Remarks of the reader, without the name of the file: equal remarks on many files become one line."""

    def matches(self, other: Geometry, tolerance: float = 0.01) -> bool:
        """Tell whether two grids are equal, to `tolerance` of a voxel; one without millimeters matches any."""
        unit = tolerance * min((*(self.spacing_mm or ()), *(other.spacing_mm or ()), np.inf))
        if self.affine is not None and other.affine is not None:
            return bool(np.allclose(self.affine, other.affine, rtol=0, atol=unit))
        if self.spacing_mm is not None and other.spacing_mm is not None:
            same_dims = len(self.spacing_mm) == len(other.spacing_mm)
            return same_dims and bool(np.allclose(self.spacing_mm, other.spacing_mm, rtol=0, atol=unit))
        return True


@dataclass(frozen=True)
class Segment:
    """A named segment of a segmentation file (3D Slicer)."""

    name: str
    value: int
    """Value of its voxels."""
    layer: int = 0
    """Channel that holds it; segments of different channels may overlap."""


@dataclass(frozen=True, eq=False)
class Volume:
    """An image or a label: array (C, *spatial) in the file's number type, and its geometry."""

    array: np.ndarray
    geometry: Geometry
    palette: np.ndarray | None = None
    """Labels: colors (n, 3) uint8 of the indices in `array`; None: it holds no indices."""
    alpha: np.ndarray | None = None
    """Labels: transparency (*spatial) that was taken off, 0 where nothing was drawn."""
    is_inverted: bool = False
    """Labels: the file says that 0 is white."""
    segments: tuple[Segment, ...] = ()
    """Labels: segments that the header names."""

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


def find_box(mask: np.ndarray) -> tuple[slice, ...] | None:
    """Find the smallest box around the voxels of a mask (*spatial); None for an empty one."""
    box = []
    for axis in range(mask.ndim):
        used = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if not used.size:
            return None
        box.append(slice(int(used[0]), int(used[-1]) + 1))
    return tuple(box)
