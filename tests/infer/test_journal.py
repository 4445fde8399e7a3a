from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from unetpp.errors import UsageError, WriteError
from unetpp.files import append_line
from unetpp.infer.journal import FinishedFile, Journal
from unetpp.parts import Part

ONE = FinishedFile("", "key", "a.png", {"review": None})
TWO = FinishedFile("depth_1", "key", "b.png", {"source": "12"})


def test_what_is_appended_is_read_and_a_cut_line_is_left_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.begin()
    journal.append([ONE])
    (file,) = journal.folder.iterdir()
    with file.open("a") as opened:
        opened.write('[["", "key", "c.png", {"rev')  # a process that died
    journal.append([TWO])
    assert list(journal.read()) == [ONE, TWO]
    journal.remove()
    assert not journal.folder.exists()


def test_records_are_on_the_disk_within_a_second_of_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, seconds, synced = Journal(tmp_path), iter([10.0, 10.0, 10.4, 11.1, 11.1, 11.2]), list[int]()
    journal.begin()
    monkeypatch.setattr("unetpp.files.time", SimpleNamespace(monotonic=lambda: next(seconds)))
    monkeypatch.setattr("unetpp.files.os.fsync", lambda number: synced.append(len(list(journal.read()))))
    for _ in range(4):
        journal.append([ONE])
    assert len(list(journal.read())) == 4  # what a process survives, in any case
    assert synced == [1, 3]


def test_a_part_removes_its_own_and_the_whole_removes_all(tmp_path: Path) -> None:
    journals = [Journal(tmp_path, Part(index, 2)) for index in (1, 2)]
    for journal in journals:
        journal.begin()
        journal.append([ONE])
    journals[0].remove()
    assert len(list(journals[0].read())) == 1
    Journal(tmp_path).remove()
    assert not journals[0].folder.exists()


def test_a_part_that_ends_leaves_a_place_to_those_that_have_nothing_yet(tmp_path: Path) -> None:
    early, late = (Journal(tmp_path, Part(index, 2)) for index in (1, 2))
    early.begin()
    late.begin()
    early.append([ONE])
    early.remove()
    late.append([TWO])
    assert list(late.read()) == [TWO]


def test_a_folder_that_is_removed_just_before_a_line_is_written_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, calls = Journal(tmp_path), list[Path]()

    def write(path: Path, text: str, durable: bool) -> None:
        calls.append(path)
        if len(calls) < 3:
            path.parent.rmdir()
        append_line(path, text, durable)

    monkeypatch.setattr("unetpp.files.append_line", write)
    journal.begin()
    journal.append([ONE])
    assert list(journal.read()) == [ONE] and len(calls) == 3


def test_two_commands_on_one_folder_are_refused_and_parts_are_not(tmp_path: Path) -> None:
    with Journal(tmp_path, Part(1, 3)).hold(), Journal(tmp_path, Part(2, 3)).hold():
        for part in (Part(), Part(2, 3)):
            with pytest.raises(UsageError, match=r"another command .*`part`"), Journal(tmp_path, part).hold():
                pytest.fail("held")
    with (
        Journal(tmp_path).hold(),
        pytest.raises(UsageError, match="another command"),
        Journal(tmp_path, Part(1, 3)).hold(),
    ):
        pytest.fail("held")
    assert not list(tmp_path.glob(".*"))


def test_a_folder_that_has_vanished_is_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(WriteError):
        Journal(tmp_path / "gone").append([ONE])
    with pytest.raises(WriteError):
        Journal(tmp_path / "gone").begin()
