from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.images import GRAY, RGB, problem_of
from unetpp.formats.readers import read_image, read_label


@pytest.mark.parametrize("largest", [1, 15, 255, 4095, 65535])
@pytest.mark.parametrize("kind", ["2", "5"])
def test_images_are_scaled_to_white_and_labels_are_not(tmp_path: Path, kind: str, largest: int) -> None:
    values = np.random.default_rng(0).integers(0, largest + 1, (6, 9))
    if kind == "2":
        data = " ".join(map(str, values.reshape(-1))).encode() + b"\n"
    else:
        data = values.astype(">u2" if largest > 255 else np.uint8).tobytes()
    path = tmp_path / "a.pgm"
    path.write_bytes(f"P{kind}\n# a comment\n9 6\n{largest}\n".encode() + data)
    np.testing.assert_array_equal(read_label(path).array[0], values)
    full = 255 if largest < 256 else 65535
    np.testing.assert_array_equal(read_image(path).array[0], np.rint(values * (full / largest)))


@given(st.integers(1, 9), st.integers(1, 17))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_bits_are_black_where_they_are_1(tmp_path: Path, rows: int, columns: int) -> None:
    bits = np.random.default_rng(rows).integers(0, 2, (rows, columns), dtype=np.uint8)
    packed = tmp_path / "a.pbm"
    packed.write_bytes(f"P4 {columns} {rows}\n".encode() + np.packbits(bits, axis=1).tobytes())
    text = tmp_path / "b.pbm"
    text.write_text(f"P1\n{columns} {rows}\n" + "".join(map(str, bits.reshape(-1))))
    for path in (packed, text):
        np.testing.assert_array_equal(read_image(path).array[0], (1 - bits) * 255)


def test_colors_of_16_bits_and_floats(tmp_path: Path) -> None:
    deep = RGB.astype(np.uint16) * 257
    (tmp_path / "a.ppm").write_bytes(b"P6 9 6 65535\n" + deep.astype(">u2").tobytes())
    np.testing.assert_array_equal(read_image(tmp_path / "a.ppm").array, deep.transpose(2, 0, 1))
    floats = GRAY.astype("<f4") / 3
    (tmp_path / "a.pfm").write_bytes(b"Pf\n9 6\n-1.0\n" + floats[::-1].tobytes())
    np.testing.assert_array_equal(read_image(tmp_path / "a.pfm").array[0], floats)


@pytest.mark.parametrize("content", [b"P5 90000 90000 255\n12", b"P2 90000 90000 255\n1 2", b"P2 2 1 9\n1", b"P5 2\n"])
def test_a_short_file_is_one_problem(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pgm").write_bytes(content)
    assert "truncated" in problem_of(read_image, tmp_path / "a.pgm").got
