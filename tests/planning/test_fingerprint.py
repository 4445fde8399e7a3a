"""Numbers that describe a data set."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from unetpp.data.inspect import inspect_dataset
from unetpp.layouts.cases import find_cases
from unetpp.planning.fingerprint import make_fingerprint


def test_voxels_of_a_microscope_keep_their_size(tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        for number in range(2):
            array = np.zeros((6, 7, 8), np.uint8)
            array[2:4, 2:4, 2:4] = 1
            nibabel.save(
                nibabel.Nifti1Image(array, np.diag([0.00016, 0.00016, 0.00004, 1])),
                tmp_path / folder / f"{number}.nii.gz",
            )
    dataset = find_cases(tmp_path)
    found = make_fingerprint(dataset, inspect_dataset(dataset))
    assert found.median_spacing_mm == pytest.approx((0.00004, 0.00016, 0.00016), rel=1e-5)
