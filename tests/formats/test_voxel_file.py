from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path

import numpy as np
import pytest

from unetpp import scratch
from unetpp.errors import DataError
from unetpp.formats.format import FileRefused
from unetpp.formats.voxel_file import StoredVoxels, find_data_files, load_stored

VOXELS = np.arange(6000, dtype="<u2")


def stored(path: Path, packing: str, **more: int) -> StoredVoxels:
    return StoredVoxels((10, 20, 30), VOXELS.dtype, packing, (path,), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["/etc/passwd", "../a.raw", "inner/../../a.raw", "link.raw", "\0"])
def test_files_outside_the_folder_of_the_header_are_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "images"
    (folder / "inner").mkdir(parents=True)
    (tmp_path / "a.raw").write_bytes(b"secret")
    (folder / "link.raw").symlink_to(tmp_path / "a.raw")
    with pytest.raises((FileRefused, ValueError), match=r"outside the folder of the header|null byte"):
        find_data_files(folder / "a.mhd", name, ())


def test_a_header_and_its_voxels_may_both_be_links(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "links").mkdir()
    for name in ("a.mhd", "a.raw"):
        (tmp_path / "store" / name).write_bytes(b"x")
        (tmp_path / "links" / name).symlink_to(tmp_path / "store" / name)
    assert find_data_files(tmp_path / "links" / "a.mhd", "a.raw", ()) == (tmp_path / "links" / "a.raw",)


def test_a_pipe_is_no_file_of_voxels(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.raw")
    with pytest.raises(FileRefused, match="a pipe or a device"):
        find_data_files(tmp_path / "a.mhd", "a.raw", ())


@pytest.mark.parametrize(
    "packed", [zlib.compress(VOXELS), gzip.compress(VOXELS[:99].tobytes()) + gzip.compress(VOXELS[99:].tobytes())]
)
@pytest.mark.parametrize("large", [True, False])
def test_packed_voxels(tmp_path: Path, packed: bytes, large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "PIECE", 1000)
    monkeypatch.setattr(scratch, "LARGE", 0 if large else 2**20)
    (tmp_path / "a").write_bytes(b"abc" + packed + b"more")
    found = load_stored(tmp_path / "a", stored(tmp_path / "a", "deflate", start=3))
    np.testing.assert_array_equal(found.reshape(-1), VOXELS)
    for damaged in (packed[:-8], packed[:-1] + bytes([packed[-1] ^ 1]), packed[:50], b""):
        (tmp_path / "a").write_bytes(b"abc" + damaged)
        with pytest.raises((EOFError, zlib.error, DataError)):
            load_stored(tmp_path / "a", stored(tmp_path / "a", "deflate", start=3))


def test_bytes_before_packed_voxels_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "PIECE", 7)
    (tmp_path / "a").write_bytes(gzip.compress(b"x" * 20 + VOXELS.tobytes()))
    found = load_stored(tmp_path / "a", stored(tmp_path / "a", "deflate", skip=20))
    np.testing.assert_array_equal(found.reshape(-1), VOXELS)


@pytest.mark.parametrize("packing", ["raw", "deflate", "text", "hex"])
def test_claims_that_the_file_cannot_hold_are_refused(tmp_path: Path, packing: str) -> None:
    (tmp_path / "a").write_bytes(b"1 " * 5)
    with pytest.raises(DataError, match="truncated: its header needs"):
        load_stored(tmp_path / "a", stored(tmp_path / "a", packing))


def test_parts_must_be_equal(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(99))
    voxels = StoredVoxels((1, 1, 5), np.dtype("u1"), "raw", (tmp_path / "a",) * 2)
    with pytest.raises(FileRefused, match="2 files of voxels for 5 voxels"):
        load_stored(tmp_path / "a", voxels)
