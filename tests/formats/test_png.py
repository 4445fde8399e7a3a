from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from imagecodecs import png_encode
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.data.images import FLAT, GRAY, RGB, problem_of
from tests.tiny import write_png
from unetpp import scratch
from unetpp.formats.readers import open_image, read_image
from unetpp.formats.writers import write_segmentation


def test_16_bit_color_png_keeps_its_16_bits(tmp_path: Path) -> None:
    stored = RGB.astype(np.uint16) * 257 - np.uint16(3) * (RGB > 0)
    (tmp_path / "a.png").write_bytes(png_encode(stored))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").array, stored.transpose(2, 0, 1))


@pytest.mark.parametrize("image", [GRAY, RGB, np.dstack([RGB, GRAY]), GRAY.astype(np.uint16) * 200])
def test_a_large_png_is_unpacked_onto_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: np.ndarray) -> None:
    Image.fromarray(image).save(tmp_path / "a.png", dpi=(200, 200))
    small = open_image(tmp_path / "a.png")
    monkeypatch.setattr(scratch, "LARGE", 10)
    large = open_image(tmp_path / "a.png")
    assert isinstance(large._array, np.memmap)  # type: ignore[attr-defined]
    assert (large.shape, large.dtype, large.geometry.header) == (small.shape, small.dtype, small.geometry.header)
    np.testing.assert_array_equal(large.read((slice(1, 5), slice(3, 9))), small.read((slice(1, 5), slice(3, 9))))


def test_what_cannot_be_read_by_rows_is_left_to_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(GRAY).convert("P").save(tmp_path / "palette.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    Image.fromarray(GRAY).save(tmp_path / "turned.png", exif=exif)
    packet = PngInfo()
    packet.add_itxt(
        "XML:com.adobe.xmp", '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    )
    Image.fromarray(GRAY).save(tmp_path / "packet.png", pnginfo=packet)
    names = ("palette.png", "turned.png", "packet.png")
    expected = [read_image(tmp_path / name).array for name in names]
    assert [array.shape for array in expected] == [(3, 6, 9), (1, 9, 6), (1, 9, 6)]
    monkeypatch.setattr(scratch, "LARGE", 10)
    for name, array in zip(names, expected, strict=True):
        np.testing.assert_array_equal(read_image(tmp_path / name).array, array)


@pytest.mark.parametrize("samples", [2, 3, 4])
def test_a_large_png_of_16_bits_and_colors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, samples: int) -> None:
    image = np.random.default_rng(0).integers(0, 2**16, (20, 30, samples), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png_encode(image))
    expected = read_image(tmp_path / "a.png").array
    monkeypatch.setattr(scratch, "LARGE", 10)
    monkeypatch.setattr(scratch, "PIECE", 1000)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").array, expected)


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.95])
def test_a_large_png_that_is_cut_is_one_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: float) -> None:
    monkeypatch.setattr(scratch, "LARGE", 10)
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    assert "truncated" in problem_of(open_image, path).got


def test_images_of_many_pixels_are_no_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert open_image(write_png(tmp_path / "a.png", GRAY)).shape == (1, 6, 9)


def test_png_keeps_its_resolution(tmp_path: Path) -> None:
    Image.fromarray(FLAT).save(tmp_path / "image.png", dpi=(300, 300))
    write_segmentation(FLAT, read_image(tmp_path / "image.png").geometry, tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as out:
        assert out.info["dpi"] == pytest.approx((300, 300), abs=0.1)
