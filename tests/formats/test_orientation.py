from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from imagecodecs import png_encode
from PIL import Image, ImageOps

from tests.data.images import GRAY, RGB
from unetpp import scratch
from unetpp.formats.orientation import TAG, is_turned, note_turned_pair, turn_upright
from unetpp.formats.readers import read_image, read_label
from unetpp.formats.writers import write_segmentation
from unetpp.volume import Geometry

TAGS = range(1, 9)


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """What Pillow makes of it."""
    image = Image.fromarray(array)
    image.getexif()[TAG] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


@given(st.integers(0, 9), st.integers(1, 7), st.integers(1, 7))
def test_turning_equals_pillow(orientation: int, rows: int, columns: int) -> None:
    array = np.arange(rows * columns, dtype=np.uint8).reshape(rows, columns)
    np.testing.assert_array_equal(turn_upright(array[None], orientation)[0], upright(array, orientation))


@pytest.mark.parametrize("orientation", TAGS)
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "deep.png"])
@pytest.mark.parametrize("read", [read_image, read_label])
def test_every_format_is_read_upright(tmp_path: Path, name: str, orientation: int, read: object) -> None:
    path = tmp_path / name
    exif = Image.Exif()
    exif[TAG] = orientation
    if name == "a.tif":
        tifffile.imwrite(path, GRAY, extratags=[(TAG, 3, 1, orientation, True)])
    else:
        Image.fromarray(GRAY).save(path, exif=exif, **({"lossless": True} if name == "a.webp" else {}))
    if name == "deep.png":
        deep = png_encode(RGB.astype(np.uint16) * 257)
        start = path.read_bytes()
        at = start.index(b"eXIf") - 4
        chunk = start[at : at + 12 + int.from_bytes(start[at : at + 4])]
        path.write_bytes(deep[:33] + chunk + deep[33:])
    if name == "deep.png":
        expected = np.stack([upright(channel, orientation) for channel in RGB.transpose(2, 0, 1)]) * np.uint16(257)
        found = read_image(path)
    else:
        found = read(path)  # type: ignore[operator]
        expected = np.broadcast_to(upright(GRAY, orientation), found.array.shape)
    assert np.abs(found.array.astype(int) - expected).max() <= (40 if name == "a.jpg" else 0)
    assert is_turned(found.geometry) == (orientation > 1)
    if orientation > 1:
        assert found.geometry.notes == (f"turned upright by its orientation tag ({orientation})",)


@pytest.mark.parametrize("orientation", TAGS)
def test_a_large_tiff_is_turned_in_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orientation: int) -> None:
    monkeypatch.setattr(scratch, "LARGE", 10)
    volume = np.stack([GRAY, GRAY[::-1]])
    tifffile.imwrite(
        tmp_path / "a.tif",
        volume,
        photometric="minisblack",
        compression="deflate",
        extratags=[(TAG, 3, 1, orientation, True)],
    )
    expected = np.stack([upright(plane, orientation) for plane in volume])
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").array[0], expected)


def test_results_are_written_upright_with_exchanged_sizes(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GRAY, resolution=(10, 20), extratags=[(TAG, 3, 1, 6, True)])
    image = read_image(tmp_path / "a.tif")
    write_segmentation(np.ones(image.shape, np.uint8), image.geometry, tmp_path / "out.tif")
    with tifffile.TiffFile(tmp_path / "out.tif") as out:
        assert TAG not in out.pages.first.tags or out.pages.first.tags[TAG].value == 1
        assert out.pages.first.resolution == (20.0, 10.0)
        assert out.pages.first.shape == (9, 6)


def test_a_pair_of_which_one_was_turned_is_noted() -> None:
    turned, stored = Geometry(notes=("turned upright by its orientation tag (3)",)), Geometry()
    assert note_turned_pair(turned, turned) == note_turned_pair(stored, stored) == ()
    assert note_turned_pair(turned, stored)[0].startswith("the image is turned")
    assert note_turned_pair(stored, turned)[0].startswith("the label is turned")
