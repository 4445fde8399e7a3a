from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.data.images import GRAY, RGB, RNG, problem_of, write_nifti
from tests.tiny import write_png
from unetpp.errors import DataError
from unetpp.formats import pillow
from unetpp.formats.readers import open_image, open_images, read_image, read_images, read_label

ALPHA = np.full((6, 9, 1), 7, dtype=np.uint8)
EVERYTHING = (slice(None), slice(None))


@pytest.mark.parametrize(
    ("name", "stored", "expected"),
    [
        ("gray.png", GRAY, GRAY[None]),
        ("gray.bmp", GRAY, GRAY[None]),
        ("gray16.png", GRAY.astype(np.uint16) * 200, GRAY[None].astype(np.uint16) * 200),
        ("gray.tif", GRAY, GRAY[None]),
        ("rgb.png", RGB, RGB.transpose(2, 0, 1)),
        ("rgb.tif", RGB, RGB.transpose(2, 0, 1)),
        ("rgba.png", np.concatenate([RGB, ALPHA], axis=2), RGB.transpose(2, 0, 1)),
        ("rgba.tif", np.concatenate([RGB, ALPHA], axis=2), RGB.transpose(2, 0, 1)),
        ("gray_alpha.png", np.concatenate([GRAY[..., None], ALPHA], axis=2), GRAY[None]),
        ("bits.png", GRAY > 99, np.where(GRAY > 99, 255, 0).astype(np.uint8)[None]),
    ],
)
def test_pixels_arrive_as_channels_rows_columns(
    tmp_path: Path, name: str, stored: np.ndarray, expected: np.ndarray
) -> None:
    volume = read_image(write_png(tmp_path / name, stored))
    np.testing.assert_array_equal(volume.array, expected)
    assert volume.array.dtype == expected.dtype
    assert (volume.dims, volume.channels, volume.shape) == (2, len(expected), (6, 9))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_palette_is_colors_in_an_image_and_numbers_in_a_label(tmp_path: Path, suffix: str) -> None:
    indices = Image.fromarray((GRAY % 3).astype(np.uint8)).convert("P")
    indices.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    indices.save(tmp_path / f"a{suffix}", **({"transparency": b"\0\1"} if suffix == ".png" else {}))
    image, label = read_image(tmp_path / f"a{suffix}"), read_label(tmp_path / f"a{suffix}")
    assert image.channels == 3
    np.testing.assert_array_equal(image.array[:, label.array[0] == 1][:, 0], [40, 50, 60])
    np.testing.assert_array_equal(label.array[0], GRAY % 3)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.jpg"])
def test_blocks_are_parts_of_the_whole(tmp_path: Path, name: str) -> None:
    source = open_image(write_png(tmp_path / name, RGB))
    whole = source.read(EVERYTHING)
    assert (source.shape, source.dtype) == (whole.shape, whole.dtype)
    np.testing.assert_array_equal(source.read((slice(2, 5), slice(3, 9))), whole[:, 2:5, 3:9])
    np.testing.assert_array_equal(source.read((slice(4, 99), slice(None))), whole[:, 4:])


def test_files_of_one_case_are_channels(tmp_path: Path) -> None:
    paths = [write_png(tmp_path / "a.png", GRAY), write_png(tmp_path / "b.png", RGB)]
    assert read_images(paths).array.shape == (4, 6, 9)
    np.testing.assert_array_equal(open_images(paths).read((slice(1, 3), slice(2, 4)))[0], GRAY[1:3, 2:4])


def test_files_of_one_case_lie_on_one_grid(tmp_path: Path) -> None:
    paths = [
        write_nifti(tmp_path / "a.nii", np.zeros((3, 3, 3), np.int16)),
        write_nifti(tmp_path / "b.nii", np.zeros((3, 3, 3), np.int16), np.eye(4)),
    ]
    with pytest.raises(DataError, match=r"b\.nii: got another spacing"):
        open_images(paths)
    with pytest.raises(DataError, match="got 5 x 9 pixels; expected 6 x 9 pixels"):
        open_images([write_png(tmp_path / "c.png", GRAY), write_png(tmp_path / "d.png", GRAY[1:])])


def test_a_label_is_read_as_its_file_stores_it(tmp_path: Path) -> None:
    fractions = np.full((3, 3, 3), 300.5, ">f4")
    label = read_label(write_nifti(tmp_path / "a.nii.gz", fractions))
    np.testing.assert_array_equal(label.array, fractions[None])
    assert label.array.dtype.isnative


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
    os.mkfifo(tmp_path / "pipe.png")
    assert problem_of(read_image, tmp_path / "pipe.png").got == "a pipe or a device"
    (tmp_path / "b.png").mkdir()
    assert problem_of(read_image, tmp_path / "b.png").got == "a folder"


def test_permission_denied_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_png(tmp_path / "a.png", GRAY)

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(
        Path, "open", refuse
    )  # root may read anything, so a mode of 000 would prove nothing in a container
    problem = problem_of(read_image, path)
    assert "permission denied" in problem.got
    assert "chmod" in problem.action


def test_lack_of_memory_is_no_fault_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_png(tmp_path / "a.png", GRAY)

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(pillow.Plugin, "load", fail)
    for read in (read_image, read_label, open_image):
        with pytest.raises(DataError, match="does not fit into memory"):
            read(path)


@pytest.mark.realdata
def test_real_files(real_data: Path) -> None:
    volume = read_image(real_data / "hippocampus/imagesTr/hippocampus_003.nii.gz")
    assert volume.array.shape == (1, 35, 52, 34)
    assert volume.geometry.spacing_mm == (1.0, 1.0, 1.0)
    folder = next((real_data / "nuclei_kaggle_layout/stage1_train").iterdir())
    assert read_image(next((folder / "images").iterdir())).channels == 3
