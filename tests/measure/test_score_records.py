"""Scores that survive their command: each case is recorded at once, and not scored again."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from tests.measure.test_score_shares import write
from tests.processes import Command

import unetpp
from unetpp.cluster.engine import HERE, HereEngine
from unetpp.errors import Interrupted, UsageError, WriteError
from unetpp.files import hold_lock
from unetpp.measure import folder_scores

CASES = 6


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return write(tmp_path / "p", CASES, 0), write(tmp_path / "r", CASES, 3)


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The cases that are scored from now on."""
    found, score = list[str](), folder_scores._score_files

    def listen(pair: Any, *arguments: Any) -> Any:
        found.append(pair.id)
        return score(pair, *arguments)

    monkeypatch.setattr(folder_scores, "_score_files", listen)
    return found


def stop_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lose the scheduler when some cases have been scored."""
    run = HereEngine.run

    def lose(self: Any, task: Any, units: Any, *, name: str, alone: bool = False) -> Any:
        for number, outcome in enumerate(run(self, task, units, name=name)):
            if name == "score" and number == count:
                raise Interrupted("The scheduler is gone.")
            yield outcome

    monkeypatch.setattr(HereEngine, "run", lose)


def test_what_a_lost_scheduler_leaves_is_done_and_no_more(
    folders: tuple[Path, Path], scored: list[str], tmp_path: Path
) -> None:
    unetpp.evaluate(*folders, tmp_path / "whole.json")
    assert not (tmp_path / "whole.json.parts").exists()
    out = tmp_path / "scores.json"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        stop_after(4, patch)
        unetpp.evaluate(*folders, out)
    assert not out.exists()
    scored.clear()
    found = unetpp.evaluate(*folders, out, resume=True)
    assert scored == ["c4", "c5"]
    assert found.notes[0] == "4 segmentations had been scored before, with the same files"
    assert out.read_bytes() == (tmp_path / "whole.json").read_bytes()
    scored.clear()
    unetpp.evaluate(*folders, out, resume=True)
    assert scored == []
    unetpp.evaluate(*folders, out)  # without it everything is done, and no record stays
    assert len(scored) == CASES
    assert not (tmp_path / "scores.json.parts").exists()
    assert out.read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_a_record_knows_its_files_and_how_they_were_read(
    folders: tuple[Path, Path], scored: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "scores.json"
    unetpp.evaluate(*folders, out, resume=True)
    scored.clear()
    os.utime(folders[0] / "c1.png", (1, 1))
    os.utime(folders[1] / "c4.png", (1, 1))
    unetpp.evaluate(*folders, out, resume=True)
    assert scored == ["c1", "c4"]
    scored.clear()
    unetpp.evaluate(*folders, out, resume=True, labels="objects")
    assert len(scored) == CASES
    lines = (tmp_path / "scores.json.parts/all.jsonl").read_text().splitlines()
    (tmp_path / "scores.json.parts/all.jsonl").write_text("\n".join([*lines[:-1], "{", '["score 1"]', lines[-1][:40]]))
    scored.clear()
    unetpp.evaluate(*folders, out, resume=True, labels="objects")
    assert scored == ["c5"]


def test_shares_resume_and_the_whole_takes_theirs(
    folders: tuple[Path, Path], scored: list[str], tmp_path: Path
) -> None:
    unetpp.evaluate(*folders, tmp_path / "whole.json")
    out = tmp_path / "scores.json"
    for part in ("1/2", "2/2", "1/2"):
        scored.clear()
        unetpp.evaluate(*folders, out, part=part, resume=True)
    assert scored == []
    unetpp.evaluate(*folders, out, resume=True)
    assert scored == []
    assert out.read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_a_command_that_is_killed_loses_the_case_in_flight(
    folders: tuple[Path, Path], scored: list[str], tmp_path: Path
) -> None:
    out, records = tmp_path / "scores.json", tmp_path / "scores.json.parts/all.jsonl"
    command = Command("evaluate", *folders, "--out", out, "--quiet", before=score_slowly)
    until = time.monotonic() + 60
    while not (records.exists() and records.read_text().count('"score ') == 2):
        assert time.monotonic() < until and command.poll() is None
        time.sleep(0.01)
    command.send_signal(signal.SIGKILL)
    command.communicate()
    assert not out.exists()
    found = unetpp.evaluate(*folders, out, resume=True)
    assert len(scored) == CASES - 2 and len(found.metrics.cases) == CASES
    assert len(json.loads(out.read_text())["cases"]) == CASES


def score_slowly() -> None:
    score, done = folder_scores._score_files, list[int]()

    def wait(*arguments: Any) -> Any:
        done.append(1)
        time.sleep(60 if len(done) == 3 else 0)
        return score(*arguments)

    folder_scores._score_files = wait


def test_two_commands_never_write_one_file_of_scores(folders: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "scores.json"
    with hold_lock(tmp_path / ".scores.json.lock"), pytest.raises(UsageError, match="another command scores"):
        unetpp.evaluate(*folders, out)
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(UsageError, match="resume=True without `out`"):
        unetpp.evaluate(*folders, resume=True)
    Path(f"{out}.parts").write_text("")
    with pytest.raises(WriteError, match="a folder for the records"):
        unetpp.evaluate(*folders, out)


def test_cases_are_counted_with_those_of_before(folders: tuple[Path, Path], tmp_path: Path) -> None:
    out, shown = tmp_path / "scores.json", list[tuple[int, int]]()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        stop_after(4, patch)
        unetpp.evaluate(*folders, out)
    from unetpp.measure.score_shares import ScoreSharing
    from unetpp.parts import WHOLE

    with ScoreSharing.open(WHOLE, out, resume=True) as sharing:
        assert sharing.engine is HERE
        folder_scores.evaluate_folders(*folders, lambda *counts: shown.append(counts), None, sharing)
    assert shown == [(5, CASES), (6, CASES)]
