"""Commands that run at the same time on one run: real processes, as users start them."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.processes import Command, run_command
from tests.tiny import TINY, set_options, write_png

from unetpp import load
from unetpp.data.store import ARRAYS
from unetpp.plan import read_plan


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for number in range(8):
        label = np.zeros((40, 40), np.uint8)
        label[8:24, 6 + number : 26] = 255
        write_png(folder / f"masks/case{number}.png", label)
        write_png(folder / f"images/case{number}.png", label // 2 + rng.integers(0, 60, label.shape, np.uint8))
    return folder


def train(data: Path, run: Path, *more: object, **settings: Any) -> Command:
    options = set_options({**TINY, "train.checkpoint_minutes": 0.001, **settings})
    return Command("train", data, "--out", run, "--epochs", 2, "--device", "cpu", *more, *options)


def test_of_two_trainings_of_one_fold_the_second_gets_one_message(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    both = [train(data, run, "--seed", seed, **{"train.steps_per_epoch": 20}) for seed in (1, 2)]
    told = {process: process.communicate(timeout=300) for process in both}
    codes = sorted(process.returncode for process in both)
    assert codes == [0, 2], told
    refused = next(process for process in both if process.returncode == 2)
    assert "Traceback" not in told[refused][1] and "fold_0: got a fold that is being trained" in told[refused][1]
    seed = 1 if refused is both[1] else 2
    assert json.loads((run / "plan.json").read_text())["train"]["seed"] == seed
    assert load(run / "fold_0/model.safetensors").plan.train.seed == seed
    steps = [json.loads(line).get("step", 0) for line in (run / "fold_0/log.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)
    assert not list(run.rglob(".lock")) and not list(run.rglob(".unetpp-*"))


@pytest.mark.slow
def test_two_folds_at_once_share_one_plan_and_one_cache(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    both = [train(data, run, "--fold", fold) for fold in (0, 1)]
    told = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    plan = read_plan(run / "plan.json").model_dump(mode="json", exclude={"reasons"})
    for fold in (0, 1):
        used = load(run / f"fold_{fold}/model.safetensors").plan.model_dump(mode="json", exclude={"reasons"})
        assert used == plan
    entries = sorted(path.name for path in (run / "cache").iterdir())
    assert len(entries) == 8 * len(ARRAYS) and not any(name.startswith(".") for name in entries)
    for path in (run / "cache").iterdir():
        np.load(path, allow_pickle=False)
    assert (run / "report.html").read_text().rstrip().endswith("</html>")


@pytest.mark.slow
def test_other_commands_beside_a_training(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    training = train(data, run, **{"train.steps_per_epoch": 2000})
    try:
        while not (run / "fold_0/last.ckpt").exists() and training.poll() is None:
            time.sleep(0.1)
        resumed = run_command("train", data, "--out", run, "--resume", "--device", "cpu")
        assert training.poll() is None, training.communicate()
        assert resumed.code == 2 and "a fold that is being trained" in resumed.stderr
        assert "Traceback" not in resumed.stderr
        assert run_command("report", run).code == 0
        predicted = run_command("predict", run, data / "images", "--out", tmp_path / "out", "--device", "cpu")
        assert predicted.code in (0, 2) and "Unexpected" not in predicted.stderr
    finally:
        training.send_signal(signal.SIGTERM)
        _, stderr = training.communicate(timeout=120)
    assert training.returncode in (0, 1) and "Traceback" not in stderr
