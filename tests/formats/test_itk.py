from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.data.images import RNG, SOLID, problem_of, write_nifti, write_oblique_nifti
from unetpp.errors import MissingExtraError
from unetpp.formats import formats_by_suffix
from unetpp.formats.readers import read_grid, read_image
from unetpp.formats.writers import output_suffix, write_segmentation
from unetpp.volume import Segment, Volume


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


def test_without_simpleitk_files_are_read_and_the_extra_for_writing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.nrrd").write_bytes(b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n\n01234567")
    monkeypatch.setitem(__import__("sys").modules, "SimpleITK", None)
    image = read_image(tmp_path / "a.nrrd")
    with pytest.raises(MissingExtraError, match=r"unetpp\[medical\]"):
        write_segmentation(image.array[0], image.geometry, tmp_path / "b.nrrd")


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


LAYERS = b"""NRRD0005
type: unsigned char
dimension: 4
space: left-posterior-superior
sizes: 2 6 5 4
space directions: none (1,0,0) (0,1,0) (0,0,2)
kinds: list domain domain domain
encoding: raw
space origin: (1,2,3)
Segment0_LabelValue:=1
Segment0_Layer:=0
Segment0_Name:=right organ
Segment10_LabelValue:=3
Segment10_Layer:=0
Segment2_ID:=Segment_2
Segment2_LabelValue:=1
Segment2_Layer:=1
Segment2_Name:=left organ

"""


def read(path: Path) -> Volume:
    """Read a file as a label, with all its channels."""
    suffix = next(suffix for suffix in (".seg.nrrd", path.suffix) if path.name.endswith(suffix))
    return formats_by_suffix()[suffix].read(path, suffix)


def test_layers_of_slicer_are_channels_with_named_segments(tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    stored = RNG.integers(0, 2, (4, 5, 6, 2), dtype=np.uint8)
    (tmp_path / "a.seg.nrrd").write_bytes(LAYERS + stored.tobytes())
    label = read(tmp_path / "a.seg.nrrd")
    np.testing.assert_array_equal(label.array, np.moveaxis(stored, -1, 0))
    assert label.segments == (Segment("right organ", 1, 0), Segment("left organ", 1, 1), Segment("segment 10", 3, 0))
    np.testing.assert_array_equal(
        label.geometry.affine, np.diag([-1.0, -1, 2, 1]) + [[0, 0, 0, x] for x in (-1, -2, 3, 0)]
    )
    assert label.geometry.suffix == ".seg.nrrd"
    assert output_suffix(label.geometry) == ".nrrd"


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize("vectors", [True, False])
def test_a_fourth_axis_is_channels(tmp_path: Path, suffix: str, vectors: bool) -> None:
    sitk = pytest.importorskip("SimpleITK")
    array = RNG.integers(0, 99, (3, 4, 5, 6)).astype(np.int16)
    image = sitk.GetImageFromArray(np.moveaxis(array, 0, -1) if vectors else array, isVector=vectors)
    sitk.WriteImage(image, tmp_path / f"a{suffix}", True)
    found = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(found.array, array)
    write_segmentation(array[0].astype(np.uint8), found.geometry, tmp_path / f"out{suffix}")
    assert read_image(tmp_path / f"out{suffix}").geometry.matches(found.geometry)
    assert read_grid(tmp_path / f"a{suffix}")[0] == (4, 5, 6)


def test_complex_numbers_are_named(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((4, 5, 6), np.complex64)), tmp_path / "a.nrrd")
    assert "complex numbers" in problem_of(read_image, tmp_path / "a.nrrd").got


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd", ".nhdr"])
def test_a_claim_that_the_file_cannot_hold_is_refused(tmp_path: Path, suffix: str, packed: bool) -> None:
    pytest.importorskip("SimpleITK")
    encoding, data = "gzip" if packed else "raw", "LOCAL" if suffix == ".mha" else "a.raw"
    nrrd = f"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 3000 1000 1000\nencoding: {encoding}\n"
    meta = f"ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = {packed}\n"
    meta += f"DimSize = 3000 1000 1000\nElementType = MET_UCHAR\nElementDataFile = {data}\n"
    header = (
        nrrd + ("data file: a.raw\n" if suffix == ".nhdr" else "") + "\n"
        if "nrrd" in suffix or "nhdr" in suffix
        else meta
    )
    (tmp_path / f"a{suffix}").write_text(header + "x" * 99)
    (tmp_path / "a.raw").write_bytes(bytes(999))
    assert "truncated: its header needs 3,000,000,000 bytes" in problem_of(read_image, tmp_path / f"a{suffix}").got


def test_nrrd_without_a_space_states_no_place(tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    (tmp_path / "a.nrrd").write_bytes(b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n\n01234567")
    assert not read_image(tmp_path / "a.nrrd").geometry.is_placed


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_every_number_type_is_read_as_itk_does(tmp_path: Path, kind: str, suffix: str) -> None:
    sitk = pytest.importorskip("SimpleITK")
    for packed in (True, False):
        sitk.WriteImage(
            sitk.GetImageFromArray(RNG.integers(0, 99, (4, 5, 6)).astype(kind)), tmp_path / f"a{suffix}", packed
        )
        found = read_image(tmp_path / f"a{suffix}").array[0]
        expected = sitk.GetArrayFromImage(sitk.ReadImage(tmp_path / f"a{suffix}"))
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype


@pytest.mark.parametrize(
    ("space", "is_placed"), [("LPS", True), ("right-anterior-superior", True), ("scanner-xyz", False)]
)
def test_axes_of_a_scanner_are_no_orientation(tmp_path: Path, space: str, is_placed: bool) -> None:
    directions = "space directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\n"
    head = f"NRRD0004\ntype: uchar\ndimension: 3\nspace: {space}\nsizes: 4 3 2\n{directions}encoding: raw\n\n"
    (tmp_path / "a.nrrd").write_bytes(head.encode() + bytes(24))
    assert read_image(tmp_path / "a.nrrd").geometry.is_placed == is_placed


@pytest.mark.parametrize("directions", ["", "TransformMatrix = 1 0 0 0 1 0 0 0 1\n"])
def test_metaimage_without_directions_states_no_place(tmp_path: Path, directions: str) -> None:
    fields = f"NDims = 3\nDimSize = 4 3 2\n{directions}ElementType = MET_UCHAR\nElementDataFile = a.raw\n"
    (tmp_path / "a.mhd").write_text("ObjectType = Image\n" + fields)
    (tmp_path / "a.raw").write_bytes(bytes(24))
    assert read_image(tmp_path / "a.mhd").geometry.is_placed == bool(directions)
