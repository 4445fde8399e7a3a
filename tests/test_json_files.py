"""JSON of anybody is read, or refused by a ValueError."""

from __future__ import annotations

from pathlib import Path

import pytest

from unetpp import json_files
from unetpp.json_files import parse_json, read_json


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"a":' * 100_000, "1" * 10_000, b"\xff", "nul"])
def test_what_is_no_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


def test_a_file_of_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.json").write_text('{"a": [1, 2]}', encoding="utf-8-sig")
    assert read_json(tmp_path / "a.json") == {"a": [1, 2]}
    monkeypatch.setattr(json_files, "LARGEST", 5)
    with pytest.raises(ValueError, match="up to"):
        read_json(tmp_path / "a.json")
