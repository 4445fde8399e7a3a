from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.data.images import SOLID, write_nifti, write_oblique_nifti
from unetpp.errors import MissingExtraError
from unetpp.formats.readers import read_image
from unetpp.formats.writers import output_suffix, write_segmentation


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd"])
def test_itk_and_nifti_agree_on_where_voxels_lie(tmp_path: Path, suffix: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    affine = np.array([[0.0, -2.0, 0.0, 5.0], [1.5, 0.0, 0.0, -7.0], [0.0, 0.0, 3.0, 9.0], [0.0, 0.0, 0.0, 1.0]])
    nifti = read_image(write_nifti(tmp_path / "a.nii.gz", np.arange(24, dtype=np.int16).reshape(2, 3, 4), affine))
    sitk.WriteImage(sitk.ReadImage(tmp_path / "a.nii.gz"), tmp_path / f"b{suffix}")
    other = read_image(tmp_path / f"b{suffix}")
    np.testing.assert_array_equal(other.array, nifti.array)
    assert other.geometry.spacing_mm == pytest.approx(nifti.geometry.spacing_mm)
    assert other.geometry.matches(nifti.geometry)


def test_itk_vectors_are_channels(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6, 2), np.float32), isVector=True), tmp_path / "a.mha")
    assert read_image(tmp_path / "a.mha").array.shape == (2, 4, 5, 6)


def test_without_simpleitk_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.nrrd").write_text("NRRD0004\n")
    monkeypatch.setitem(__import__("sys").modules, "SimpleITK", None)
    with pytest.raises(MissingExtraError, match=r"unetpp\[medical\]"):
        read_image(tmp_path / "a.nrrd")


@pytest.mark.parametrize(
    ("suffix", "expected"), [(".nrrd", ".nrrd"), (".mha", ".mha"), (".mhd", ".mha"), (".nhdr", ".nrrd")]
)
def test_itk_grid_is_identical(tmp_path: Path, suffix: str, expected: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    sitk.WriteImage(
        sitk.ReadImage(write_oblique_nifti(tmp_path / "a.nii", np.zeros((6, 5, 4), np.float32))),
        tmp_path / f"image{suffix}",
    )
    geometry = read_image(tmp_path / f"image{suffix}").geometry
    assert output_suffix(geometry) == expected
    write_segmentation(SOLID, geometry, tmp_path / f"out{expected}")
    before, after = sitk.ReadImage(tmp_path / f"image{suffix}"), sitk.ReadImage(tmp_path / f"out{expected}")
    assert before.GetSpacing() == pytest.approx(after.GetSpacing(), rel=1e-14)  # NRRD stores spacing times direction
    assert before.GetOrigin() == after.GetOrigin()
    assert before.GetDirection() == pytest.approx(after.GetDirection(), rel=1e-14)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(after), SOLID)
