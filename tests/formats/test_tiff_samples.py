from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from imagecodecs import packints_encode
from PIL import Image

from tests.data.images import GRAY, RGB, problem_of
from unetpp import scratch
from unetpp.formats import detect_format, png_rows
from unetpp.formats.pixels import find_range
from unetpp.formats.readers import read_image, read_label
from unetpp.volume import Volume

RNG = np.random.default_rng(0)


def write_bits(path: Path, values: np.ndarray, bits: int, photometric: int, colormap: np.ndarray | None = None) -> Path:
    """A TIFF of any number of bits, from its tags (tifffile writes those of 8 bits and more, and of 1)."""
    rows, columns = values.shape
    data = b"".join(packints_encode(row.astype(np.uint8), bits) for row in values)
    tags = {256: columns, 257: rows, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: rows, 279: len(data)}
    entries, extra = [], 8 + len(data) + len(data) % 2
    for tag, value in sorted(tags.items()):
        entries.append(tag.to_bytes(2, "little") + b"\4\0\1\0\0\0" + value.to_bytes(4, "little"))
    after = b""
    if colormap is not None:
        after = colormap.astype("<u2").tobytes()
        count = colormap.size.to_bytes(4, "little")
        entries.append((320).to_bytes(2, "little") + b"\3\0" + count + extra.to_bytes(4, "little"))
    directory = len(entries).to_bytes(2, "little") + b"".join(sorted(entries, key=lambda e: e[1] * 256 + e[0]))
    start = (extra + len(after)).to_bytes(4, "little")
    body = data + b"\0" * (len(data) % 2) + after
    path.write_bytes(b"II*\0" + start + body + directory + b"\0\0\0\0")
    return path


def read_as_label(path: Path) -> Volume:
    return detect_format(path).label(path, path.suffix)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("inverted", [False, True])
def test_gray_of_few_bits_has_its_scale_in_images_and_its_numbers_in_labels(
    tmp_path: Path, bits: int, inverted: bool
) -> None:
    values = RNG.integers(0, 2**bits, (6, 9), dtype=np.uint8)
    path = write_bits(tmp_path / "a.tif", values, bits, 0 if inverted else 1)
    shown = np.asarray(Image.open(path).convert("L"))
    np.testing.assert_array_equal(read_image(path).array[0], shown)
    label = read_as_label(path)
    np.testing.assert_array_equal(label.array[0], shown if bits == 1 else values)
    assert label.is_inverted == (inverted and bits > 1)
    assert read_label(path).is_inverted == label.is_inverted


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palettes_of_all_bits_are_colors_in_images_and_indices_in_labels(tmp_path: Path, bits: int) -> None:
    values = RNG.integers(0, 2**bits, (6, 9), dtype=np.uint8)
    colors = RNG.integers(256, 2**16, (3, 2**bits), dtype=np.uint16)
    path = write_bits(tmp_path / "a.tif", values, bits, 3, colors)
    label, image = read_label(path), read_image(path)
    np.testing.assert_array_equal(label.array[0], values)
    assert label.palette is not None
    np.testing.assert_array_equal(label.palette, colors.T >> 8)
    np.testing.assert_array_equal(image.array, np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1))
    np.testing.assert_array_equal(image.array, label.palette[values].transpose(2, 0, 1))


@pytest.mark.parametrize("bits", [2, 4])
def test_png_of_few_bits(tmp_path: Path, bits: int) -> None:
    values = RNG.integers(0, 2**bits, (6, 9), dtype=np.uint8)
    rows = b"".join(b"\0" + packints_encode(row, bits) for row in values)
    header = struct.pack(">IIBBBBB", 9, 6, bits, png_rows.GRAY, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    path = tmp_path / "a.png"
    path.write_bytes(png_rows.SIGNATURE + b"".join(png_rows._pack_chunk(*chunk) for chunk in chunks))
    np.testing.assert_array_equal(read_image(path).array[0], np.asarray(Image.open(path).convert("L")))
    np.testing.assert_array_equal(read_label(path).array[0], values)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.uint32, np.float64])
def test_signed_and_deep_numbers_are_kept(tmp_path: Path, dtype: Any) -> None:
    stored = (GRAY.astype(np.float64) - 100).clip(0 if dtype == np.uint32 else -100, 100).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", stored)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").array[0], stored)


