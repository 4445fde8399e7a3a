from __future__ import annotations

import os
from pathlib import Path

import pytest

from unetpp.errors import WriteError
from unetpp.files import write_json, write_text, written_aside


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    write_text(target, "old")
    with pytest.raises(RuntimeError), written_aside(target) as aside:
        aside.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.json"]


def test_no_space_left_is_told_and_loses_nothing(tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    write_text(target, "old")
    with pytest.raises(WriteError, match=r"No space left.*Free some space"), written_aside(target):
        raise OSError(28, "No space left on device")
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.json"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="another --out"):
        write_text(tmp_path / "file" / "below.txt", "x")


def test_compound_suffixes_are_kept_for_writers_that_look_at_them(tmp_path: Path) -> None:
    with written_aside(tmp_path / "case.nii.gz") as aside:
        assert aside.name.endswith(".nii.gz")
        aside.write_bytes(b"x")
    assert (tmp_path / "case.nii.gz").read_bytes() == b"x"


def test_json_has_no_numbers_that_json_does_not_know(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"dice": float("nan")})
    assert os.listdir(tmp_path) == []
