from __future__ import annotations

import errno
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest

from unetpp import scratch
from unetpp.errors import UsageError


def mapped_kb() -> int:
    """Memory of mapped files (on a disk, or in memory itself) that this process holds now."""
    return sum(map(int, re.findall(r"Rss(?:File|Shmem):\s*(\d+)", Path("/proc/self/status").read_text())))


def test_a_small_array_is_in_memory() -> None:
    assert type(scratch.allocate_array((3, 4), np.uint8)) is np.ndarray


def test_a_large_array_is_on_disk_and_freed_with_its_last_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "LARGE", 10)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    array = scratch.allocate_array((300, 400), np.float32)
    array[:] = np.arange(400)
    assert isinstance(array, np.memmap) and list(tmp_path.iterdir()) == []  # a file without a name
    scratch.release(array)
    np.testing.assert_array_equal(array[299], np.arange(400))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells")
def test_released_memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "LARGE", 10)
    array = scratch.allocate_array((1000, 50_000), np.uint8)
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


def test_without_space_on_disk_memory_is_taken_and_without_either_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(scratch, "LARGE", 10)
    monkeypatch.setattr(scratch.os, "posix_fallocate", full, raising=False)
    assert type(scratch.allocate_array((30, 40), np.uint8)) is np.ndarray
    with pytest.raises(
        MemoryError,
        match=r"fit neither into memory nor into the temporary folder \(No space left on device\); set TMPDIR",
    ):
        scratch.allocate_array((2**22, 2**22), np.float32)


def test_a_folder_that_may_not_be_written_to_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "LARGE", 10)
    monkeypatch.setattr(scratch, "_choose_folder", lambda: "/nowhere")
    assert scratch.allocate_array((30, 40), np.uint8).shape == (30, 40)


def test_the_users_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert scratch._choose_folder() == str(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "mistyped"))
    monkeypatch.setattr(scratch, "LARGE", 10)
    with pytest.raises(UsageError, match=r"TMPDIR: got .*mistyped, which is no folder; expected"):
        scratch.allocate_array((30, 40), np.uint8)
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    assert scratch._choose_folder() in ("/var/tmp", None)
