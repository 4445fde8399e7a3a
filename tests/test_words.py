"""Words for messages."""

from __future__ import annotations

import pytest

from unetpp import words
from unetpp.words import count_noun, find_value, format_value, join_command, list_some, merge_remarks, say_permit


def test_nouns_have_their_number() -> None:
    assert [count_noun(number, "case") for number in (0, 1, 1200)] == ["0 cases", "1 case", "1,200 cases"]


def test_long_lists_are_shortened() -> None:
    assert list_some("abc") == "a, b, c"
    assert list_some(range(5)) == "0, 1, 2 and 2 more"


def test_equal_remarks_are_one_line() -> None:
    remarks = [("a.png", "turned"), ("b.png", "gray"), ("c.png", "turned")]
    assert merge_remarks(remarks) == ["a.png and 1 more: turned", "b.png: gray"]


def test_values_on_one_line() -> None:
    values = {"model": {"strides": [[2, 2], [2, 2]], "slope": 0.01, "norm": None, "widths": [8, 16]}}
    assert format_value(find_value(values, "model")) == "{strides: 2 x [2, 2], slope: 0.01, widths: [8, 16]}"
    assert [format_value(value) for value in (True, None, "group")] == ["true", "null", "group"]
    assert find_value(values, "model.widths.first") is None


def test_commands_can_be_pasted_on_every_system(monkeypatch: pytest.MonkeyPatch) -> None:
    assert join_command(["unetpp", "check", "my cells"]) == "unetpp check 'my cells'"
    assert say_permit("my cells", folder=True) == "Run: chmod u+rx 'my cells'"
    monkeypatch.setattr(words, "_ON_WINDOWS", True)
    assert join_command(["unetpp", "check", "my cells"]) == 'unetpp check "my cells"'
    assert "Properties" in say_permit("my cells")
