"""File names: which suffix stands for which format, and what is left of a name without it."""

from __future__ import annotations

from pathlib import Path

RASTER_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
TIFF_SUFFIXES = (".tif", ".tiff", ".ome.tif", ".ome.tiff")
NIFTI_SUFFIXES = (".nii", ".nii.gz")
ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
IMAGE_SUFFIXES = RASTER_SUFFIXES + TIFF_SUFFIXES + NIFTI_SUFFIXES + ITK_SUFFIXES

_LONGEST_FIRST = sorted(IMAGE_SUFFIXES, key=len, reverse=True)


def suffix_of(path: Path) -> str:
    """The format's suffix in lower case, `.nii.gz` in one piece; of an unknown format, what follows the last dot."""
    name = path.name.lower()
    return next((suffix for suffix in _LONGEST_FIRST if name.endswith(suffix) and name != suffix), path.suffix.lower())


def stem_of(path: Path) -> str:
    """The name without the suffix of `suffix_of`: it pairs images with labels and predictions."""
    return path.name[: len(path.name) - len(suffix_of(path))]


def is_image(path: Path) -> bool:
    """True for a name that this package reads; hidden files, such as the `._a.png` of macOS, are none."""
    return suffix_of(path) in IMAGE_SUFFIXES and not path.name.startswith(".")


def is_medical(path: Path) -> bool:
    """True for the formats that say where in a body their voxels lie."""
    return suffix_of(path) in NIFTI_SUFFIXES + ITK_SUFFIXES
