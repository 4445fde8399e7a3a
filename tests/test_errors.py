"""Errors are structured, and only the command line writes flags."""

from __future__ import annotations

from pathlib import Path

import pytest

import unetpp
from unetpp.cli import _with_flags
from unetpp.errors import DataError, MissingExtraError, PlanError, Problem, UsageError, optional_package


def test_an_error_says_what_was_got_expected_and_what_to_do() -> None:
    error = UsageError("depth", "7", "1 to 4", "Change it.")
    assert str(error) == "depth: got 7; expected 1 to 4. Change it."
    assert error.problems == [Problem("depth", "7", "1 to 4", "Change it.", setting="depth")]


def test_a_file_is_no_setting() -> None:
    assert UsageError("runs/a b.json", "nothing", "a plan", "Make one.").problems[0].setting is None
    assert UsageError(Path("run"), "nothing", "a plan", "Make one.").problems[0].setting is None
    assert PlanError("runs/plan.json", "nothing", "a plan", "Make one.", setting="model").problems[0].setting == "model"


@pytest.mark.parametrize(
    ("action", "flags"),
    [
        ("Add `tta=True`.", "Add --tta."),
        ("Set `max_drop`, or `depth=2`.", "Set --max-drop, or --depth 2."),
        ('Set `device="cpu"`.', "Set --device cpu."),
        ("Set `train.batch=1`, or change `train.patch`.", "Set --set train.batch=1, or change train.patch."),
        ("Run `unetpp adapt` first.", "Run `unetpp adapt` first."),
    ],
)
def test_the_command_line_writes_flags(action: str, flags: str) -> None:
    assert _with_flags(UsageError("out", "no name", "one", action)) == f"--out: got no name; expected one. {flags}"


def test_several_problems_are_one_message() -> None:
    error = DataError([Problem("a.png", "1", "2", "Mend it."), Problem("b.png", "3", "4", "Mend it.")])
    assert str(error).startswith("2 problems with the data:\n  a.png: got 1;")
    assert len(error.problems) == 2


def test_problems_that_differ_in_the_file_alone_are_one_line() -> None:
    error = DataError([Problem(f"{number}.png", "a", "b", "Mend it.") for number in range(600)])
    assert str(error) == "0.png and 599 more: got a; expected b. Mend it."
    assert len(error.problems) == 600


def test_a_missing_extra_is_an_import_error() -> None:
    with (
        pytest.raises(ImportError, match=r"unetpp\[medical\]"),
        optional_package("SimpleITK", "medical", "Reading NRRD"),
    ):
        raise ModuleNotFoundError
    with pytest.raises(MissingExtraError, match="inner"), optional_package("outer", "all", "x"):
        raise MissingExtraError("inner", "medical", "y")


@pytest.mark.parametrize("name", [name for name in unetpp.__all__ if name.endswith("Error")])
def test_every_error_is_of_the_tree(name: str) -> None:
    assert issubclass(getattr(unetpp, name), unetpp.UnetppError)
