"""Words for messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from unetpp import words
from unetpp.files import write_text
from unetpp.run_folder import RunFolder
from unetpp.words import (
    count_noun,
    find_value,
    format_size,
    format_time,
    format_value,
    list_some,
    merge_remarks,
    say_permit,
    shorten,
    wrap,
    write_command,
)


def test_nouns_have_their_number() -> None:
    assert [count_noun(number, "case") for number in (0, 1, 1200)] == ["0 cases", "1 case", "1,200 cases"]
    assert [count_noun(number, "minute") for number in (0.5, 1.0, 20.0)] == ["0.5 minutes", "1 minute", "20 minutes"]


def test_long_texts_lose_their_middle() -> None:
    assert shorten("abc" * 9) == "abc" * 9
    assert shorten("start" + "-" * 99 + "end", 15) == "start ... --end"


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


def test_times_as_a_clock_shows_them() -> None:
    assert [format_time(seconds) for seconds in (0, 43.4, 725, 3723)] == ["0:00", "0:43", "12:05", "1:02:03"]


def test_long_lines_break_between_words_and_commands_stay_whole() -> None:
    command = "unetpp predict " + "x" * 30
    assert wrap(f"one two-three four five six\n  seven eight nine ten eleven\nNext: {command}\n  {command}", 20).split(
        "\n"
    ) == [
        "one two-three four",
        "  five six",
        "  seven eight nine",
        "    ten eleven",
        "Next:",
        f"  {command}",
        f"  {command}",
    ]


def test_the_words_before_a_command_break_and_those_of_an_error_are_none() -> None:
    text = "Stopped; all is saved. Continue: unetpp train 'my cells' --out run --resume"
    assert wrap(text, 30).split("\n") == [
        "Stopped; all is saved.",
        "  Continue:",
        "  unetpp train 'my cells' --out run --resume",
    ]
    missing = "unetpp: unetpp train needs the package x, not installed. Run: pip install x"
    assert wrap(missing, 40).split("\n") == [
        "unetpp: unetpp train needs the package",
        "  x, not installed. Run:",
        "  pip install x",
    ]
    assert wrap("See the page https://example.org/a-page-of-words for more", 20).split("\n")[1:] == [
        "  https://example.org/a-page-of-words",
        "  for more",
    ]


def test_a_line_breaks_around_a_command_in_backquotes() -> None:
    text = wrap("one two three four `unetpp train 'my cells'` five six", 20)
    assert text.split("\n") == ["one two three four", "  `unetpp train 'my cells'`", "  five six"]


def test_paths_below_the_current_folder_are_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = RunFolder(tmp_path / "run")
    for place, short in ((tmp_path / "data/a", "data/a"), (tmp_path, str(tmp_path)), (f"{tmp_path}2", f"{tmp_path}2")):
        write_text(run.data, f"{place}\n")
        assert run.recall_data() == short


def test_sizes_of_files() -> None:
    assert [format_size(each) for each in (7.23, 0.1, 0.0354)] == ["7.2 MB", "0.1 MB", "35 kB"]


def test_commands_can_be_pasted_on_every_system(monkeypatch: pytest.MonkeyPatch) -> None:
    assert write_command("train", "my cells", "--minutes", 20) == "unetpp train 'my cells' --minutes 20"
    assert say_permit("my cells", folder=True) == "Run: chmod u+rx 'my cells'"
    monkeypatch.setattr(words, "_ON_WINDOWS", True)
    assert write_command("check", "my cells") == 'unetpp check "my cells"'
    assert "Properties" in say_permit("my cells")
