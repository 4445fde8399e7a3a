"""What is said of a training that was stopped, and of one that is finished: true, early, and with its command."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import torch
from tests.tiny import run_cli

import unetpp
from unetpp.errors import DataError, ModelFileError, UnetppError, UsageError
from unetpp.model.file import write_tensors
from unetpp.plan import Plan, read_plan
from unetpp.run_folder import CHECKPOINT, MODEL, RunFolder, find_model_files
from unetpp.verbs import fold_time
from unetpp.verbs.begun_folds import require_ready
from unetpp.verbs.fold_time import Clock
from unetpp.verbs.request import read_request
from unetpp.verbs.rest import Rest, find_end, find_rest
from unetpp.words import write_command


@pytest.fixture
def stopped(trained: Path, tmp_path: Path) -> RunFolder:
    """A run as Ctrl-C at step 9 leaves it: with a checkpoint, without a model."""
    run = RunFolder(tmp_path / "run")
    run.fold(0).mkdir(parents=True)
    for path in (run.plan, run.splits, run.fingerprint, run.data):
        shutil.copy(trained / path.name, path)
    write_checkpoint(run, read_plan(run.plan), 90.0)
    return run


def write_checkpoint(run: RunFolder, plan: Plan, budget_s: float | None) -> None:
    """Write the plan, and a checkpoint of step 9 of it."""
    run.plan.write_text(plan.to_json())
    state = json.dumps({"step": 9, "elapsed_s": 30.0, "budget_s": budget_s})
    metadata = {"unetpp_checkpoint": "1", "plan": plan.to_json(), "progress": state}
    write_tensors(run.fold(0) / CHECKPOINT, {"network.a": torch.zeros(1)}, metadata)


def test_a_stopped_training_says_how_far_it_got_and_how_it_goes_on(stopped: RunFolder) -> None:
    command = write_command("train", stopped.recall_data(), "--out", stopped.path, "--resume")
    said = re.escape("was stopped at step 9, without a model yet") + ".*" + re.escape(command)
    with pytest.raises(ModelFileError, match=said):
        find_model_files(stopped.path)
    with pytest.raises(ModelFileError, match=said):
        unetpp.info(stopped.path, measure=True)
    state = "a training that was stopped at step 9, without a model yet"
    text = unetpp.info(stopped.path).to_text()
    assert text.splitlines() == [str(stopped.path), f"state:      {state}", f"Next: {command}"]
    with pytest.raises(UnetppError, match=re.escape(f"Train it: `{command}`")):
        unetpp.report(stopped.path)
    (stopped.fold(0) / CHECKPOINT).unlink()
    with pytest.raises(ModelFileError, match="was stopped before it saved anything"):
        find_model_files(stopped.path)
    (stopped.fold(0) / MODEL).touch()
    assert "there is a model, but no last.ckpt" in stopped.describe_stop(0)
    (stopped.fold(0) / MODEL).unlink()
    stopped.fold(0).rmdir()
    begun = unetpp.info(stopped.path)
    assert isinstance(begun, unetpp.RunInfo) and begun.state == "a run of which no fold has begun"
    with pytest.raises(ModelFileError, match=r"no fold has begun.*Train it: `unetpp train .*run`"):
        find_model_files(stopped.path)


def test_the_report_of_a_stopped_training_names_the_command(stopped: RunFolder) -> None:
    line = {"kind": "start", "step": 0, "elapsed_s": 0.0, "time": 0.0}
    (stopped.fold(0) / "log.jsonl").write_text(json.dumps(line) + "\n")
    lines = unetpp.report(stopped.path).to_text().splitlines()
    state = "a training that was stopped at step 9, without a model yet"
    assert lines[-2:] == [f"State: {state}", f"Next: {stopped.write_resume(0)}"]
    page = (stopped.path / "report.html").read_text()
    assert f"A{state[1:]}." in page and "unetpp train DATA --out run --resume" in page


def test_the_same_command_again_is_refused_before_anything_is_read(stopped: RunFolder) -> None:
    """Without torch, which takes seconds to load, and without a look at the data."""
    code = "import sys; sys.modules['torch'] = None; import unetpp; unetpp.train(sys.argv[1], sys.argv[2])"
    done = subprocess.run(
        [sys.executable, "-c", code, stopped.path.parent, stopped.path], capture_output=True, text=True, check=False
    )
    assert "got a training that was stopped at step 9; expected a new run. Continue it: `" in done.stderr
    assert f"{stopped.write_resume(0)}`; or choose another" in done.stderr


@pytest.mark.parametrize("fold", [0, 1, "all"])
def test_folds_without_their_plan_are_not_planned_again(trained: Path, tmp_path: Path, fold: int | str) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("cache"))
    expected = (run / "plan.json").read_text()
    (run / "plan.json").unlink()
    with pytest.raises(
        UsageError, match=r"plan\.json: got no such file, though fold 0 has begun; .*Put it back: .*--json"
    ):
        unetpp.train(trained.parent / "data", run, device="cpu", fold=fold, resume=True)
    assert not (run / "plan.json").exists()
    (run / "plan.json").write_text(json.dumps(run_cli("info", run, "--json").json["plan"]))
    assert read_plan(run / "plan.json") == Plan.from_json(expected)


def test_the_command_is_that_of_the_folds_that_were_asked_for(stopped: RunFolder, trained: Path) -> None:
    with pytest.raises(UsageError, match=r"stopped at step 9; .* --fold all --resume`"):
        require_ready(stopped, "all", resume=False, adds=False)
    require_ready(stopped, "all", resume=True, adds=False)
    require_ready(stopped, 1, resume=False, adds=False)
    found = RunFolder(trained).metrics(0)
    assert found and found.verdict and found.verdict.more_minutes
    command = rf"--resume --minutes \+{found.verdict.more_minutes:g}`"
    with pytest.raises(UsageError, match=rf"a run with trained fold 0; .* {command}"):
        require_ready(RunFolder(trained), 0, resume=False, adds=False)


def test_a_finished_run_says_that_it_was_finished_and_names_one_length_for_more(trained: Path) -> None:
    done = unetpp.train(trained.parent / "data", trained, device="cpu", resume=True)
    first, *rest = done.to_text().splitlines()
    assert done.verdict and done.verdict.more_minutes and done.longer == done.command
    assert first == f"{trained} was already finished."
    assert sum("--minutes +" in line for line in rest) == 1 and f"Next: {done.command}" in rest
    assert not any("ms/tile" in line for line in rest)
    settled = replace(done, verdict=None, command="", longer="unetpp train DATA --resume --minutes +10")
    lines = settled.to_text().splitlines()
    assert lines[0] == f"{trained} was already finished; `{settled.longer}` trains it longer."
    assert sum("--minutes +" in line for line in lines) == 1


def test_a_training_that_is_continued_has_an_end(stopped: RunFolder, trained: Path) -> None:
    plan, more = read_plan(stopped.plan), read_request("+10", None, None)
    timed = plan.changed({"train.minutes": 2})
    nothing = read_request(None, None, None)
    rest = find_rest(stopped, [0], timed, nothing)
    assert (
        rest and rest.text == "1.2 minutes left after the start-up, from step 9"
    )  # 60 s of its 90 s, and a tenth of 2 minutes
    end = find_end(rest, 2, 1, Clock())
    assert end and timedelta(seconds=70) < end - datetime.now() < timedelta(seconds=75)
    both = find_rest(stopped, [0, 1], timed, nothing)
    assert both and both.text == "3.2 minutes left after the start-up of 2 folds"
    longer = find_rest(RunFolder(trained), [0], plan, more)
    assert longer and (longer.text, longer.seconds) == ("10 more minutes", 600)
    end = find_end(longer, 2, 1, Clock(time.monotonic() - 30))  # its minutes count from the start of the command
    assert end and timedelta(seconds=565) < end - datetime.now() < timedelta(seconds=571)
    epochs = find_rest(RunFolder(trained), [0], plan, read_request(None, "+1", None))
    assert epochs and (epochs.text, epochs.seconds) == ("1 more epoch", None)
    assert epochs.steps == plan.train.steps_per_epoch and find_end(epochs, None, 1, Clock()) is None
    assert find_rest(RunFolder(trained), [0], plan, nothing) == Rest("nothing is left", 0.0, 0)
    assert find_rest(stopped, [1], plan, more) is None
    assert not (stopped.fold(0) / MODEL).exists()


def test_a_dry_run_of_a_finished_training_measures_nothing_and_says_how_to_go_on(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fold_time, "load_libraries", lambda progress: pytest.fail("loaded"))
    planned = unetpp.train(trained.parent / "data", trained, device="cpu", resume=True, dry_run=True)
    lines = planned.to_text().splitlines()
    assert "Training: nothing is left" in lines and f"Ends:     at once; results in {trained}" in lines
    assert lines[-1].startswith("Train it longer: ") and "--resume --minutes +" in lines[-1]
    assert "Measuring a training step" not in capsys.readouterr().err


@pytest.mark.parametrize("budget_s", [90.0, None])
def test_a_dry_run_of_a_training_that_is_continued_tells_what_is_left(
    stopped: RunFolder, trained: Path, budget_s: float | None
) -> None:
    settings = {"train.minutes": 2} if budget_s else {"train.minutes": None, "train.epochs": 2}
    plan = read_plan(stopped.plan).changed({**settings, "train.steps_per_epoch": 10})
    write_checkpoint(stopped, plan, budget_s)
    planned = unetpp.train(trained.parent / "data", stopped.path, device="cpu", resume=True, dry_run=True)
    (length,) = (line for line in planned.to_text().splitlines() if line.startswith("Training: "))
    if budget_s:
        assert length == "Training: 1.2 minutes left after the start-up, from step 9, scoring included"
        assert "about 1.2 minutes after the start-up;" in planned.to_text()
        assert planned.train_minutes == pytest.approx(1.2)
    else:
        assert length == "Training: 11 steps left, from step 9, then every depth is scored and timed"
        assert planned.steps == 11 and planned.train_minutes


def test_a_run_folder_is_no_data_set(stopped: RunFolder) -> None:
    with pytest.raises(DataError, match="got a run folder; expected a data set"):
        unetpp.train(stopped.path, resume=True)
    with pytest.raises(DataError, match="got a run folder; expected a data set"):
        unetpp.plan(stopped.path)
    found = unetpp.check(stopped.path)
    assert found.exit_code == 2 and "got a run folder; expected a data set" in found.to_text()
