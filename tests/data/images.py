"""Small arrays and files that several tests of reading and writing share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from unetpp.errors import DataError, Problem

RNG = np.random.default_rng(0)
GRAY = RNG.integers(0, 255, (6, 9), dtype=np.uint8)
RGB = RNG.integers(0, 255, (6, 9, 3), dtype=np.uint8)
FLAT = RNG.integers(0, 4, (6, 9), dtype=np.uint8)
SOLID = RNG.integers(0, 4, (4, 5, 6), dtype=np.uint8)
OBLIQUE = np.array([[0.0, -1.9, 0.3, 5.123456], [1.5, 0.0, 0.1, -7.1], [0.2, 0.1, 3.0, 9.9], [0.0, 0.0, 0.0, 1.0]])


def problem_of(read: Callable[[Path], object], path: Path) -> Problem:
    with pytest.raises(DataError) as caught:
        read(path)
    (problem,) = caught.value.problems
    assert str(path) in problem.where
    return problem


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, np.diag([3.0, 2.0, 1.0, 1.0]) if affine is None else affine), path)
    return path


def write_oblique_nifti(path: Path, array: np.ndarray, image_class: Any = nibabel.Nifti1Image) -> Path:
    image = image_class(array, OBLIQUE)
    image.set_qform(OBLIQUE @ np.diag([1, 1, 1, 1.0]), code=1, strip_shears=True)
    image.set_sform(OBLIQUE, code=2)
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)
    return path
