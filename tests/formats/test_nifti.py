from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.images import OBLIQUE, RNG, SOLID, problem_of, write_nifti, write_oblique_nifti
from unetpp.errors import DataError
from unetpp.formats.readers import read_grid, read_image, read_label
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


def save(path: Path, array: np.ndarray, sform: np.ndarray | None, qform: np.ndarray | None, **fields: Any) -> Path:
    """Write a NIfTI file whose header states these places."""
    image = nibabel.Nifti1Image(array, np.eye(4))
    image.set_sform(sform, int(sform is not None))
    image.set_qform(qform, int(qform is not None))
    content = bytearray(image.to_bytes())
    header = nibabel.Nifti1Header(bytes(content[:348]), check=False)
    for name, value in fields.items():
        header[name] = value
    content[:348] = header.binaryblock  # as stated, not as nibabel corrects it
    path.write_bytes(bytes(content))
    return path


ARRAY = RNG.integers(0, 99, (6, 5, 4)).astype(np.int16)


def test_voxel_sizes_are_those_of_the_place(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", ARRAY, np.diag([3.0, 3, 3, 1]), None, pixdim=[1, 1, 1, 1, 1, 0, 0, 0])
    geometry = read_image(path).geometry
    assert geometry.spacing_mm == (3, 3, 3)
    assert geometry.notes == (
        "the header has two voxel sizes: 3 x 3 x 3 mm in sform, which counts, and 1 x 1 x 1 mm in pixdim",
    )


def test_a_voxel_size_of_zero_is_none(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path / "a.nii", ARRAY, np.diag([3.0, 3, 3, 1]), None, pixdim=[1, 0, 0, 0, 1, 0, 0, 0])
    assert (read_image(path).geometry.spacing_mm, read_image(path).geometry.notes) == ((3, 3, 3), ())
    path = save(tmp_path / "b.nii", ARRAY, None, None, pixdim=[1, 0, 0, 0, 1, 0, 0, 0])
    assert read_image(path).geometry.notes == ("the header states no voxel size (pixdim is 0); taken as 1 mm",)
    assert capfd.readouterr() == ("", "")


def test_every_stated_place_is_kept(tmp_path: Path) -> None:
    other = np.diag([-2.0, -2, 2, 1])
    geometry = read_image(save(tmp_path / "a.nii", ARRAY, np.diag([2.0, 2, 2, 1]), other)).geometry
    np.testing.assert_array_equal(geometry.affine, np.diag([2.0, 2, 2, 1]))
    np.testing.assert_allclose(geometry.other_affines[0], other)
    assert geometry.notes == ("the header has two places, and qform differs from sform; sform counts",)
    assert geometry.is_placed


def test_a_header_without_codes_is_read_as_itk_does_too(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    path = save(tmp_path / "a.nii", ARRAY, None, None, pixdim=[1, 2, 3, 4, 1, 0, 0, 0])
    geometry = read_image(path).geometry
    assert not geometry.is_placed
    np.testing.assert_array_equal(geometry.affine, nibabel.load(path).affine)
    sitk.WriteImage(sitk.ReadImage(path), tmp_path / "b.nrrd")
    np.testing.assert_allclose(read_image(tmp_path / "b.nrrd").geometry.affine, geometry.other_affines[0])


def test_a_singular_sform_does_not_count(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii", ARRAY, np.diag([2.0, 2, 2, 1]), np.diag([2.0, 2, 2, 1]), srow_x=[0, 0, 0, 0])
    geometry = read_image(path).geometry
    assert geometry.affine is not None
    np.testing.assert_allclose(geometry.affine, np.diag([2.0, 2, 2, 1]))


def test_a_rounded_quaternion_is_read_and_its_result_by_everyone(tmp_path: Path) -> None:
    rounded = {"qform_code": 1, "quatern_b": 0.6000003, "quatern_c": 0.8, "quatern_d": 0}
    path = save(tmp_path / "a.nii", ARRAY, None, np.diag([3.0, 3, 3, 1]), **rounded)
    image = read_image(path)
    write_segmentation(SOLID, image.geometry, tmp_path / "out.nii")
    np.testing.assert_allclose(nibabel.load(tmp_path / "out.nii").affine, image.geometry.affine, atol=1e-5)
    path = save(tmp_path / "b.nii", ARRAY, None, np.diag([3.0, 3, 3, 1]), **rounded | {"quatern_b": 0.9})
    assert "its qform is no rotation" in problem_of(read_image, path).got


@pytest.mark.parametrize("names", [("a.nii", "a.nii.gz"), ("a.nii.gz", "a.nii")])
def test_content_decides_whether_it_is_gzip(tmp_path: Path, names: tuple[str, str]) -> None:
    write_nifti(tmp_path / names[0], ARRAY).rename(tmp_path / names[1])
    volume = read_image(tmp_path / names[1])
    np.testing.assert_array_equal(volume.array[0], ARRAY.T)
    write_segmentation(SOLID, volume.geometry, tmp_path / f"out{volume.geometry.suffix}")
    np.testing.assert_array_equal(read_label(tmp_path / f"out{volume.geometry.suffix}").array[0], SOLID)


@pytest.mark.parametrize("image_class", [nibabel.Nifti1Pair, nibabel.Nifti2Pair, nibabel.Spm2AnalyzeImage])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_pairs_are_named_by_their_header(tmp_path: Path, image_class: Any, ending: str) -> None:
    path = tmp_path / f"a.hdr{ending}"
    image = image_class(ARRAY, np.diag([-3.0, 2, 1, 1]))
    nibabel.save(image, tmp_path / f"a.img{ending}")
    volume = read_image(path)
    np.testing.assert_array_equal(volume.array[0], ARRAY.T)
    np.testing.assert_allclose(volume.geometry.affine, nibabel.load(path).affine)
    write_segmentation(SOLID, volume.geometry, tmp_path / "out.nii.gz")
    np.testing.assert_allclose(nibabel.load(tmp_path / "out.nii.gz").affine, nibabel.load(path).affine)
    (tmp_path / f"a.img{ending}").unlink()
    assert problem_of(read_image, path).got == "a header without its voxels"


def test_a_whole_file_is_not_called_truncated(tmp_path: Path) -> None:
    found = [
        problem_of(read_image, write_nifti(tmp_path / "a.nii", np.zeros((2, 2, 2), np.complex64))),
        problem_of(read_image, write_nifti(tmp_path / "b.nii", np.zeros((2, 2, 2, 3, 2), np.uint8))),
        problem_of(read_image, save(tmp_path / "c.nii", ARRAY, np.eye(4), None, intent_code=3001)),
        problem_of(read_image, save(tmp_path / "d.nii", ARRAY, np.eye(4), None, datatype=999)),
    ]
    assert not any("truncated" in str(problem) or "Restore" in str(problem) for problem in found)
    assert "CIFTI" in found[2].got
    assert "2 x 2 x 2 x 3 x 2" in found[1].got
    assert "999" in found[3].got


def test_a_header_is_enough_for_the_grid(tmp_path: Path) -> None:
    path = write_oblique_nifti(tmp_path / "a.nii", np.zeros((6, 5, 4, 2), np.float32))
    image = read_image(path)
    path.write_bytes(path.read_bytes()[:352])
    shape, geometry = read_grid(path)
    assert shape == image.shape
    assert geometry.spacing_mm == image.geometry.spacing_mm


NIBABEL = Path(nibabel.__file__).parent


@pytest.mark.parametrize(
    "path",
    [
        *sorted((NIBABEL / "tests/data").glob("*.nii*")),
        *sorted((NIBABEL / "tests/data").glob("*.hdr")),
        *sorted((NIBABEL / "freesurfer/tests/data").glob("*.mg?")),
    ],
    ids=lambda path: path.name,
)
def test_files_of_nibabel_are_read_as_nibabel_does(path: Path) -> None:
    try:
        volume = read_image(path)
    except DataError as error:
        assert "truncated" not in str(error)
        assert path.suffix == ".hdr" or "CIFTI" in str(error)
        return
    image: Any = nibabel.load(path)
    expected = np.asanyarray(image.dataobj).T
    np.testing.assert_array_equal(
        volume.array, (expected if expected.ndim == 4 else expected[None]).astype(volume.array.dtype)
    )
    np.testing.assert_array_equal(volume.geometry.affine, image.affine)


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"]),
    order=st.sampled_from("<>"),
    slope=st.sampled_from([1.0, 0.5, 3.0]),
    intercept=st.sampled_from([0.0, -1024.0, 0.25]),
    shape=st.sampled_from([(5, 4), (5, 4, 1), (5, 4, 3), (5, 4, 3, 2), (5, 4, 3, 1, 2)]),
    image_class=st.sampled_from([nibabel.Nifti1Image, nibabel.Nifti2Image]),
    packed=st.booleans(),
)
def test_every_number_type_is_read_as_nibabel_does(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    order: str,
    slope: float,
    intercept: float,
    shape: tuple[int, ...],
    image_class: Any,
    packed: bool,
) -> None:
    stored = np.random.default_rng(0).integers(0, 99, shape).astype(kind)
    header = image_class.header_class(endianness=order)
    header.set_data_dtype(kind)
    image = image_class(stored, np.diag([2.0, 2, 3, 1]), header, dtype=kind)
    path = tmp_path_factory.mktemp("kind") / ("a.nii.gz" if packed else "a.nii")
    nibabel.save(image, path)
    content = bytearray(path.read_bytes() if not packed else gzip.decompress(path.read_bytes()))
    own = image_class.header_class(bytes(content[: header.template_dtype.itemsize]), check=False)
    own["scl_slope"], own["scl_inter"] = slope, intercept
    content[: header.template_dtype.itemsize] = own.binaryblock
    path.write_bytes(gzip.compress(bytes(content)) if packed else bytes(content))
    expected = np.asanyarray(nibabel.load(path).dataobj).T
    volume = read_image(path)
    np.testing.assert_allclose(volume.array, expected.reshape(volume.array.shape), rtol=1e-6)
    assert volume.array.dtype.isnative
    if (slope, intercept) == (1, 0):
        assert volume.array.dtype == np.dtype(kind)
    else:
        assert volume.array.dtype in (np.float32, np.float64)
