"""select.json: what it may hold, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unetpp.errors import ModelFileError
from unetpp.selection import SELECTED, Selection, Step, read_selection

GOOD: dict[str, Any] = {"format": 1, "members": [{"run": "a", "size": 2, "files": ["m.safetensors"]}]}


def write(folder: Path, **changes: Any) -> Path:
    (folder / "m.safetensors").write_bytes(b"")
    (folder / SELECTED).write_text(json.dumps(GOOD | changes), encoding="utf-8")
    return folder


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    steps = (Step(kind="smallest", classes=(1,), voxels=8),)
    found = read_selection(write(tmp_path)).merge(Selection(members=Selection(**GOOD).members, steps=steps))
    (tmp_path / SELECTED).write_text(found.to_json(), encoding="utf-8")
    assert read_selection(tmp_path) == found


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"members": [{"run": "a", "size": 2, "files": ["../x.safetensors"]}]}, "leads out of the folder"),
        ({"members": [{"run": "a", "size": 2, "files": ["/x.safetensors"]}]}, "leads out of the folder"),
        ({"members": [{"run": "a", "size": 2, "files": ["gone.safetensors"]}]}, "without gone.safetensors"),
        ({"members": []}, "members"),
        ({"steps": [{"kind": "largest", "classes": [0]}]}, "steps"),
        ({"steps": [{"kind": "erode", "classes": [1]}]}, "steps"),
        ({"threshold": 1.5}, "threshold"),
        ({"temperature": {"value": 0}}, "temperature"),
        ({"format": 2}, "format"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        read_selection(write(tmp_path, **changes))


def test_a_damaged_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / SELECTED).write_text("{", encoding="utf-8")
    with pytest.raises(ModelFileError, match="Run `unetpp select` again"):
        read_selection(tmp_path)
