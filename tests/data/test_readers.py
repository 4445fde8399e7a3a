from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from imagecodecs import png_encode
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.tiny import write_png
from unetpp.data import decoders, png, scratch
from unetpp.data.readers import (
    ArraySource,
    RasterSource,
    open_image,
    open_images,
    read_image,
    read_images,
    read_label,
    read_labels,
)
from unetpp.data.volume import Geometry
from unetpp.errors import DataError, MissingExtraError, Problem

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 255, (6, 9), dtype=np.uint8)
RGB = RNG.integers(0, 255, (6, 9, 3), dtype=np.uint8)
ALPHA = np.full((6, 9, 1), 7, dtype=np.uint8)
EVERYTHING = (slice(None), slice(None))


def problem_of(read: Callable[[Path], object], path: Path) -> Problem:
    with pytest.raises(DataError) as caught:
        read(path)
    (problem,) = caught.value.problems
    assert str(path) in problem.where
    return problem


def write_nifti(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, np.diag([3.0, 2.0, 1.0, 1.0]) if affine is None else affine), path)
    return path


@pytest.mark.parametrize(
    ("name", "stored", "expected"),
    [
        ("grey.png", GREY, GREY[None]),
        ("grey.bmp", GREY, GREY[None]),
        ("grey16.png", GREY.astype(np.uint16) * 200, GREY[None].astype(np.uint16) * 200),
        ("grey.tif", GREY, GREY[None]),
        ("rgb.png", RGB, RGB.transpose(2, 0, 1)),
        ("rgb.tif", RGB, RGB.transpose(2, 0, 1)),
        ("rgba.png", np.concatenate([RGB, ALPHA], axis=2), RGB.transpose(2, 0, 1)),
        ("rgba.tif", np.concatenate([RGB, ALPHA], axis=2), RGB.transpose(2, 0, 1)),
        ("grey_alpha.png", np.concatenate([GREY[..., None], ALPHA], axis=2), GREY[None]),
        ("bits.png", GREY > 99, np.where(GREY > 99, 255, 0).astype(np.uint8)[None]),
    ],
)
def test_pixels_arrive_as_channels_rows_columns(
    tmp_path: Path, name: str, stored: np.ndarray, expected: np.ndarray
) -> None:
    volume = read_image(write_png(tmp_path / name, stored))
    np.testing.assert_array_equal(volume.array, expected)
    assert volume.array.dtype == expected.dtype
    assert (volume.dims, volume.channels, volume.shape) == (2, len(expected), (6, 9))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32, ">u2", ">f4"])
def test_tiff_keeps_its_number_type(tmp_path: Path, dtype: str) -> None:
    stored = (GREY * 3.0).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", stored, byteorder=">" if str(dtype).startswith(">") else "<")
    array = read_image(tmp_path / "a.tif").array
    np.testing.assert_array_equal(array[0], stored)
    assert array.dtype == np.dtype(dtype).newbyteorder("=")


@pytest.mark.parametrize(
    ("shape", "axes", "expected"),
    [
        ((5, 6, 9), "ZYX", (1, 5, 6, 9)),
        ((5, 6, 9), "CYX", (5, 6, 9)),
        ((5, 2, 6, 9), "ZCYX", (2, 5, 6, 9)),
        ((1, 1, 6, 9), "TZYX", (1, 6, 9)),
    ],
)
def test_tiff_axes_become_channels_and_planes(
    tmp_path: Path, shape: tuple[int, ...], axes: str, expected: tuple[int, ...]
) -> None:
    stored = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    tifffile.imwrite(tmp_path / "a.ome.tif", stored, photometric="minisblack", metadata={"axes": axes})
    array = read_image(tmp_path / "a.ome.tif").array
    assert array.shape == expected
    assert array[(-1,) * array.ndim] == stored[(-1,) * stored.ndim]


