"""Progress on terminals of any width, in notebooks, in scripts, and in Python."""

from __future__ import annotations

import inspect
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress as RichProgress

import unetpp
from unetpp.cli import JOURNEY, write_flags
from unetpp.console import Bars, FittedLine, Lines, open_console, shows_progress
from unetpp.progress import ShowProgress, Stage


class Recorder:
    """Progress that notes what it is told."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, str]] = []
        self.notes: list[str] = []

    def stage(self, title: str, unit: str = "") -> Stage:
        self.stages.append((title, unit))
        return lambda done, total, note="": None

    def note(self, text: str) -> None:
        self.notes.append(text)

    def detail(self, text: str) -> None:
        self.notes.append(text)


NOTE = "3:23 left, loss 1.488, Dice 0.066, validating, 1.9 images/s"


def show_bar(width: int, title: str = "Fold 0: training", note: str = NOTE) -> str:
    """The last picture of a bar on a terminal of some width, without colors."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None, legacy_windows=False)
    with RichProgress(FittedLine(console), console=console, auto_refresh=False) as display:
        bars = Bars(display, verbose=False)
        bars.stage(title, "steps")(1234, 20000, note)
        console.file = io.StringIO()
        display.refresh()
        shown = console.file.getvalue()
    return shown.split("\r")[-1].rpartition("\x1b[2K")[2].rstrip()


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 120])
def test_the_count_and_the_clock_are_whole_at_any_width(width: int) -> None:
    shown = show_bar(width)
    assert len(shown) < width
    assert "1,234/20,000 steps" in shown
    assert "0:00" in shown


def test_the_time_left_the_loss_and_the_dice_fit_80_columns() -> None:
    assert show_bar(80).endswith("3:23 left, loss 1.488, Dice 0.066")
    assert show_bar(120).endswith("validating, 1.9 images/s")
    assert "━" not in show_bar(60)
    assert show_bar(40).startswith("Fold")


def test_lines_come_at_the_end_and_not_too_often(capsys: pytest.CaptureFixture[str]) -> None:
    stage = Lines().stage("Reading", "files")
    for done in range(1, 101):
        stage(done, 100, "fine" if done == 100 else "")
    stage(100, 100, "again")
    assert capsys.readouterr().err == "Reading: 100/100 files, fine\n"


def test_a_stage_whose_count_is_not_known_yet_shows_its_remark(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unetpp.console.SECONDS_BETWEEN_LINES", 0.0)
    stage = Lines().stage("Fold 0: training", "steps")
    stage(0, 0, "starting")
    stage(5, 5)
    assert capsys.readouterr().err == "Fold 0: training: starting\nFold 0: training: 5/5 steps\n"


def test_a_stage_without_a_count_is_a_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    Lines().stage("Measuring this machine")
    Lines().detail("why")
    Lines(verbose=True).detail("because")
    assert capsys.readouterr().err == "Measuring this machine ...\nbecause\n"


def test_a_notebook_without_widgets_gets_lines_on_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("unetpp.console.find_spec", lambda name: None)
    with open_console() as progress:
        progress.note("hello")
    assert capsys.readouterr() == ("hello\n", "")


@shows_progress
def work(*, progress: ShowProgress = None) -> Any:
    """Return what it was given, and use it."""
    if progress:
        progress.stage("Working", "pieces")(1, 1)
    return progress


def test_the_argument_of_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    recorder = Recorder()
    assert work(progress=recorder) is recorder
    assert recorder.stages == [("Working", "pieces")]
    assert work(progress=False) is False
    assert capsys.readouterr() == ("", "")
    assert isinstance(work(), Lines)
    assert capsys.readouterr() == ("", "Working: 1/1 pieces\n")


def test_verbs_show_their_progress_to_users_of_python(cells: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unetpp.check(cells)
    assert capsys.readouterr() == ("", "Reading every file: 10/10 cases\n")
    unetpp.check(cells, progress=False)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("verb", [verb for verbs in JOURNEY.values() for verb in verbs])
def test_every_verb_shows_its_progress(verb: str) -> None:
    function = getattr(unetpp, verb)
    assert function.__wrapped__, "decorate it with shows_progress"
    assert inspect.signature(function).parameters["progress"].default is None


def test_notes_name_settings_as_flags_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with open_console(translate=write_flags) as progress:
        progress.note("note: `add_cases` takes them; or `train.batch=1`")
    assert capsys.readouterr().err == "note: --add-cases takes them; or --set train.batch=1\n"
