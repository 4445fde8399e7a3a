"""Training that is interrupted at any moment and resumed ends with the same weights, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.plans import small_plan
from unetpp.data.store import StoredCase
from unetpp.errors import Interrupted, ModelFileError, UnetppError
from unetpp.measure.validation import DepthValidation
from unetpp.metrics.scores import Validation
from unetpp.model.header import read_header
from unetpp.model_notes import Training
from unetpp.plan import Plan
from unetpp.run_folder import CHECKPOINT, LOG, MODEL
from unetpp.train import trainer
from unetpp.train.log import read_log
from unetpp.train.trainer import Extension, FoldTraining

CPU = torch.device("cpu")
# dropout and batch statistics are state that a careless resume would lose
SETTINGS: dict[str, Any] = {"train.epochs": 3, "train.checkpoint_minutes": 1e-9}


def make_store(folder: Path, cases: int = 3) -> list[StoredCase]:
    rng = np.random.default_rng(0)
    stored = []
    for number in range(cases):
        label = np.zeros((20, 24), np.uint8)
        label[5:12, 4 + number : 14] = 1
        image = (label[None] + 0.1 * rng.normal(size=(1, 20, 24))).astype(np.float16)
        case = StoredCase(f"case {number}", folder / f"case{number}")
        np.save(f"{case.stem}.image.npy", image)
        np.save(f"{case.stem}.label.npy", label)
        rows = np.argwhere(label > 0)
        np.save(f"{case.stem}.foreground.npy", np.column_stack([np.ones(len(rows)), rows]).astype(np.int32))
        stored.append(case)
    return stored


def make_plan(**settings: Any) -> Plan:
    return small_plan(settings={**SETTINGS, **settings}, norm="batch", dropout=0.1)


class Scores:
    """Validation that returns the given scores in turn, then the last one again; `then` is called at the first call."""

    def __init__(self, *scores: float, then: Any = None) -> None:
        self.scores, self.calls, self.then = scores, 0, then

    def __call__(self, network: nn.Module) -> Validation:
        assert not network.training
        score = self.scores[min(self.calls, len(self.scores) - 1)]
        self.calls += 1
        if self.then and self.calls == 1:
            self.then()
        return Validation({1: score, 2: score})


def mean_weight(network: nn.Module) -> Validation:
    """Return a score that changes with any weight."""
    score = float(sum(weight.double().abs().mean() for weight in network.parameters()))
    return Validation({1: score, 2: score})


def train(tmp_path: Path, name: str, plan: Plan, validate: Any = mean_weight, resume: bool = False) -> Training:
    return FoldTraining(plan, make_store(tmp_path), tmp_path / name, device=CPU, validate=validate).run(resume)


def test_the_model_says_of_how_many_cases_its_scores_are_while_it_is_trained(tmp_path: Path) -> None:
    some = {"validation_cases": 1, "held_out": 8}
    FoldTraining(make_plan(), make_store(tmp_path), tmp_path, device=CPU, validate=mean_weight, **some).run()
    assert read_header(tmp_path / MODEL).notes.count_cases() == {"dice": "1 of 8"}


def same(first: Path, second: Path) -> bool:
    a, b = load_file(first), load_file(second)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_training_lowers_the_loss_and_writes_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "LOG_EVERY_S", -1.0)
    result = train(tmp_path, "fold_0", make_plan(**{"train.epochs": 15, "train.learning_rate": 0.01}))
    assert (result.reason, result.steps) == ("finished", 60)
    assert sorted(os.listdir(tmp_path / "fold_0")) == [CHECKPOINT, LOG, MODEL]
    lines = [json.loads(line) for line in (tmp_path / "fold_0" / LOG).read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    assert [line["kind"] for line in lines if line["kind"] != "train"] == [
        "start",
        "validation",
        "validation",
        "validation",
        "end",
    ]
    assert len(losses) == 60
    validated = [line["train_loss"] for line in lines if line["kind"] == "validation"]
    assert validated == [pytest.approx(np.mean(losses[start : start + 20])) for start in (0, 20, 40)]
    assert np.mean(losses[-5:]) < 0.7 * losses[0]


def test_the_seed_determines_the_weights(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(tmp_path, name, make_plan(**{"train.seed": seed}))
    assert same(tmp_path / "a" / MODEL, tmp_path / "b" / MODEL)
    assert not same(tmp_path / "a" / MODEL, tmp_path / "c" / MODEL)


@pytest.mark.parametrize("step", [1, 4, 5, 11])
def test_an_interruption_by_signal_and_resuming_change_nothing(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tmp_path, "whole", make_plan())
    after_step = FoldTraining._after_step

    def stop(self: FoldTraining, done: int, loss: float) -> str:
        if done == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return after_step(self, done, loss)

    with (
        monkeypatch.context() as patch,
        pytest.raises(Interrupted, match=f"SIGTERM after step {step}; everything"),
    ):
        patch.setattr(FoldTraining, "_after_step", stop)
        train(tmp_path, "stopped", make_plan())
    train(tmp_path, "stopped", make_plan(), resume=True)
    assert same(tmp_path / "whole" / MODEL, tmp_path / "stopped" / MODEL)
    assert same(tmp_path / "whole" / CHECKPOINT, tmp_path / "stopped" / CHECKPOINT)
    steps = [
        json.loads(line)["step"]
        for line in (tmp_path / "stopped" / LOG).read_text().splitlines()
        if '"validation"' in line
    ]
    assert steps == [4, 8, 12]


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tests.train import test_trainer as t
from unetpp.train import trainer
kill_at = int(sys.argv[2])
saves = 0
def save(*arguments, original=trainer.save_checkpoint):
    global saves
    saves += 1
    if saves == kill_at:
        os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # dies with the checkpoint half written
    original(*arguments)
trainer.save_checkpoint = save
t.train(Path(sys.argv[1]), "killed", t.make_plan())
"""


