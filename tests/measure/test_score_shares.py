"""Scores of shares, which meet in one file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unetpp
from unetpp.errors import UsageError
from unetpp.measure.score_shares import ScoreSharing
from unetpp.parts import Part


def write(folder: Path, count: int, seed: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        mask = np.random.default_rng(seed + number).random((12, 15)) < 0.4
        Image.fromarray(255 * mask.astype(np.uint8)).save(folder / f"c{number}.png")
    return folder


def test_shares_meet_in_the_scores_of_all(tmp_path: Path) -> None:
    folders = write(tmp_path / "p", 5, 0), write(tmp_path / "r", 6, 3)
    unetpp.evaluate(*folders, tmp_path / "whole.json")
    out = tmp_path / "scores.json"
    first = unetpp.evaluate(*folders, out, part="3/3")
    assert first.notes[0] == "shares 1, 2 of 3 are not there yet: these are scores of the others"
    assert len(json.loads(out.read_text())["cases"]) == 1
    assert len(unetpp.evaluate(*folders, out, part="1/3").metrics.cases) == 3
    last = unetpp.evaluate(*folders, out, part="2/3")
    assert not any("not there" in note for note in last.notes)
    assert out.read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "p",
        "r",
        "scores.json",
        "scores.json.parts",
        "whole.json",
    ]
    unetpp.evaluate(*folders, out, part="3/3")  # a requeued job
    assert out.read_bytes() == (tmp_path / "whole.json").read_bytes()


def test_shares_of_other_files_do_not_count(tmp_path: Path) -> None:
    folders = write(tmp_path / "p", 4, 0), write(tmp_path / "r", 4, 3)
    unetpp.evaluate(*folders, tmp_path / "scores.json", part="1/2")
    write(tmp_path / "p", 4, 50)
    (tmp_path / "scores.json.parts/1-of-2.json").touch()
    found = unetpp.evaluate(*folders, tmp_path / "scores.json", part="2/2")
    assert "share 1 of 2 is not there yet" in found.notes[0]
    (tmp_path / "scores.json.parts/1-of-2.json").write_text("{")
    assert "share 1 of 2 is not there yet" in unetpp.evaluate(*folders, tmp_path / "scores.json", part="2/2").notes[0]
    unetpp.evaluate(*folders, tmp_path / "scores.json", part="1/2")
    read_otherwise = unetpp.evaluate(*folders, tmp_path / "scores.json", labels="objects", part="2/2")
    assert "share 1 of 2 is not there yet" in read_otherwise.notes[0]


def test_a_share_needs_a_place_to_meet(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="1/2 without `out`"):
        unetpp.evaluate(write(tmp_path / "p", 2, 0), write(tmp_path / "r", 2, 3), part="1/2")
    with ScoreSharing.open(Part(1, 1), None, resume=False) as sharing:
        assert sharing.records.file is None
