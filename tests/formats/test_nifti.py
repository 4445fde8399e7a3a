from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from tests.data.images import OBLIQUE, RNG, SOLID, problem_of, write_nifti, write_oblique_nifti
from unetpp.formats.readers import read_image, read_label
from unetpp.formats.writers import write_segmentation


def test_nifti_axes_are_reversed_and_spacing_with_them(tmp_path: Path) -> None:
    stored = RNG.integers(0, 99, (4, 5, 6)).astype(np.int16)
    volume = read_image(write_nifti(tmp_path / "a.nii.gz", stored))
    np.testing.assert_array_equal(volume.array[0], stored.T)
    assert volume.geometry.spacing_mm == (1.0, 2.0, 3.0)
    assert volume.geometry.suffix == ".nii.gz"
    assert volume.array.dtype == np.int16


def test_nifti_channels_come_first(tmp_path: Path) -> None:
    stored = RNG.integers(0, 99, (4, 5, 6, 2)).astype(np.float32)
    volume = read_image(write_nifti(tmp_path / "a.nii", stored))
    assert volume.array.shape == (2, 6, 5, 4)
    np.testing.assert_array_equal(volume.array[1], stored[..., 1].T)


def test_nifti_units_become_millimetres(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.diag([500.0, 500.0, 2000.0, 1.0]))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "a.nii")
    assert read_image(tmp_path / "a.nii").geometry.spacing_mm == pytest.approx((2.0, 0.5, 0.5))


def test_numbers_that_are_no_intensities(tmp_path: Path) -> None:
    assert "complex64" in problem_of(read_image, write_nifti(tmp_path / "a.nii", np.zeros((2, 2, 2), np.complex64))).got


@pytest.mark.parametrize("image_class", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("channels", [1, 3])
def test_nifti_grid_is_identical(tmp_path: Path, image_class: Any, suffix: str, channels: int) -> None:
    stored = RNG.normal(size=(6, 5, 4) if channels == 1 else (6, 5, 4, channels)).astype(np.float32)
    path = write_oblique_nifti(tmp_path / f"image{suffix}", stored, image_class)
    write_segmentation(SOLID, read_image(path).geometry, tmp_path / f"out{suffix}")
    before, after = nibabel.load(path), nibabel.load(tmp_path / f"out{suffix}")
    assert type(before) is type(after)
    assert after.shape == (6, 5, 4)
    np.testing.assert_array_equal(before.affine, after.affine)
    np.testing.assert_array_equal(before.get_qform(), after.get_qform())
    assert before.header.get_zooms()[:3] == after.header.get_zooms()
    for key in ("sform_code", "qform_code", "xyzt_units"):
        assert before.header[key] == after.header[key]
    assert after.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asanyarray(after.dataobj), SOLID.T)


def test_scaling_of_the_image_does_not_reach_its_classes(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((6, 5, 4), np.int16), OBLIQUE)
    image.header.set_slope_inter(2.5, -1024)
    nibabel.save(image, tmp_path / "image.nii.gz")
    write_segmentation(SOLID, read_image(tmp_path / "image.nii.gz").geometry, tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(read_label(tmp_path / "out.nii.gz").array[0], SOLID)


@pytest.mark.realdata
def test_real_volumes_come_back_on_their_grid(real_data: Path, tmp_path: Path) -> None:
    for path in sorted((real_data / "hippocampus/imagesTr").iterdir())[:5]:
        image = read_image(path)
        write_segmentation(np.zeros(image.shape, np.uint8), image.geometry, tmp_path / path.name)
        before, after = nibabel.load(path), nibabel.load(tmp_path / path.name)
        assert before.shape == after.shape
        assert before.header.get_zooms() == after.header.get_zooms()
        np.testing.assert_array_equal(before.affine, after.affine)