def test_colours_of_a_tiff_volume(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([RGB, RGB]), photometric="rgb")
    assert read_image(tmp_path / "a.tif").array.shape == (3, 2, 6, 9)


def test_white_is_zero_tiff_is_turned_over(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY, photometric="miniswhite")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").array[0], 255 - GREY)


def test_16_bit_colour_png_keeps_its_16_bits(tmp_path: Path) -> None:
    stored = RGB.astype(np.uint16) * 257 - np.uint16(3) * (RGB > 0)
    (tmp_path / "a.png").write_bytes(png_encode(stored))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").array, stored.transpose(2, 0, 1))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_palette_is_colours_in_an_image_and_numbers_in_a_label(tmp_path: Path, suffix: str) -> None:
    indices = Image.fromarray((GREY % 3).astype(np.uint8)).convert("P")
    indices.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    indices.save(tmp_path / f"a{suffix}", **({"transparency": b"\0\1"} if suffix == ".png" else {}))
    image, label = read_image(tmp_path / f"a{suffix}"), read_label(tmp_path / f"a{suffix}")
    assert image.channels == 3
    np.testing.assert_array_equal(image.array[:, label.array[0] == 1][:, 0], [40, 50, 60])
    np.testing.assert_array_equal(label.array[0], GREY % 3)


def test_a_photograph_is_read_as_its_camera_held_it(tmp_path: Path) -> None:
    photograph = Image.fromarray(RGB)
    exif = photograph.getexif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    photograph.save(tmp_path / "a.jpg", exif=exif)
    assert open_image(tmp_path / "a.jpg").shape == (3, 9, 6)


def test_content_decides_between_formats_whose_suffixes_users_change(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "b.tif", GREY)
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    (tmp_path / "b.tif").rename(tmp_path / "b.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg").array[0], GREY)
    np.testing.assert_array_equal(read_image(tmp_path / "b.png").array[0], GREY)


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


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
def test_blocks_are_parts_of_the_whole(tmp_path: Path, name: str) -> None:
    source = open_image(write_png(tmp_path / name, RGB))
    whole = source.read(EVERYTHING)
    assert (source.shape, source.dtype) == (whole.shape, whole.dtype)
    np.testing.assert_array_equal(source.read((slice(2, 5), slice(3, 9))), whole[:, 2:5, 3:9])
    np.testing.assert_array_equal(source.read((slice(4, 99), slice(None))), whole[:, 4:])


@given(st.integers(0, 6), st.integers(0, 12), st.integers(0, 9), st.integers(0, 12))
def test_any_block_is_what_numpy_cuts(top: int, bottom: int, left: int, right: int) -> None:
    slices = (slice(top, max(top, bottom)), slice(left, max(left, right)))
    whole = RGB.transpose(2, 0, 1)
    for source in (ArraySource(whole, Geometry()), RasterSource(Image.fromarray(RGB), Geometry())):
        np.testing.assert_array_equal(source.read(slices), whole[(slice(None), *slices)])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">", "compression": "deflate"},
        {"compression": "deflate"},
        {"compression": "deflate", "rowsperstrip": 4},
        {"compression": "deflate", "tile": (16, 16)},
        {"planarconfig": "separate", "tile": (16, 16)},
    ],
)
def test_a_large_tiff_is_mapped_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(scratch, "LARGE", 10)
    image = np.random.default_rng(0).integers(
        0, 255, (3, 37, 50) if "planarconfig" in options else (37, 50, 3), dtype=np.uint8
    )
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb", **options)
    source = open_image(tmp_path / "a.tif")
    assert isinstance(source._array, np.memmap)  # type: ignore[attr-defined]
    expected = image if "planarconfig" in options else image.transpose(2, 0, 1)
    np.testing.assert_array_equal(source.read((slice(2, 35), slice(3, 49))), expected[:, 2:35, 3:49])


