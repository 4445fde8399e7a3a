from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.data.images import FLAT, GRAY, RGB, SOLID, problem_of
from unetpp.formats.axes import arrange, choose_axes
from unetpp.formats.format import FileRefused
from unetpp.formats.readers import open_image, read_image, read_label
from unetpp.formats.writers import output_suffix, write_segmentation
from unetpp.volume import Geometry


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, ">i2", bool])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_is_mapped_and_keeps_its_numbers(tmp_path: Path, dtype: str, order: str) -> None:
    stored = np.array(GRAY > 99 if dtype is bool else GRAY, dtype=dtype, order=order)  # type: ignore[call-overload]
    np.save(tmp_path / "a.npy", stored)
    source = open_image(tmp_path / "a.npy")
    assert isinstance(source._array, np.memmap)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(source.read((slice(None), slice(2, 5)))[0], stored[:, 2:5])


def test_shapes_with_one_meaning_are_read_with_a_note_and_others_ask(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, RGB)
    assert read_image(path).array.shape == (3, 6, 9)
    assert '`data.axes="YXC"`' in read_image(path).geometry.notes[0]
    np.save(path, np.zeros((8, 20, 30)))
    assert read_image(path).array.shape == (1, 8, 20, 30)
    np.save(path, np.zeros((2, 20, 30)))
    assert '`data.axes="CYX"`, `data.axes="ZYX"`' in problem_of(read_image, path).action
    assert read_image(path, "CYX").array.shape == (2, 20, 30)
    assert read_image(path, "ZYX").array.shape == (1, 2, 20, 30)
    np.save(path, np.zeros((5, 2, 20, 30)))
    assert read_image(path, "ZCYX").array.shape == (2, 5, 20, 30)
    assert "does not fit" in problem_of(lambda file: read_image(file, "CYX"), path).got


def test_an_archive_of_one_array(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", FLAT)
    np.testing.assert_array_equal(read_label(tmp_path / "a.npz").array[0], FLAT)
    assert output_suffix(read_image(tmp_path / "a.npz").geometry) == ".npy"
    np.savez(tmp_path / "b.npz", image=FLAT, mask=FLAT)
    assert problem_of(read_image, tmp_path / "b.npz").got == "2 arrays (image, mask)"


def test_what_is_no_array_of_numbers_is_refused_and_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "never loaded" in problem_of(read_image, tmp_path / "a.npy").got
    np.save(tmp_path / "b.npy", GRAY.astype(np.complex64))
    problem = problem_of(read_image, tmp_path / "b.npy")
    assert "complex64" in problem.got and "estore" not in problem.action


def test_headers_that_claim_too_much_cost_nothing(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (60_000, 50_000)})
    (tmp_path / "a.npy").write_bytes(header.getvalue() + b"1234")
    assert "truncated" in problem_of(read_image, tmp_path / "a.npy").got
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("a.npy", header.getvalue() + b"1234")
    assert "ends before" in problem_of(read_image, tmp_path / "b.npz").got


def test_a_segmentation_is_an_array(tmp_path: Path) -> None:
    write_segmentation(SOLID, Geometry(".npy"), tmp_path / "out.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), SOLID)


@pytest.mark.parametrize(
    ("found", "shape", "wanted", "expected"),
    [
        ("IYX", (2, 6, 9), "CYX", "CYX"),
        ("TZCYXS", (1, 2, 1, 6, 9, 1), "CYX", "TCCYXS"),
        ("YXS", (6, 9, 4), "YXC", "YXC"),
        ("YX", (6, 9), "CYX", "YX"),
        ("YXS", (6, 9, 3), "CYX", "YXS"),
        ("ZCYX", (5, 2, 6, 9), "CZYX", "CZYX"),
    ],
)
def test_axes_of_the_user(found: str, shape: tuple[int, ...], wanted: str, expected: str) -> None:
    assert choose_axes(found, shape, wanted) == expected


@pytest.mark.parametrize("wanted", ["YXC", "CY", "CYXZ", "QYX", "CYY"])
def test_axes_of_the_user_that_do_not_fit(wanted: str) -> None:
    with pytest.raises(FileRefused, match="does not fit"):
        choose_axes("IYX", (2, 6, 9), wanted)


def test_time_points_of_volumes_are_named() -> None:
    with pytest.raises(FileRefused, match=r'2 time points of 3 planes.*`data.axes="CZYX"`'):
        arrange(np.zeros((2, 3, 6, 9)), "TZYX")
    assert arrange(np.zeros((2, 3, 6, 9)), "CZYX").array.shape == (2, 3, 6, 9)
    assert arrange(np.zeros((4, 6, 9)), "TYX").axes == "TYX"
