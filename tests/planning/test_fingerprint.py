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


def _write_volumes(folder: Path, codes: str, shape: tuple[int, ...], zooms: tuple[float, ...], name: str) -> None:
    for part in ("images", "labels"):
        (folder / part).mkdir(exist_ok=True)
        array = np.zeros(shape, np.uint8)
        array[2:4, 2:4, 2:4] = 1
        image = nibabel.Nifti1Image(array, np.diag([*zooms, 1.0]))
        turn = nibabel.orientations.axcodes2ornt(codes)
        nibabel.save(image.as_reoriented(turn), folder / part / f"{name}.nii.gz")


def test_sizes_of_volumes_are_those_along_the_axes_of_the_body(tmp_path: Path) -> None:
    for name, codes in (("a", "RAS"), ("b", "PIR"), ("c", "LSA")):
        _write_volumes(tmp_path, codes, (6, 8, 12), (1.0, 2.0, 3.0), name)
    dataset = find_cases(tmp_path)
    inspection = inspect_dataset(dataset)
    found = make_fingerprint(dataset, inspection)
    assert (found.orientation, found.without_orientation, found.spacing_varies) == ("RAS", 0, False)
    assert found.median_shape == found.smallest_shape == found.largest_shape == (12, 8, 6)
    assert found.median_spacing_mm == found.smallest_spacing_mm == found.largest_spacing_mm == (3.0, 2.0, 1.0)
    assert found.file_channels == (1,)
    assert found.channels[0].levels is not None and found.channels[0].levels.high[1] == 1
    as_stored = make_fingerprint(dataset, inspection, may_turn=False)
    assert (as_stored.orientation, as_stored.spacing_varies) == (None, True)


@pytest.mark.parametrize("size", [0.0, 999.0])
def test_volumes_of_three_voxels_with_any_voxel_size_are_described(size: float, tmp_path: Path) -> None:
    """A class that is missing in most of them is kept."""
    for number in range(6):
        for part in ("images", "labels"):
            (tmp_path / part).mkdir(exist_ok=True)
            array = np.full((3, 3, 3), number + 1, np.uint8)
            if part == "labels":
                array[:] = 0
                array[1, 1, 1], array[0, 0, 0] = 1, 2 if number == 0 else 0
            image = nibabel.Nifti1Image(array, None)
            image.header["pixdim"][1:4] = size
            nibabel.save(image, tmp_path / part / f"{number}.nii")
    dataset = find_cases(tmp_path)
    inspection = inspect_dataset(dataset)
    assert not inspection.problems
    found = make_fingerprint(dataset, inspection)
    assert found.median_shape == (3, 3, 3)
    assert found.median_spacing_mm in (None, (size or 1.0,) * 3)
    assert len(found.classes) == 3 and 0 < found.class_fractions[2] < found.class_fractions[1]


def test_how_much_of_the_images_is_empty_and_the_finer_voxels_are_told(tmp_path: Path) -> None:
    for name, thickness in (("a", 2.0), ("b", 3.0), ("c", 4.0)):
        _write_volumes(tmp_path, "RAS", (10, 10, 10), (1.0, 1.0, thickness), name)
    dataset = find_cases(tmp_path)
    found = make_fingerprint(dataset, inspect_dataset(dataset))
    assert found.inside == pytest.approx(0.008)
    assert found.median_spacing_mm == (3.0, 1.0, 1.0)
    assert found.fine_spacing_mm == pytest.approx((2.2, 1.0, 1.0))
    assert found.channels[0].standardized_inside is not None
    assert found.channels[0].standardized_inside.low == (0, 0)