def test_a_large_volume_is_unpacked_plane_by_plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "LARGE", 10)
    volume = np.arange(3 * 20 * 30, dtype=np.uint16).reshape(3, 20, 30)
    tifffile.imwrite(
        tmp_path / "a.tif", volume, photometric="minisblack", compression="deflate", metadata={"axes": "ZYX"}
    )
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").array[0], volume)


@pytest.mark.parametrize("image", [GREY, RGB, np.dstack([RGB, GREY]), GREY.astype(np.uint16) * 200])
def test_a_large_png_is_unpacked_onto_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: np.ndarray) -> None:
    Image.fromarray(image).save(tmp_path / "a.png", dpi=(200, 200))
    small = open_image(tmp_path / "a.png")
    monkeypatch.setattr(scratch, "LARGE", 10)
    large = open_image(tmp_path / "a.png")
    assert isinstance(large._array, np.memmap)  # type: ignore[attr-defined]
    assert (large.shape, large.dtype, large.geometry.header) == (small.shape, small.dtype, small.geometry.header)
    np.testing.assert_array_equal(large.read((slice(1, 5), slice(3, 9))), small.read((slice(1, 5), slice(3, 9))))


def test_what_cannot_be_read_by_rows_is_left_to_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(GREY).convert("P").save(tmp_path / "palette.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.fromarray(GREY).save(tmp_path / "turned.png", exif=exif)
    packet = PngInfo()
    packet.add_itxt(
        "XML:com.adobe.xmp", '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    )
    Image.fromarray(GREY).save(tmp_path / "packet.png", pnginfo=packet)
    names = ("palette.png", "turned.png", "packet.png")
    expected = [read_image(tmp_path / name).array for name in names]
    assert [array.shape for array in expected] == [(3, 6, 9), (1, 9, 6), (1, 9, 6)]
    monkeypatch.setattr(scratch, "LARGE", 10)
    for name, array in zip(names, expected, strict=True):
        np.testing.assert_array_equal(read_image(tmp_path / name).array, array)


@pytest.mark.parametrize("samples", [2, 3, 4])
def test_a_large_png_of_16_bits_and_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, samples: int) -> None:
    image = np.random.default_rng(0).integers(0, 2**16, (20, 30, samples), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png_encode(image))
    expected = read_image(tmp_path / "a.png").array
    monkeypatch.setattr(scratch, "LARGE", 10)
    monkeypatch.setattr(png, "PIECE", 1000)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").array, expected)


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.95])
def test_a_large_png_that_is_cut_is_one_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: float) -> None:
    monkeypatch.setattr(scratch, "LARGE", 10)
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    assert "truncated" in problem_of(open_image, path).got


@pytest.mark.parametrize("kind", ["bits", "white is zero", "palette", "several files", "missing tiles"])
def test_unusual_tiffs_are_the_same_when_they_are_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    image, path = np.random.default_rng(0).integers(0, 255, (40, 50), dtype=np.uint8), tmp_path / "a.tif"
    if kind == "bits":
        tifffile.imwrite(path, image > 99, photometric="minisblack", compression="deflate")
    elif kind == "white is zero":
        tifffile.imwrite(path, image, photometric="miniswhite", compression="deflate")
    elif kind == "palette":
        tifffile.imwrite(
            path,
            image,
            photometric="palette",
            colormap=np.random.default_rng(0).integers(0, 2**16, (3, 256), dtype=np.uint16),
            compression="deflate",
        )
    elif kind == "several files":
        path = write_ome_in_two_files(tmp_path, np.stack([image, image[::-1]]))
    else:
        with tifffile.TiffWriter(path) as tiff:
            tiles = [image[:16, :16].tobytes(), b"", *[image[:16, :16].tobytes()] * 10]
            tiff.write(
                iter(tiles), shape=(40, 50), dtype=np.uint8, tile=(16, 16), compression=None, photometric="minisblack"
            )
    expected = read_image(path).array
    monkeypatch.setattr(scratch, "LARGE", 10)
    np.testing.assert_array_equal(read_image(path).array, expected)


