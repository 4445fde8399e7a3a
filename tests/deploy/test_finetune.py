"""A pruned network that is trained further."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.tiny import run_cli

from unetpp.deploy import finetune as module
from unetpp.deploy.finetune import finetune
from unetpp.errors import UsageError
from unetpp.model.file import load_model
from unetpp.model_notes import FineTuning
from unetpp.run_folder import MODEL
from unetpp.train.trainer import Validation

CPU = torch.device("cpu")


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_model(path)[0].state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_pruned_network_goes_on_from_its_weights(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    training = module.FoldTraining

    def spy(*arguments: object, **options: object) -> object:
        seen.append(training(*arguments, **options))  # type: ignore[arg-type]
        seen.append({name: value.clone() for name, value in seen[0].network.state_dict().items()})
        return seen[0]

    monkeypatch.setattr(module, "FoldTraining", spy)
    plain, tuned = tmp_path / "plain.safetensors", tmp_path / "tuned.safetensors"
    assert run_cli("prune", trained, "--depth", 1, "--out", plain).code == 0
    answer = run_cli("prune", trained, "--depth", 1, "--minutes", 0.02, "--out", tuned, "--device", "cpu")
    assert answer.code == 0
    assert "ine-tuned for" in answer.stdout
    assert same(seen[1], weights(plain))
    assert not same(seen[0].network.state_dict(), weights(plain))
    header = load_model(tuned)[1]
    better = header.notes.finetuning is not None
    assert better != same(weights(tuned), weights(plain))
    if better:
        row, tuning = header.notes.depths[1], header.notes.finetuning
        assert row.dice == tuning.dice > tuning.dice_before
        assert row.hd95_mm is None


def test_the_weights_before_it_are_kept_where_they_are_better(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, header = load_model(trained / "fold_0" / MODEL)
    scores = itertools.chain([0.9], itertools.repeat(0.8))
    monkeypatch.setattr(module, "DepthValidation", lambda *arguments: lambda network: Validation({2: next(scores)}))
    found, tuning = finetune(network, header.plan, trained / "fold_0" / MODEL, 0.02, CPU)
    assert tuning.dice == tuning.dice_before == 0.9
    assert same(found.state_dict(), weights(trained / "fold_0" / MODEL))
    assert "the weights are unchanged" in str(tuning)
    assert (
        str(FineTuning(dice_before=0.5, dice=0.6, steps=7))
        == "fine-tuned for 7 steps: validation Dice 0.5000 before, 0.6000 after"
    )


def test_a_stop_says_that_nothing_is_written(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def validate(network: torch.nn.Module) -> Validation:
        calls.append(1)
        if len(calls) > 1:  # the first one is of the weights before
            os.kill(os.getpid(), signal.SIGINT)
        return Validation({1: 0.5})

    monkeypatch.setattr(module, "DepthValidation", lambda *arguments: validate)
    out = tmp_path / "small.safetensors"
    out.write_bytes(b"before")
    answer = run_cli("prune", trained, "--depth", 1, "--minutes", 0.02, "--out", out, "--device", "cpu")
    said = " ".join(answer.stderr.split())
    assert answer.code == 1 and len(calls) == 2
    assert "nothing was written" in said and "with fewer --minutes or without" in said and "saved" not in said
    assert [path.name for path in tmp_path.iterdir()] == [out.name] and out.read_bytes() == b"before"


def test_a_time_without_a_step_is_said(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DepthValidation", lambda *arguments: lambda network: Validation({1: 0.5}))
    out = tmp_path / "small.safetensors"
    answer = run_cli("prune", trained, "--depth", 1, "--minutes", 1e-12, "--out", out, "--device", "cpu")
    assert answer.code == 0
    assert "Not fine-tuned, because the time was over before the first step: give it more --minutes." in answer.stdout
    assert load_model(out)[1].notes.finetuning is None


def test_without_cases_or_time_there_is_no_training(
    trained: Path, make_model: Callable[..., Path], tmp_path: Path
) -> None:
    answer = run_cli("prune", make_model(), "--depth", 1, "--minutes", 1, "--out", tmp_path / "small.safetensors")
    assert answer.code == 2
    assert "expected prepared cases to train on" in " ".join(answer.stderr.split())
    assert not (tmp_path / "small.safetensors").exists()
    network, header = load_model(trained / "fold_0" / MODEL)
    with pytest.raises(UsageError, match=r"minutes: got 0; expected more than 0"):
        finetune(network, header.plan, trained / "fold_0" / MODEL, 0, CPU)