@pytest.mark.parametrize("compression", ["jpeg", "deflate", "lzw", "zstd"])
def test_compressed_colors_equal_tifffile(tmp_path: Path, compression: str) -> None:
    stored = RNG.integers(0, 255, (32, 48, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", compression=compression)
    expected = tifffile.imread(tmp_path / "a.tif").transpose(2, 0, 1)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").array, expected)


def test_brightness_and_color_differences_become_colors(tmp_path: Path) -> None:
    Image.fromarray(RGB).convert("YCbCr").save(tmp_path / "a.tif")
    expected = np.asarray(Image.open(tmp_path / "a.tif").convert("RGB")).transpose(2, 0, 1)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").array, expected)


def test_whole_files_that_are_not_supported_are_not_called_truncated(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GRAY.astype(np.complex64))
    tifffile.imwrite(tmp_path / "b.tif", GRAY, compression="deflate", metadata=None)
    with tifffile.TiffFile(tmp_path / "b.tif", mode="r+b") as file:
        file.pages.first.tags["Compression"].overwrite(34712 + 5000)
    metadata = {"axes": "TZYX"}
    stack = np.zeros((2, 3, 6, 9), np.uint8)
    tifffile.imwrite(tmp_path / "c.ome.tif", stack, photometric="minisblack", metadata=metadata)
    for name, words in (("a.tif", "complex"), ("b.tif", "not"), ("c.ome.tif", "2 time points of 3 planes")):
        for read in (read_image, read_label):
            problem = problem_of(read, tmp_path / name)
            assert words in problem.got
            assert "truncated" not in problem.got and "estore" not in problem.action


@pytest.mark.parametrize("large", [False, True])
def test_transparency_of_a_tiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool) -> None:
    if large:
        monkeypatch.setattr(scratch, "LARGE", 10)
    stored = np.dstack([RGB, GRAY])
    for planar in ("contig", "separate"):
        data = stored if planar == "contig" else stored.transpose(2, 0, 1)
        tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb", planarconfig=planar, extrasamples=["unassalpha"])
        image, label = read_image(tmp_path / "a.tif"), read_as_label(tmp_path / "a.tif")
        assert "fourth channel varies" in image.geometry.notes[0]
        np.testing.assert_array_equal(image.array, RGB.transpose(2, 0, 1))
        np.testing.assert_array_equal(label.alpha, GRAY)
        assert read_image(tmp_path / "a.tif", "CYX").channels == 4


def test_a_fourth_band_that_is_no_transparency_is_a_channel(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.dstack([RGB, GRAY]), photometric="rgb", extrasamples=["unspecified"])
    image = read_image(tmp_path / "a.tif")
    assert (image.channels, image.geometry.notes) == (4, ())


def test_pixels_without_data_are_noted(tmp_path: Path) -> None:
    stored = GRAY.astype(np.float32)
    stored[0, 0] = -9999
    tifffile.imwrite(tmp_path / "a.tif", stored)
    assert "-9999" in read_image(tmp_path / "a.tif").geometry.notes[0]
    tifffile.imwrite(tmp_path / "b.tif", stored.clip(-5), extratags=[(42113, 2, 3, "-5", True)])
    assert "-5" in read_image(tmp_path / "b.tif").geometry.notes[0]


def test_further_images_in_a_file_are_noted(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(GRAY)
        file.write(RGB[:3], photometric="rgb")
    assert read_image(tmp_path / "a.tif").geometry.notes == (
        "holds 2 images of different sizes or kinds; one alone is read",
    )


def test_the_range_of_numbers() -> None:
    assert find_range(np.array([[np.nan, 3], [1, 2]])) == (1, 3)


def test_a_thumbnail_that_comes_first_is_not_the_image(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(GRAY[::3, ::3], subfiletype=1, metadata=None)
        file.write(GRAY, metadata=None)
    assert (read_image(tmp_path / "a.tif").array[0] == GRAY).all()


def test_transparency_beside_cmyk_and_beside_palettes_is_apart(tmp_path: Path) -> None:
    inks = np.dstack([RGB, GRAY])
    alpha = np.full_like(GRAY, 255)
    tifffile.imwrite(tmp_path / "plain.tif", inks, photometric="separated")
    tifffile.imwrite(
        tmp_path / "alpha.tif", np.dstack([inks, alpha]), photometric="separated", extrasamples=["unassalpha"]
    )
    plain, with_alpha = (read_image(tmp_path / f"{name}.tif") for name in ("plain", "alpha"))
    assert (plain.array == with_alpha.array).all() and plain.channels == 3
    Image.fromarray(RGB).convert("PA").save(tmp_path / "palette.tif")
    label = read_label(tmp_path / "palette.tif")
    assert label.channels == 1 and label.palette is not None and label.alpha is not None


def test_colors_of_cielab_are_noted(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", RGB, photometric="cielab")
    assert "CIELab" in read_image(tmp_path / "a.tif").geometry.notes[0]