def write_ome_in_two_files(folder: Path, planes: np.ndarray) -> Path:
    """One plane in each; the metadata of both name both."""
    identifiers = [f"urn:uuid:00000000-0000-0000-0000-00000000000{number}" for number in range(2)]
    names = ["a.ome.tif", "b.ome.tif"]
    data = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{name}">{identifier}</UUID></TiffData>'
        for z, (name, identifier) in enumerate(zip(names, identifiers, strict=True))
    )
    size = f'SizeX="{planes.shape[2]}" SizeY="{planes.shape[1]}" SizeZ="2" SizeC="1" SizeT="1"'
    for name, identifier, plane in zip(names, identifiers, planes, strict=True):
        text = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{identifier}"><Image ID="Image:0">'
        )
        text += f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" {size}>'
        text += f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{data}</Pixels></Image></OME>'
        tifffile.imwrite(
            folder / name, plane, photometric="minisblack", compression="deflate", description=text, metadata=None
        )
    return folder / names[0]


def test_images_of_many_pixels_are_no_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert open_image(write_png(tmp_path / "a.png", GREY)).shape == (1, 6, 9)


def test_files_of_one_case_are_channels(tmp_path: Path) -> None:
    paths = [write_png(tmp_path / "a.png", GREY), write_png(tmp_path / "b.png", RGB)]
    assert read_images(paths).array.shape == (4, 6, 9)
    np.testing.assert_array_equal(open_images(paths).read((slice(1, 3), slice(2, 4)))[0], GREY[1:3, 2:4])


def test_files_of_one_case_lie_on_one_grid(tmp_path: Path) -> None:
    paths = [
        write_nifti(tmp_path / "a.nii", np.zeros((3, 3, 3), np.int16)),
        write_nifti(tmp_path / "b.nii", np.zeros((3, 3, 3), np.int16), np.eye(4)),
    ]
    with pytest.raises(DataError, match=r"b\.nii: got another spacing"):
        open_images(paths)
    with pytest.raises(DataError, match="got 5 x 9 pixels; expected 6 x 9 pixels"):
        open_images([write_png(tmp_path / "c.png", GREY), write_png(tmp_path / "d.png", GREY[1:])])


def test_a_grey_mask_saved_as_colours_is_read(tmp_path: Path) -> None:
    mask = np.where(GREY > 99, 255, 0).astype(np.uint8)
    label = read_label(write_png(tmp_path / "a.png", np.dstack([mask, mask, mask, np.full_like(mask, 255)])))
    np.testing.assert_array_equal(label.array, mask[None])


def test_a_mask_of_colours_is_refused(tmp_path: Path) -> None:
    assert "3 channels that differ" in problem_of(read_label, write_png(tmp_path / "a.png", RGB)).got


def test_whole_numbers_stored_as_floats_are_labels(tmp_path: Path) -> None:
    label = read_label(write_nifti(tmp_path / "a.nii.gz", np.full((3, 3, 3), 300.0, np.float32)))
    assert label.array.dtype == np.uint16
    assert (label.array == 300).all()


@pytest.mark.parametrize("wrong", [0.5, np.nan, np.inf])
def test_labels_that_are_not_whole_numbers_are_refused(tmp_path: Path, wrong: float) -> None:
    array = np.zeros((3, 3, 3), np.float32)
    array[0, 0, :2] = wrong
    assert "2 label values" in problem_of(read_label, write_nifti(tmp_path / "a.nii.gz", array)).got


