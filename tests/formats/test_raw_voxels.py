from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from unetpp import scratch
from unetpp.errors import DataError
from unetpp.formats import raw_voxels
from unetpp.formats.raw_voxels import VoxelSource, load_voxels
from unetpp.volume import Geometry

VOXELS = np.random.default_rng(0).integers(-999, 999, (7, 6, 5), dtype=np.int16).astype(">i2")


def write(path: Path, content: bytes, packed: bool) -> Path:
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("large", [True, False])
def test_voxels_are_those_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool, large: bool
) -> None:
    monkeypatch.setattr(scratch, "LARGE", 0 if large else 2**26)
    monkeypatch.setattr(scratch, "PIECE", 64)
    path = write(tmp_path / "a.bin", b"x" * 11 + VOXELS.tobytes() + b"more", packed)
    found = load_voxels(path, VOXELS.shape, VOXELS.dtype, 11)
    np.testing.assert_array_equal(found, VOXELS)
    source = VoxelSource(found[None], Geometry())
    assert source.dtype == np.int16
    np.testing.assert_array_equal(source.read((slice(1, 3), slice(None), slice(2, 4)))[0], VOXELS[1:3, :, 2:4])
    np.testing.assert_array_equal(source.read_all()[0], VOXELS)


def test_scaled_integers_become_float32() -> None:
    source = VoxelSource(VOXELS[None], Geometry(), (0.5, -1024.0))
    assert source.read_all().dtype == np.float32
    np.testing.assert_array_equal(source.read_all()[0], VOXELS * 0.5 - 1024)
    exact = VoxelSource(np.ones((1, 2, 2), np.float64), Geometry(), (1 / 3, 0.0))
    assert exact.read_all()[0, 0, 0] == 1 / 3


@pytest.mark.parametrize("kept", [0.5, 0.9, -1])
def test_truncated_gzip_is_told(tmp_path: Path, kept: float) -> None:
    content = gzip.compress(np.random.default_rng(1).bytes(7 * 6 * 5 * 2))
    path = tmp_path / "a.bin"
    path.write_bytes(content[: int(kept) if kept < 0 else int(len(content) * kept)])
    with pytest.raises(DataError, match="a gzip file that is truncated"):
        load_voxels(path, VOXELS.shape, VOXELS.dtype, 0)


def test_a_wrong_checksum_is_told_and_bytes_behind_the_end_are_not(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(VOXELS.tobytes()))
    (tmp_path / "more.bin").write_bytes(content + b"bytes behind the end")
    np.testing.assert_array_equal(load_voxels(tmp_path / "more.bin", VOXELS.shape, VOXELS.dtype, 0), VOXELS)
    content[-6] ^= 1
    (tmp_path / "bad.bin").write_bytes(content)
    with pytest.raises(DataError, match="checksum"):
        load_voxels(tmp_path / "bad.bin", VOXELS.shape, VOXELS.dtype, 0)


@pytest.mark.parametrize("packed", [True, False])
def test_a_claim_that_the_file_cannot_hold_costs_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    monkeypatch.setattr(raw_voxels.scratch, "allocate_array", lambda *arguments: pytest.fail("allocated"))
    path = write(tmp_path / "a.bin", bytes(2000), packed)
    tracemalloc.start()
    with pytest.raises(DataError, match="truncated: its header needs 3,000,000,000 bytes"):
        load_voxels(path, (3000, 1000, 1000), np.dtype(np.uint8), 0)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_scale_beyond_float32_is_infinite_without_a_warning() -> None:
    assert np.isinf(VoxelSource(VOXELS[None], Geometry(), (1e38, 0.0)).read_all()).any()
