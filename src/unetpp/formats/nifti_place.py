"""Where a NIfTI header places its voxels. A header may state it three times (sform, qform, pixdim), and not agree."""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import numpy as np

from unetpp.formats.format import FileRefused

_LARGEST_MM = 1e9
_QUATERNION = 1e-3
"""Largest rounding of a quaternion's length: ITK and FSL accept any, nibabel 4e-7."""


class Place(NamedTuple):
    """Place of the voxels, in millimeters."""

    affine: np.ndarray
    """The place that counts, as nibabel chooses: sform, else qform, else a default."""
    others: tuple[np.ndarray, ...]
    """Places that other programs read from the same header."""
    is_placed: bool
    sizes: tuple[float, float, float]
    """Distance between voxels along x, y, z."""
    notes: tuple[str, ...]


def find_place(header: Any, unit: float) -> Place:
    """Find the place of the voxels.

    Args:
        header: a NIfTI header of nibabel; zero and negative sizes in it are corrected.
        unit: millimeters of one unit of the header.

    Raises:
        ValueError: the one place that it states cannot be read.
    """
    pixdim = header["pixdim"][1:4].astype(np.float64) * unit
    header["pixdim"][1:4] = np.where(pixdim == 0, 1, np.abs(header["pixdim"][1:4]))
    header.quaternion_threshold = _QUATERNION
    scale = np.diag([unit] * 3 + [1.0])
    coded = {name: scale @ affine for name, affine in _find_coded(header).items()}
    base = scale @ header.get_base_affine()
    notes: tuple[str, ...] = ()
    if not coded:
        spacing = np.abs(np.diag(base)[:3])
        in_itk = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
        if not pixdim.all():
            notes = ("the header states no voxel size (pixdim is 0); taken as 1 mm",)
        return Place(base, (in_itk,), False, _to_sizes(spacing), notes)
    (name, affine), *rest = coded.items()
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    sizes, notes = _compare_sizes(name, steps, np.abs(pixdim))
    for other, place in rest:
        if distance_of_places(affine, place, header.get_data_shape()[:3]) > 0.5 * steps.min():
            notes += (f"the header has two places, and {other} differs from {name}; {name} counts",)
    return Place(affine, tuple(place for _, place in rest), True, _to_sizes(sizes), notes)


def distance_of_places(first: np.ndarray, second: np.ndarray, shape: tuple[int, ...]) -> float:
    """Compute how far the corners of a grid of `shape` (x, y, z) move between two places, in their unit."""
    corners = np.array([(*corner, 1) for corner in product(*((0, size - 1) for size in shape))], dtype=np.float64)
    corners = np.column_stack([corners[:, :-1], np.zeros((len(corners), 3 - len(shape))), corners[:, -1]])
    return float(np.linalg.norm(corners @ (first - second).T, axis=1).max())


def _find_coded(header: Any) -> dict[str, np.ndarray]:
    """Find the places that have a code and can be used, the one that counts first."""
    coded = {}
    if int(header["sform_code"]) != 0:
        coded["sform"] = header.get_sform()
    if int(header["qform_code"]) != 0:
        try:
            coded["qform"] = header.get_qform()
        except Exception as error:  # a quaternion that is none
            if not _usable(coded.get("sform", np.zeros((4, 4)))):
                raise ValueError(f"its qform is no rotation: {error}") from error
    return {name: affine for name, affine in coded.items() if _usable(affine)}


def _usable(affine: np.ndarray) -> bool:
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.isfinite(affine).all() and np.isfinite(directions).all()) and abs(np.linalg.det(directions)) > 1e-6


def _compare_sizes(name: str, steps: np.ndarray, pixdim: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the voxel sizes of the affine; those of pixdim where they are the same but for rounding."""
    stated = pixdim > 0
    if (pixdim[stated] > _LARGEST_MM).any():
        got = f"voxels of {_format(pixdim)} mm in pixdim"
        raise FileRefused(got, f"voxels of less than {_LARGEST_MM:g} mm", "Correct the header of the file.")
    if stated.all() and np.allclose(pixdim, steps, rtol=1e-3, atol=0):
        return pixdim, ()
    if np.allclose(pixdim[stated], steps[stated], rtol=0.01, atol=0):
        return steps, ()
    text = "the header has two voxel sizes: {} mm in {}, which counts, and {} mm in pixdim"
    return steps, (text.format(_format(steps), name, _format(pixdim)),)


def _format(sizes: np.ndarray) -> str:
    return " x ".join(f"{size:.4g}" for size in sizes)


def _to_sizes(sizes: np.ndarray) -> tuple[float, float, float]:
    x, y, z = (float(size) for size in sizes)
    return x, y, z