def test_one_mask_for_each_object(tmp_path: Path) -> None:
    first, second = np.zeros((6, 9), np.uint8), np.zeros((6, 9), np.uint8)
    first[:2], second[4:] = 255, 255
    objects = read_labels([write_png(tmp_path / "a.png", first), write_png(tmp_path / "b.png", second)])
    assert np.unique(objects.array).tolist() == [0, 1, 2]
    assert objects.array[0, 5, 0] == 2
    with pytest.raises(DataError, match="5 x 9"):
        read_labels([tmp_path / "a.png", write_png(tmp_path / "c.png", first[1:])])


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif", "a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
@pytest.mark.parametrize("content", [b"", b"this is no image, whatever its name says", b"\x89PNG\r\n\x1a\n\0\0\0"])
def test_what_is_no_image_is_one_problem(tmp_path: Path, name: str, content: bytes) -> None:
    if name.endswith((".nrrd", ".mha")):
        pytest.importorskip("SimpleITK")
    (tmp_path / name).write_bytes(content)
    for read in (read_image, read_label, open_image):
        problem = problem_of(read, tmp_path / name)
        assert ("empty file" in problem.got) == (content == b"")
        assert "Traceback" not in str(problem) and "\n" not in str(problem)


@pytest.mark.parametrize(
    "name", ["a.png", "a.jpg", "a.bmp", "a.tif", "deflate.tif", "stack.tif", "a.nii", "a.nii.gz", "a.nrrd", "a.mha"]
)
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_one_problem(tmp_path: Path, name: str, kept: float) -> None:
    path = tmp_path / name
    noise = RNG.integers(0, 255, (8, 40, 40), dtype=np.uint8)
    if name.endswith(".tif"):
        tifffile.imwrite(
            path,
            noise if name == "stack.tif" else noise[0],
            photometric="minisblack",
            compression=None if name == "a.tif" else "deflate",
            metadata=None,
        )
    elif ".nii" in name:
        write_nifti(path, noise)
    elif name.endswith((".nrrd", ".mha")):
        sitk = pytest.importorskip("SimpleITK")
        sitk.WriteImage(sitk.GetImageFromArray(noise), path)
    else:
        Image.fromarray(noise[0]).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    problem = problem_of(read_image, path)
    assert "truncated" in problem.got
    assert "Restore it" in problem.action


def test_files_that_are_not_there_or_of_unknown_type(tmp_path: Path) -> None:
    assert problem_of(read_image, tmp_path / "a.png").got == "no such file"
    assert problem_of(read_label, tmp_path / "a.nrrd").got == "no such file"
    (tmp_path / "a.docx").write_text("hello")
    assert ".docx" in problem_of(read_image, tmp_path / "a.docx").got
    (tmp_path / "b.png").mkdir()
    assert problem_of(read_image, tmp_path / "b.png").got == "a folder"


def test_permission_denied_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_png(tmp_path / "a.png", GREY)

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(
        Path, "open", refuse
    )  # root may read anything, so a mode of 000 would prove nothing in a container
    problem = problem_of(read_image, path)
    assert "permission denied" in problem.got
    assert "chmod" in problem.action


def test_lack_of_memory_is_no_fault_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_png(tmp_path / "a.png", GREY)

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(decoders, "open_raster", fail)
    for read in (read_image, read_label, open_image):
        with pytest.raises(DataError, match="does not fit into memory"):
            read(path)


def test_numbers_that_are_no_intensities(tmp_path: Path) -> None:
    assert "complex64" in problem_of(read_image, write_nifti(tmp_path / "a.nii", np.zeros((2, 2, 2), np.complex64))).got


@pytest.mark.realdata
def test_real_files(real_data: Path) -> None:
    volume = read_image(real_data / "hippocampus/imagesTr/hippocampus_003.nii.gz")
    assert volume.array.shape == (1, 35, 52, 34)
    assert volume.geometry.spacing_mm == (1.0, 1.0, 1.0)
    folder = next((real_data / "nuclei_kaggle_layout/stage1_train").iterdir())
    masks = sorted((folder / "masks").iterdir())
    assert read_labels(masks).array.max() == len(masks)
    assert read_image(next((folder / "images").iterdir())).channels == 3