@pytest.mark.parametrize("save", [4])
def test_a_kill_while_writing_a_checkpoint_and_resuming_change_nothing(tmp_path: Path, save: int) -> None:
    train(tmp_path, "whole", make_plan())
    root = str(Path(__file__).parents[2])
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), str(save), root],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    train(tmp_path, "killed", make_plan(), resume=True)
    assert same(tmp_path / "whole" / MODEL, tmp_path / "killed" / MODEL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(("validations", "step"), [(1, 12), (3, 4)])
def test_a_signal_breaks_a_validation_off_which_is_done_after_resuming(
    tmp_path: Path, validations: int, step: int, number: signal.Signals
) -> None:
    plan = make_plan(**{"train.validations": validations})
    train(tmp_path, "whole", plan)
    with pytest.raises(Interrupted, match=f"{number.name} after step {step};"):
        train(tmp_path, "stopped", plan, Scores(0.5, then=lambda: os.kill(os.getpid(), number)))
    assert not (tmp_path / "stopped" / MODEL).exists()
    assert train(tmp_path, "stopped", plan, resume=True).reason == "finished"
    assert same(tmp_path / "whole" / MODEL, tmp_path / "stopped" / MODEL)


def test_patience_ends_training_and_the_best_weights_are_saved(tmp_path: Path) -> None:
    plan = make_plan(**{"train.epochs": 6, "train.validations": 6, "train.patience": 2})
    result = train(tmp_path, "fold_0", plan, Scores(0.1, 0.9, 0.5))
    assert (result.reason, result.best_dice, result.best_step, result.steps) == ("patience", 0.9, 8, 16)


def test_the_dice_of_training_cases_is_logged_and_changes_no_weight(tmp_path: Path) -> None:
    plan, cases = make_plan(), make_store(tmp_path)
    for name, training in (("both", cases), ("one", [])):
        train(tmp_path, name, plan, DepthValidation(cases[:1], plan, CPU, training))
    lines = [line for line in read_log(tmp_path / "both" / LOG)[0] if line["kind"] == "validation"]
    assert lines and all(line["train_dice"] == line["dice"] for line in lines)  # they are the same case
    assert same(tmp_path / "both" / MODEL, tmp_path / "one" / MODEL)
    assert all("train_dice" not in line for line in read_log(tmp_path / "one" / LOG)[0])


def test_of_equal_scores_the_later_weights_are_saved(tmp_path: Path) -> None:
    """Small structures are missed altogether at first: no reason to stop, nor to save weights hardly trained."""
    plan = make_plan(**{"train.epochs": 6, "train.validations": 6, "train.patience": 2})
    result = train(tmp_path, "fold_0", plan, Scores(0.0))
    assert (result.reason, result.best_step, result.steps) == ("finished", 24, 24)


def test_settings_that_do_not_affect_the_weights_may_change_on_resume(tmp_path: Path) -> None:
    train(tmp_path, "whole", make_plan())
    with pytest.raises(Interrupted):
        train(tmp_path, "stopped", make_plan(), Scores(0.5, then=lambda: os.kill(os.getpid(), signal.SIGTERM)))
    train(tmp_path, "stopped", make_plan(**{"train.checkpointing": True, "predict.batch": 1}), Scores(0.6), resume=True)
    whole, stopped = load_file(tmp_path / "whole" / CHECKPOINT), load_file(tmp_path / "stopped" / CHECKPOINT)
    assert all(torch.equal(whole[name], stopped[name]) for name in whole if name.startswith("network."))


def test_a_finished_training_is_not_trained_again(tmp_path: Path) -> None:
    train(tmp_path, "fold_0", make_plan())
    before = (tmp_path / "fold_0" / MODEL).stat().st_mtime_ns
    assert train(tmp_path, "fold_0", make_plan(), Scores(9.0), resume=True).reason == "finished"
    assert (tmp_path / "fold_0" / MODEL).stat().st_mtime_ns == before


def test_a_checkpoint_of_another_plan_or_a_truncated_one_is_refused(tmp_path: Path) -> None:
    train(tmp_path, "fold_0", make_plan())
    for other in (
        small_plan(settings=SETTINGS, widths=(4, 6, 9), norm="batch", dropout=0.1),
        make_plan(**{"train.batch": 3}),
    ):
        with pytest.raises(ModelFileError, match=r"differs in .*(model\.widths|train\.batch).*`out`"):
            train(tmp_path, "fold_0", other, resume=True)
    checkpoint = tmp_path / "fold_0" / CHECKPOINT
    checkpoint.write_bytes(checkpoint.read_bytes()[:-5])
    with pytest.raises(ModelFileError, match="truncated"):
        train(tmp_path, "fold_0", make_plan(), resume=True)


def test_a_loss_that_is_not_finite_is_reported_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(
        UnetppError, match=r"step \d+: got a loss of .*; expected a finite number.*`train.learning_rate="
    ):
        train(tmp_path, "fold_0", make_plan(**{"train.learning_rate": 1e30, "train.warmup": 0, "train.epochs": 20}))


def test_a_budget_in_seconds_is_respected(tmp_path: Path) -> None:
    training = FoldTraining(
        make_plan(), make_store(tmp_path), tmp_path / "fold_0", device=CPU, validate=mean_weight, budget_s=2.0
    )
    result = training.run()
    assert result.reason == "finished"
    assert result.seconds < 4


def test_within_a_budget_in_seconds_patience_does_not_end_training(tmp_path: Path) -> None:
    plan, rounds = make_plan(**{"train.validations": 8, "train.patience": 1}), []
    training = FoldTraining(
        plan,
        make_store(tmp_path),
        tmp_path / "fold_0",
        device=CPU,
        validate=Scores(0.9, 0.5),
        budget_s=60.0,
        rebudget=lambda elapsed_s: rounds.append(elapsed_s) or 2.0,
    )
    result = training.run()
    assert (result.reason, result.best_dice) == ("finished", 0.9)
    assert 2 <= result.seconds < 10
    assert rounds[0] < 0.5  # at the start, then after each validation
    assert len(rounds) > 3


@pytest.mark.parametrize("name", [CHECKPOINT, MODEL])
def test_what_was_written_first_is_read_back(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that loses data ends a training in its first minutes, not after its last."""
    write = trainer.save_checkpoint if name == CHECKPOINT else trainer.save_model

    def lose(path: Path, *arguments: Any) -> None:
        write(path, *arguments)
        path.write_bytes(path.read_bytes()[:-5])

    monkeypatch.setattr(trainer, write.__name__, lose)
    with pytest.raises(ModelFileError, match=f"{name}.*truncated"):
        train(tmp_path, "fold_0", make_plan())


def test_activation_checkpointing_changes_no_weight(tmp_path: Path) -> None:
    for name, checkpointing in (("stored", False), ("recomputed", True)):
        train(tmp_path, name, make_plan(**{"train.checkpointing": checkpointing}))
    assert same(tmp_path / "stored" / MODEL, tmp_path / "recomputed" / MODEL)


def extend(tmp_path: Path, name: str, validate: Any, epochs: int = 2) -> Training:
    training = FoldTraining(make_plan(), make_store(tmp_path), tmp_path / name, device=CPU, validate=validate)
    return training.run(resume=True, more=Extension(epochs=epochs))


def test_a_finished_training_can_be_extended(tmp_path: Path) -> None:
    first = train(tmp_path, "fold_0", make_plan(), Scores(0.5))
    longer = extend(tmp_path, "fold_0", Scores(0.4, 0.6))
    assert (first.steps, longer.steps, longer.reason, longer.best_dice) == (12, 20, "finished", 0.6)
    lines = [json.loads(line) for line in (tmp_path / "fold_0" / LOG).read_text().splitlines()]
    assert [line["kind"] for line in lines].count("end") == 2
    rates = [line["learning_rate"] for line in lines if line["kind"] == "train"]
    assert max(rates[-1:]) < 0.3 * make_plan().train.learning_rate
    again = extend(tmp_path, "fold_0", Scores(0.1), epochs=1)
    assert (again.steps, again.best_dice, again.best_step) == (24, 0.6, longer.best_step)


def test_a_training_in_seconds_is_extended_by_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "LOG_EVERY_S", -1.0)
    seconds: dict[str, Any] = {"device": CPU, "validate": Scores(0.5), "rebudget": lambda elapsed_s: 1.0}
    cases = make_store(tmp_path)
    first = FoldTraining(make_plan(), cases, tmp_path / "fold_0", budget_s=1.0, **seconds).run()
    training = FoldTraining(make_plan(), cases, tmp_path / "fold_0", **seconds)
    time.sleep(0.2)  # preparing a training takes time, which is none of the schedule
    longer = training.run(resume=True, more=Extension(budget_s=1.0))
    assert 0.9 < longer.seconds - first.seconds < 3
    lines = [json.loads(line) for line in (tmp_path / "fold_0" / LOG).read_text().splitlines()]
    rates = [line["learning_rate"] for line in lines if line["kind"] == "train" and line["step"] > first.steps]
    assert 0 <= min(rates) < max(rates) <= 0.3 * make_plan().train.learning_rate


def test_an_extension_that_is_interrupted_and_resumed_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("whole", "stopped"):
        train(tmp_path, name, make_plan())
    extend(tmp_path, "whole", mean_weight)

    def stop() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        extend(tmp_path, "stopped", Scores(0.0, then=stop))
    # the same command again goes on; it adds nothing, as the training had not ended
    assert extend(tmp_path, "stopped", mean_weight).steps == 20
    assert same(tmp_path / "whole" / CHECKPOINT, tmp_path / "stopped" / CHECKPOINT)


def test_without_validation_the_last_weights_are_the_model(tmp_path: Path) -> None:
    done = train(tmp_path, "none", make_plan(), None)
    assert (done.reason, done.best_dice, done.best_step) == ("finished", None, 12)
    weights, state = load_file(tmp_path / "none" / MODEL), load_file(tmp_path / "none" / CHECKPOINT)
    assert all(torch.equal(weight, state[f"average.{name}"]) for name, weight in weights.items())
    assert "validation" not in (tmp_path / "none" / LOG).read_text()
