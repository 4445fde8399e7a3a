"""The log of a training that is resumed."""

from __future__ import annotations

import json
from pathlib import Path

from unetpp.train.log import Log, read_log


def test_what_came_after_the_checkpoint_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = Log(path)
    log.begin()
    for step in (1, 2, 3):
        log.write("train", step=step, loss=1.0)
        log.write("validation", step=step, number=step, dice=0.5)
    path.write_text(path.read_text() + '{"kind": "tra')
    log.begin(until_step=2, validations=1)  # the checkpoint of step 2 was written before its validation
    assert [(line["kind"], line["step"]) for line in read_log(path)[0]] == [
        ("train", 1),
        ("validation", 1),
        ("train", 2),
    ]
    log.begin()
    assert path.read_text() == ""


def test_a_change_that_came_after_the_checkpoint_is_left_out(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.jsonl")
    log.write("growth", step=3, phase=1)
    log.write("growth", step=6, phase=2)  # at the step of the checkpoint, but after it
    log.begin(until_step=6, validations=9, phase=1)
    assert [line["step"] for line in read_log(tmp_path / "log.jsonl")[0]] == [3]


def test_lines_of_other_shapes_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(map(json.dumps, ([], {"step": "a"}, {"kind": "encoder"}, {"step": None}))) + "\n")
    Log(path).begin(5, 5)
    assert path.read_text() == json.dumps({"kind": "encoder"}) + "\n"
