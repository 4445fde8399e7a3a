from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.data.images import OBLIQUE, RNG, SOLID, problem_of
from unetpp.formats.readers import read_grid, read_image, read_label
from unetpp.formats.writers import output_suffix, write_segmentation


@pytest.mark.parametrize("suffix", [".mgz", ".mgh"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32])
def test_freesurfer_volumes_are_read_as_nibabel_does(tmp_path: Path, suffix: str, kind: type) -> None:
    stored = RNG.integers(0, 99, (6, 5, 4)).astype(kind)
    path = tmp_path / f"a{suffix}"
    image = nibabel.MGHImage(stored, OBLIQUE)
    nibabel.save(image, path)
    volume = read_image(path)
    np.testing.assert_array_equal(volume.array[0], stored.T)
    np.testing.assert_allclose(volume.geometry.affine, image.header.get_affine())
    assert volume.array.dtype == np.dtype(kind)
    assert read_grid(path)[0] == (4, 5, 6)


def test_segmentations_become_nifti_on_the_same_grid(tmp_path: Path) -> None:
    nibabel.save(nibabel.MGHImage(RNG.normal(size=(6, 5, 4)).astype(np.float32), OBLIQUE), tmp_path / "a.mgz")
    geometry = read_image(tmp_path / "a.mgz").geometry
    assert output_suffix(geometry) == ".nii.gz"
    write_segmentation(SOLID, geometry, tmp_path / "out.nii.gz")
    found = read_label(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(found.array[0], SOLID)
    assert found.geometry.matches(geometry)


def test_a_renamed_file_is_no_mgh(tmp_path: Path) -> None:
    (tmp_path / "a.mgz").write_bytes(b"text" * 200)
    assert "no MGH header" in problem_of(read_image, tmp_path / "a.mgz").got
