"""NRRD and MetaImage, by SimpleITK."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from unetpp.formats.format import Format
from unetpp.volume import Geometry, Volume

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class _Grid:
    """Grid of the file, without rounding."""

    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]


def _read(path: Path, suffix: str) -> Volume:
    import SimpleITK

    image = SimpleITK.ReadImage(str(path))
    array = SimpleITK.GetArrayFromImage(image)
    array = np.moveaxis(array, -1, 0) if image.GetNumberOfComponentsPerPixel() > 1 else array[None]
    grid = _Grid(image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    affine = _compute_affine(grid) if image.GetDimension() == 3 else None
    return Volume(array, Geometry(suffix, tuple(reversed(grid.spacing)), affine, grid))


def _compute_affine(grid: _Grid) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(grid.direction, (3, 3)) * grid.spacing
    affine[:3, 3] = grid.origin
    return _LPS_TO_RAS @ affine


def _write(array: np.ndarray, geometry: Geometry, path: Path) -> None:
    import SimpleITK

    image = SimpleITK.GetImageFromArray(array)
    if isinstance(grid := geometry.header, _Grid):
        image.SetSpacing(grid.spacing)
        image.SetOrigin(grid.origin)
        image.SetDirection(grid.direction)
    try:
        SimpleITK.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:  # such as no space left
        raise OSError(str(error).strip().splitlines()[-1]) from error


_itk = partial(Format, read=_read, write=_write, medical=True, needs=("SimpleITK", "medical"))
# images with a separate header (.nhdr, .mhd): the segmentation is one file
NRRD = _itk("NRRD", (".nrrd", ".nhdr"), written_as={".nhdr": ".nrrd"})
MHA = _itk("MHA", (".mha", ".mhd"), written_as={".mhd": ".mha"})
