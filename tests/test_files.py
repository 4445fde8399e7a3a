from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from unetpp import files
from unetpp.errors import WriteError
from unetpp.files import MadeFolder, hold_lock, write_atomically, write_json, write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    write_text(target, "old")
    with pytest.raises(RuntimeError), write_atomically(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.json"]


def test_no_space_left_is_reported_and_loses_nothing(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    write_text(target, "old")
    with pytest.raises(WriteError, match=r"No space left.*Free some space"), write_atomically(target):
        raise OSError(28, "No space left on device")
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.json"]


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="another `out`"):
        write_text(tmp_path / "file" / "below.txt", "x")


def test_compound_suffixes_are_kept_for_writers_that_need_them(tmp_path: Path) -> None:
    with write_atomically(tmp_path / "case.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"x")
    assert (tmp_path / "case.nii.gz").read_bytes() == b"x"


def test_json_has_no_numbers_outside_its_standard(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"dice": float("nan")})
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_a_file_has_the_permissions_of_any_new_one(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "ours.txt", "x")
        (tmp_path / "theirs.txt").write_text("x")
    finally:
        os.umask(before)
    ours, theirs = ((tmp_path / name).stat().st_mode for name in ("ours.txt", "theirs.txt"))
    assert ours == theirs


def test_a_lock_is_held_once(tmp_path: Path) -> None:
    path = tmp_path / "fold" / ".lock"
    with hold_lock(path) as first, hold_lock(path) as second:
        assert (first, second) == (True, False)
    assert not path.parent.exists()
    with hold_lock(path) as again:
        assert again


def test_a_lock_that_is_waited_for_is_held_in_turn(tmp_path: Path) -> None:
    path, order = tmp_path / ".lock", []

    def work(number: int) -> None:
        with hold_lock(path, wait=True) as held:
            assert held
            order.append(number)
            time.sleep(0.01)
            order.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert order[0::2] == order[1::2]
    assert sorted(order[0::2]) == list(range(8))


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    left, young = tmp_path / ".unetpp-0123.json", tmp_path / ".unetpp-4567.json"
    with write_atomically(tmp_path / "folder" / "held.json") as held:
        held.write_text("{}")
        moved = held.rename(tmp_path / held.name)
        for path in (left, young):
            path.write_text("{}")
        for path in (left, moved):
            os.utime(path, (0, 0))
        write_text(tmp_path / "a.json", "{}")
        assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"a.json", young.name, moved.name}
        moved.rename(held)


@pytest.mark.parametrize("words", ["12288 requested and 10176 written", "write failed: No space left"])
def test_libraries_that_hide_a_full_disk_are_understood(tmp_path: Path, words: str) -> None:
    with pytest.raises(WriteError, match=r"No space left on device.*Free some space"), write_atomically(tmp_path / "a"):
        raise OSError(words)


def test_a_folder_on_another_disk_than_before_is_not_filled(tmp_path: Path) -> None:
    made = MadeFolder(tmp_path / "a" / "b")
    made.require()
    made._device += 1
    with pytest.raises(WriteError, match="another disk than before"):
        made.require()
    made.path.rmdir()
    with pytest.raises(WriteError, match="a folder that has vanished"):
        made.require()


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks as Windows has them: of a byte, by its module msvcrt."""
    fcntl = pytest.importorskip("fcntl")

    def locking(descriptor: int, mode: int, count: int) -> None:
        assert (mode, count, os.lseek(descriptor, 0, os.SEEK_CUR)) == (2, 1, 0)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    monkeypatch.setattr(files, "_ON_WINDOWS", True)
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(LK_NBLCK=2, locking=locking))
    monkeypatch.setitem(sys.modules, "fcntl", None)  # absent


@pytest.mark.usefixtures("windows")
def test_files_and_locks_of_windows(tmp_path: Path) -> None:
    path = tmp_path / "fold" / ".lock"
    with hold_lock(path) as first, hold_lock(path) as second:
        assert (first, second) == (True, False)
        write_text(tmp_path / "fold" / "a.txt", "while it is held")
        waiting = threading.Thread(target=lambda: hold_lock(path, wait=True).__enter__())
        waiting.start()
    waiting.join(timeout=10)
    assert not waiting.is_alive()
    assert os.listdir(tmp_path / "fold") == ["a.txt"]


@pytest.mark.usefixtures("windows")
def test_a_file_that_another_program_holds_on_windows(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="Close the programs that use it"), write_atomically(tmp_path / "a"):
        raise PermissionError(13, "Permission denied")
