from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np
import pytest

from unetpp.data import scratch
from unetpp.errors import DataError


def mapped_kb() -> int:
    """Memory of mapped files that this process holds now."""
    return int(re.search(r"RssFile:\s*(\d+)", Path("/proc/self/status").read_text())[1])  # type: ignore[index]


def test_a_small_array_is_in_memory() -> None:
    assert type(scratch.new_array((3, 4), np.uint8)) is np.ndarray


def test_a_large_array_lies_on_disk_and_goes_with_its_last_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "LARGE", 10)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    array = scratch.new_array((300, 400), np.float32)
    array[:] = np.arange(400)
    assert isinstance(array, np.memmap) and list(tmp_path.iterdir()) == []  # a file without a name
    scratch.release(array)
    np.testing.assert_array_equal(array[299], np.arange(400))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells")
def test_released_memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "LARGE", 10)
    array = scratch.new_array((1000, 50_000), np.uint8)
    before = mapped_kb()
    array[:] = 1
    assert mapped_kb() - before > 40_000
    scratch.release(array[3:])
    assert mapped_kb() - before < 10_000
    assert array.min() == 1


def test_changes_of_a_private_copy_are_kept(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(4096))
    array = np.memmap(tmp_path / "a", np.uint8, mode="c")
    array[:] = 7
    scratch.release(array)
    assert array.min() == 7


def test_no_space_is_said_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "LARGE", 10)
    with pytest.raises(DataError, match="TMPDIR"):
        scratch.new_array((2**22, 2**22), np.float32, "a.tif")
