from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from unetpp.data import scratch
from unetpp.data.readers import read_image, read_label
from unetpp.data.volume import Geometry
from unetpp.data.writers import map_suffix, output_suffix, write_map, write_segmentation
from unetpp.errors import UsageError, WriteError

RNG = np.random.default_rng(0)
FLAT = RNG.integers(0, 4, (6, 9), dtype=np.uint8)
SOLID = RNG.integers(0, 4, (4, 5, 6), dtype=np.uint8)
OBLIQUE = np.array([[0.0, -1.9, 0.3, 5.123456], [1.5, 0.0, 0.1, -7.1], [0.2, 0.1, 3.0, 9.9], [0.0, 0.0, 0.0, 1.0]])


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".jpg", ".ome.tif"])
def test_classes_come_back_as_they_were_written(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(FLAT).save(tmp_path / "image.png")
    geometry = Geometry(suffix)
    path = tmp_path / f"out{output_suffix(geometry)}"
    write_segmentation(FLAT, geometry, path)
    np.testing.assert_array_equal(read_label(path).array[0], FLAT)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_more_than_255_classes(tmp_path: Path, suffix: str) -> None:
    many = np.arange(54, dtype=np.uint16).reshape(6, 9) * 100
    write_segmentation(many, Geometry(suffix), tmp_path / f"out{suffix}")
    np.testing.assert_array_equal(read_label(tmp_path / f"out{suffix}").array[0], many)


def nifti(path: Path, array: np.ndarray, image_class: Any = nibabel.Nifti1Image) -> Path:
    image = image_class(array, OBLIQUE)
    image.set_qform(OBLIQUE @ np.diag([1, 1, 1, 1.0]), code=1, strip_shears=True)
    image.set_sform(OBLIQUE, code=2)
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("image_class", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("channels", [1, 3])
def test_nifti_grid_is_identical(tmp_path: Path, image_class: Any, suffix: str, channels: int) -> None:
    stored = RNG.normal(size=(6, 5, 4) if channels == 1 else (6, 5, 4, channels)).astype(np.float32)
    path = nifti(tmp_path / f"image{suffix}", stored, image_class)
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


@pytest.mark.parametrize(
    ("suffix", "expected"), [(".nrrd", ".nrrd"), (".mha", ".mha"), (".mhd", ".mha"), (".nhdr", ".nrrd")]
)
def test_itk_grid_is_identical(tmp_path: Path, suffix: str, expected: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    sitk.WriteImage(
        sitk.ReadImage(nifti(tmp_path / "a.nii", np.zeros((6, 5, 4), np.float32))), tmp_path / f"image{suffix}"
    )
    geometry = read_image(tmp_path / f"image{suffix}").geometry
    assert output_suffix(geometry) == expected
    write_segmentation(SOLID, geometry, tmp_path / f"out{expected}")
    before, after = sitk.ReadImage(tmp_path / f"image{suffix}"), sitk.ReadImage(tmp_path / f"out{expected}")
    assert before.GetSpacing() == pytest.approx(after.GetSpacing(), rel=1e-14)  # NRRD stores spacing times direction
    assert before.GetOrigin() == after.GetOrigin()
    assert before.GetDirection() == pytest.approx(after.GetDirection(), rel=1e-14)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(after), SOLID)


def test_tiff_keeps_resolution_and_distance_of_planes(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "image.tif",
        SOLID,
        imagej=True,
        resolution=(4, 4),
        metadata={"spacing": 2.5, "unit": "um", "axes": "ZYX"},
    )
    write_segmentation(SOLID, read_image(tmp_path / "image.tif").geometry, tmp_path / "out.tif")
    with tifffile.TiffFile(tmp_path / "out.tif") as out:
        assert out.imagej_metadata["spacing"] == 2.5
        assert out.pages.first.resolution == (4.0, 4.0)
    np.testing.assert_array_equal(read_label(tmp_path / "out.tif").array[0], SOLID)


@pytest.mark.parametrize("planes", [2, 3, 4])
def test_a_tiff_volume_of_few_planes_stays_a_volume(tmp_path: Path, planes: int) -> None:
    write_segmentation(SOLID[:planes], Geometry(".tif"), tmp_path / "out.tif")
    assert read_label(tmp_path / "out.tif").array.shape == (1, planes, 5, 6)


def test_png_keeps_its_resolution(tmp_path: Path) -> None:
    Image.fromarray(FLAT).save(tmp_path / "image.png", dpi=(300, 300))
    write_segmentation(FLAT, read_image(tmp_path / "image.png").geometry, tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as out:
        assert out.info["dpi"] == pytest.approx((300, 300), abs=0.1)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_large_segmentation_is_written_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, dtype: type
) -> None:
    monkeypatch.setattr(scratch, "LARGE", 10)
    segmentation = scratch.new_array((700, 1100), dtype)
    segmentation[:] = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, segmentation.shape)
    header = (300, 300) if suffix == ".png" else {"resolution": (300, 300), "resolutionunit": 2}
    write_segmentation(segmentation, Geometry(suffix, header=header), tmp_path / f"a{suffix}")
    found = read_label(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(found.array[0], segmentation)
    if suffix == ".png":
        assert found.geometry.header == pytest.approx((300, 300), rel=1e-3)
    else:
        assert found.geometry.header["resolution"] == (300, 300)


@pytest.mark.parametrize(
    ("suffix", "expected"),
    [(".png", ".tif"), (".jpg", ".tif"), (".tiff", ".tif"), (".nii.gz", ".nii.gz"), (".mhd", ".mha")],
)
def test_maps_keep_their_fractions(tmp_path: Path, suffix: str, expected: str) -> None:
    if expected == ".mha":
        pytest.importorskip("SimpleITK")
    values = RNG.random((4, 5, 6) if "." + expected[1:] in (".nii.gz", ".mha") else (5, 6))
    geometry = Geometry(suffix, affine=np.eye(4))
    assert map_suffix(geometry) == expected
    write_map(values, geometry, tmp_path / f"out{expected}")
    np.testing.assert_array_equal(read_image(tmp_path / f"out{expected}").array[0], values.astype(np.float32))


def test_another_suffix_than_the_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected '.png'"):
        write_segmentation(FLAT, Geometry(".jpg"), tmp_path / "out.jpg")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".nii.gz", ".mha"])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if suffix == ".mha":
        pytest.importorskip("SimpleITK")
    array = SOLID if suffix in (".nii.gz", ".mha") else FLAT
    path = tmp_path / f"out{suffix}"
    path.write_bytes(b"precious")

    def full(handle: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="No space left"):
        write_segmentation(array, Geometry(suffix, affine=np.eye(4)), path)
    assert path.read_bytes() == b"precious"
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.realdata
def test_real_volumes_come_back_on_their_grid(real_data: Path, tmp_path: Path) -> None:
    for path in sorted((real_data / "hippocampus/imagesTr").iterdir())[:5]:
        image = read_image(path)
        write_segmentation(np.zeros(image.shape, np.uint8), image.geometry, tmp_path / path.name)
        before, after = nibabel.load(path), nibabel.load(tmp_path / path.name)
        assert before.shape == after.shape
        assert before.header.get_zooms() == after.header.get_zooms()
        np.testing.assert_array_equal(before.affine, after.affine)
