from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unetpp import scratch
from unetpp.formats import png_rows


def rows_of(path: Path) -> np.ndarray:
    header = png_rows.read_header(path)
    assert header is not None
    return np.concatenate(list(png_rows.read_rows(path, header)))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([1, 2, 3, 4]),
    st.integers(1, 400),
    st.booleans(),
    st.integers(0, 5),
)
def test_rows_are_those_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, samples: int, piece: int, smooth: bool, seed: int
) -> None:
    """Smooth images have filtered rows, which look to the row above: across the borders of pieces too."""
    path = tmp_path_factory.mktemp("png") / "a.png"
    noise = np.random.default_rng(seed).integers(0, 8 if smooth else 256, (height, width, samples))
    image = (
        (noise + 5 * np.arange(height)[:, None, None] + 3 * np.arange(width)[:, None]) % 256 if smooth else noise
    ).astype(np.uint8)
    Image.fromarray(image[..., 0] if samples == 1 else image).save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scratch, "PIECE", piece)
        np.testing.assert_array_equal(rows_of(path), image)


def test_16_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "PIECE", 100)
    image = np.random.default_rng(0).integers(0, 2**16, (30, 20), dtype=np.uint16)
    Image.fromarray(image).save(tmp_path / "a.png")
    np.testing.assert_array_equal(rows_of(tmp_path / "a.png")[..., 0], image)


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_file_that_ends_too_early(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(ValueError, match="ends"):
        rows_of(path)


def test_damaged_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90), dtype=np.uint8)).save(path, compress_level=0)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises((ValueError, zlib.error), match=r"damaged|incorrect"):
        rows_of(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_written_rows_are_a_png(tmp_path: Path, dtype: type) -> None:
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (50, 31), dtype=dtype)
    png_rows.write_rows(
        [image[:20], image[20:21], image[21:]], (50, 31), np.dtype(dtype), tmp_path / "a.png", dpi=(300, 150)
    )
    with Image.open(tmp_path / "a.png") as found:
        assert found.info["dpi"] == pytest.approx((300, 150), rel=1e-3)
        np.testing.assert_array_equal(np.asarray(found), image)
