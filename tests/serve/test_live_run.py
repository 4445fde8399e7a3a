"""What is told of a training while it runs, whatever state its folder is in."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from tests.serve.conftest import MakeState

from unetpp.serve.live_run import SILENT_S, read_live_run
from unetpp.serve.state import ServerState


def test_a_finished_run(trained: Path) -> None:
    live = read_live_run(trained)
    (fold,) = live.folds
    assert fold.state == "finished" and fold.step == 6 and fold.seconds_left is None
    assert fold.losses and set(fold.validations[-1].sizes) == {"1", "2"}
    assert fold.best_dice == max(each.dice or 0 for each in fold.validations)


def test_a_run_that_runs(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    log = run / "fold_0" / "log.jsonl"
    lines = [line for line in log.read_text().splitlines() if json.loads(line)["kind"] not in ("end", "measured")]
    log.write_text("\n".join(lines[:-1]) + '\n{"kind": "tra')  # half a line
    (fold,) = read_live_run(run).folds
    assert fold.state == "running" and fold.seconds_left is not None
    old = log.stat().st_mtime - 2 * SILENT_S
    os.utime(log, (old, old))
    assert read_live_run(run).folds[0].state == "silent"
    log.write_text("")
    assert read_live_run(run).folds[0].state == "waiting"
    (run / "plan.json").write_text("{")
    assert read_live_run(run).folds[0].state == "waiting"


def test_a_run_that_has_not_begun(tmp_path: Path) -> None:
    assert "not begun" in read_live_run(tmp_path).problem


def test_the_server_follows_a_run(
    make_state: MakeState, open_client: Callable[[ServerState], TestClient], trained: Path
) -> None:
    state = make_state([], data=None, run=trained)
    client = open_client(state)
    assert client.get("/v1/run").json()["folds"][0]["step"] == 6
    assert client.get("/v1/server").json()["has_run"] and client.get("/v1/models").json() == []
    state.stopping.set()
    with client.stream("GET", "/v1/run/events") as stream:
        assert '"step":6' in next(stream.iter_lines())


def test_validation_cases_are_shown_as_they_grow(
    make_state: MakeState, open_client: Callable[[ServerState], TestClient], trained: Path
) -> None:
    client = open_client(make_state([], data=None, run=trained))
    fold = client.get("/v1/run").json()["folds"][0]
    assert [case["number"] for case in fold["growing"]] == [0, 1]
    steps = [point["step"] for point in fold["validations"]]
    for case in fold["growing"]:
        assert case["steps"] == steps
        for what in ("image", "label", steps[-1]):
            answer = client.get(f"/v1/run/growing/0/{case['number']}_{what}.png")
            assert answer.status_code == 200 and answer.content.startswith(b"\x89PNG")
    for path in ("0/0_999.png", "1/0_image.png", "0/cases.json", "0/..%2Flog.jsonl", "../0_image.png"):
        assert client.get(f"/v1/run/growing/{path}").status_code == 404


def test_labels_that_look_wrong_are_listed_with_pictures(
    make_state: MakeState, open_client: Callable[[ServerState], TestClient], trained: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    path = run / "fold_0" / "metrics.json"
    metrics = json.loads(path.read_text())
    for number, case in enumerate(metrics["cases"]):
        case["mean"]["dice"], case["expected_dice"] = (0.1, 0.9) if number else (0.9, 0.9)
    path.write_text(json.dumps(metrics))
    client = open_client(make_state([], data=None, run=run))
    (found,) = client.get("/v1/run/labels").json()
    assert (found["id"], found["dice"], found["fold"]) == (metrics["cases"][1]["id"], 0.1, "0")
    assert client.get(found["picture"]).content.startswith(b"\x89PNG")
    for bad in ("0/0123456789abcdef.png", "7/0123456789abcdef.png", "0/log.png"):
        assert client.get(f"/v1/run/labels/{bad}").status_code == 404


@pytest.mark.parametrize("path", ["/v1/run", "/v1/run/events", "/v1/run/labels", "/v1/run/growing/0/0_image.png"])
def test_a_server_without_a_run_says_so(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404 and "serve --run RUN" in answer.json()["detail"]
