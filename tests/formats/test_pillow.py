from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from imagecodecs import jpeg2k_encode
from PIL import Image

from tests.data.images import GRAY, RGB, problem_of
from unetpp.formats import pillow
from unetpp.formats.readers import read_image, read_label
from unetpp.formats.sources import ArraySource
from unetpp.formats.writers import output_suffix
from unetpp.volume import Geometry

ALPHA = np.arange(54, dtype=np.uint8).reshape(6, 9)
EVERYTHING = (slice(None), slice(None))
FORMATS = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "GIF": ("1", "L", "P"),
    "WEBP": ("RGB", "RGBA"),
    "JPEG2000": ("L", "LA", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "AVIF": ("RGB", "RGBA"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F", "I;16"),
    "PPM": ("1", "L", "RGB"),
}
MODES = [(name, mode) for name, modes in FORMATS.items() for mode in modes]


def make_image(mode: str, pixels: np.ndarray) -> Image.Image:
    """An image of any mode from noise (Y, X, 4)."""
    if mode == "I;16":
        return Image.fromarray(pixels[..., 0].astype(np.uint16) * 257 + pixels[..., 1])
    if mode == "I":
        return Image.fromarray(pixels[..., 0].astype(np.int32) * 70_000 - 9)
    if mode == "F":
        return Image.fromarray(pixels[..., 0].astype(np.float32) / 7)
    if mode == "P":
        image = Image.fromarray(pixels[..., 0] % 16).convert("P")
        image.putpalette(pixels[:4, :4, :3].tobytes())
        return image
    bands = {"1": 1, "L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    image = Image.frombytes("L" if mode == "1" else mode, pixels.shape[1::-1], pixels[..., :bands].tobytes())
    return image.convert(mode)


def show(file: Path) -> np.ndarray:
    """What Pillow shows: (C, Y, X) of gray or RGB."""
    with Image.open(file) as image:
        image.load()
        mode = "L" if image.mode in ("1", "LA") else "RGB" if image.mode in ("P", "RGBA", "CMYK") else image.mode
        pixels = np.asarray(image.convert(mode))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


noise = arrays.arrays(np.uint8, st.tuples(st.integers(4, 9), st.integers(4, 9), st.just(4)))


@pytest.mark.parametrize(("name", "mode"), MODES)
@given(pixels=noise)
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_reading_equals_pillow(tmp_path: Path, name: str, mode: str, pixels: np.ndarray) -> None:
    file = tmp_path / "a.any"
    make_image(mode, pixels).save(file, name)
    image = read_image(file)
    np.testing.assert_array_equal(image.array, show(file))
    assert output_suffix(image.geometry) in (".png", ".bmp", ".tif")
    if mode == "P":
        label = read_label(file)
        assert label.palette is not None
        np.testing.assert_array_equal(label.palette[label.array[0]].transpose(2, 0, 1), image.array)


@given(st.integers(0, 6), st.integers(0, 12), st.integers(0, 9), st.integers(0, 12))
def test_any_block_is_what_numpy_cuts(top: int, bottom: int, left: int, right: int) -> None:
    slices = (slice(top, max(top, bottom)), slice(left, max(left, right)))
    whole = RGB.transpose(2, 0, 1)
    for source in (ArraySource(whole, Geometry()), pillow.PillowSource(Image.fromarray(RGB), Geometry())):
        np.testing.assert_array_equal(source.read(slices), whole[(slice(None), *slices)])


@pytest.mark.parametrize("name", ["PNG", "TIFF"])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_that_varies_is_noted_and_can_be_kept(tmp_path: Path, name: str, mode: str) -> None:
    colors = GRAY[..., None] if mode == "LA" else RGB
    file = tmp_path / "a.img"
    for alpha in (ALPHA, np.full_like(ALPHA, 255)):
        stored = np.concatenate([colors, alpha[..., None]], axis=2)
        Image.fromarray(stored).save(file, name)
        image, label = read_image(file), read_label_with_channels(file)
        np.testing.assert_array_equal(image.array, colors.transpose(2, 0, 1))
        assert ("varies and is left out" in " ".join(image.geometry.notes)) == (alpha is ALPHA)
        np.testing.assert_array_equal(label.alpha, alpha)
        np.testing.assert_array_equal(label.array, colors.transpose(2, 0, 1))
        np.testing.assert_array_equal(read_image(file, "YXC").array, stored.transpose(2, 0, 1))


def read_label_with_channels(file: Path) -> Any:
    from unetpp.formats import detect_format

    return detect_format(file).label(file, file.suffix)


def test_transparency_of_a_palette_is_that_of_its_colors(tmp_path: Path) -> None:
    image = Image.fromarray(GRAY % 3).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.save(tmp_path / "a.png", transparency=b"\0\x80\xff")
    image.save(tmp_path / "a.gif", transparency=1)
    np.testing.assert_array_equal(read_label(tmp_path / "a.png").alpha, np.array([0, 128, 255])[GRAY % 3])
    np.testing.assert_array_equal(read_label(tmp_path / "a.gif").alpha, np.where(GRAY % 3 == 1, 0, 255))


def test_a_film_is_one_image_with_a_note_and_no_label(tmp_path: Path) -> None:
    frames = [Image.fromarray(GRAY // number) for number in (1, 2, 3)]
    for name in ("a.gif", "a.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        assert read_image(tmp_path / name).geometry.notes == ("a film of 3 frames; the first alone is read",)
        np.testing.assert_array_equal(read_image(tmp_path / name).array[0], GRAY)
        assert problem_of(read_label, tmp_path / name).got == "a film of 3 frames"


def test_cmyk_becomes_rgb_with_a_note(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.tif"):
        Image.fromarray(RGB).convert("CMYK").save(tmp_path / name)
        image = read_image(tmp_path / name)
        assert image.geometry.notes == ("CMYK, converted to RGB",)
        assert image.channels == 3
        assert read_image(tmp_path / name, "YXC").channels == 4


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.uint8])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_jpeg_2000_keeps_bits_and_channels(tmp_path: Path, dtype: Any, channels: int) -> None:
    stored = np.random.default_rng(0).integers(0, 200, (20, 30, channels)).astype(dtype)
    stored = stored * 100 if dtype != np.uint8 else stored
    if channels == 1:
        stored = stored[..., 0]
    (tmp_path / "a.jp2").write_bytes(jpeg2k_encode(stored, level=0))
    expected = stored[None] if channels == 1 else stored.transpose(2, 0, 1)
    np.testing.assert_array_equal(read_image(tmp_path / "a.jp2").array, expected)


def test_axes_that_a_flat_image_does_not_have_are_refused(tmp_path: Path) -> None:
    Image.fromarray(GRAY).save(tmp_path / "a.png")
    problem = problem_of(lambda path: read_image(path, "ZYX"), tmp_path / "a.png")
    assert "`data.axes" in problem.got
    np.testing.assert_array_equal(read_label(tmp_path / "a.png", "ZYX").array[0], GRAY)


def test_heif_is_read_with_its_package(tmp_path: Path) -> None:
    plugin = pytest.importorskip("pillow_heif")
    plugin.from_pillow(Image.fromarray(RGB).resize((64, 64))).save(tmp_path / "a.heic", quality=-1)
    image = read_image(tmp_path / "a.heic")
    assert image.array.shape == (3, 64, 64)
    assert output_suffix(image.geometry) == ".png"


def test_large_crops_warn_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unetpp.slabs.SLAB_VALUES", 100)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    image = Image.new("L", (20, 40), 3)
    assert pillow.PillowSource(image, Geometry()).read(EVERYTHING).shape == (1, 40, 20)
