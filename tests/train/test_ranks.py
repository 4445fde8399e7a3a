"""Several processes train as one does: the same losses, the same weights on each, one decision when to stop."""

from __future__ import annotations

import functools
import json
import os
import signal
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from tests.plans import small_plan
from tests.processes import SERVER
from tests.train.rank_processes import CPU, find_port, join_here, spawn
from tests.train.test_trainer import make_store
from unetpp.data.store import StoredCase
from unetpp.errors import Interrupted, UnetppError
from unetpp.measure.validation import DepthValidation
from unetpp.model.build import build_from_plan
from unetpp.model.file import read_tensors
from unetpp.model_notes import Training
from unetpp.plan import Plan
from unetpp.run_folder import CHECKPOINT, LOG, MODEL
from unetpp.runtime.ranks import ALONE, LostRank, Ranks
from unetpp.train.step import TrainingStep
from unetpp.train.trainer import FoldTraining

BATCH = 5
"""It leaves unequal shares to 2 and to 4 ranks."""
Case = tuple[int, dict[str, Any], dict[str, Any]]
SMOOTH = {"norm": "instance", "activation": "silu", "down": "conv"}
"""Rounding decides on which side of a kink a value lies that is almost there; here are none."""
STEPS: dict[str, Case] = {  # steps, settings, network
    "adamw": (50, {"train.optimizer": "adamw"}, SMOOTH),
    "muon": (50, {}, {**SMOOTH, "widths": (8, 12, 16)}),
    "muon, shells": (8, {}, {**SMOOTH, "topology": "unet", "widths": (16, 16, 24), "shells": (0.5, 1)}),
    "batch norm": (50, {}, {**SMOOTH, "norm": "batch"}),
    "batch norm, recomputed": (8, {"train.checkpointing": True}, {**SMOOTH, "norm": "batch"}),
    "distillation": (8, {"train.distillation": True}, SMOOTH),
    "accumulated": (8, {"train.accumulate": 2}, SMOOTH),
    "accumulated, batch norm": (3, {"train.accumulate": 2}, {**SMOOTH, "norm": "batch"}),
}


def make_batch(number: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(number)
    images = torch.randn(BATCH, 1, 16, 16, generator=rng)
    return images, (images + 0.3 * torch.randn(images.shape, generator=rng) > 0.5).long()


def train_steps(ranks: Ranks, case: Case) -> tuple[list[float], list[Tensor]]:
    """Losses, and all that a checkpoint holds."""
    steps, settings, network = case
    plan = small_plan(settings={"train.batch": BATCH, **settings}, **network)
    torch.manual_seed(0)
    step = TrainingStep(build_from_plan(plan.model), plan.model, plan.train, CPU, ranks=ranks)
    share = slice(ranks.share(BATCH).start, ranks.share(BATCH).stop)
    losses = []
    for number in range(steps):
        images, labels = make_batch(number)
        losses.append(step((images[share], labels[share]), number, number / steps))
    return losses, [tensor.detach().clone() for tensor in step.list_tensors()]


def train_all_steps(ranks: Ranks) -> dict[str, tuple[list[float], list[Tensor]]]:
    """All kinds of training by 2 ranks; by 4 those of which it is said that they are equal over 50 steps."""
    return {name: train_steps(ranks, case) for name, case in STEPS.items() if ranks.size == 2 or case[0] == 50}


@pytest.fixture(scope="module")
def alone() -> dict[str, tuple[list[float], list[Tensor]]]:
    return {name: train_steps(ALONE, case) for name, case in STEPS.items()}


@pytest.mark.parametrize("size", [2, 4])
def test_ranks_train_as_one_process(size: int, alone: dict[str, Any], tmp_path: Path) -> None:
    found = spawn(train_all_steps, size, tmp_path)
    for name, (first, tensors) in found[0].items():
        losses, _ = alone[name]
        if name != "accumulated, batch norm":  # whose statistics are those of parts of the batch
            assert max(abs(a - b) for a, b in zip(first, losses, strict=True)) <= 1e-5, name
        for others, state in (each[name] for each in found[1:]):
            assert others == first, name
            assert all(torch.equal(a, b) for a, b in zip(state, tensors, strict=True)), name


def test_parts_of_a_batch_train_as_the_whole(alone: dict[str, Any]) -> None:
    steps, _, network = STEPS["accumulated"]
    whole, _ = train_steps(ALONE, (steps, {}, network))
    assert alone["accumulated"][0] == pytest.approx(whole, abs=1e-6)


def train_compiled(ranks: Ranks) -> list[float]:
    """Losses of a network that dynamo traces; what a backend makes of the trace has nothing to do with ranks."""
    with mock.patch.object(torch, "compile", functools.partial(torch.compile, backend="eager")):
        return train_steps(ranks, (3, {"train.compile": True}, SMOOTH))[0]


@pytest.mark.slow
def test_compiled_networks_train_as_one_process(tmp_path: Path) -> None:
    whole, _ = train_steps(ALONE, (3, {}, SMOOTH))
    for losses in spawn(train_compiled, 2, tmp_path):
        assert losses == pytest.approx(whole, abs=1e-5)


# --- a whole training ---


def make_fold_plan(**settings: Any) -> Plan:
    """A plan of 12 steps, validated after 4, 8 and 12."""
    return small_plan(settings={"train.checkpoint_minutes": 1e-9, "train.learning_rate": 0.01, **settings}, **SMOOTH)


def find_store(folder: Path) -> list[StoredCase]:
    """Prepared cases, which the first process of all makes."""
    names = [(f"case {number}", folder / f"case{number}") for number in range(3)]
    stored = [StoredCase(*name) for name in names]
    return stored if all(case.is_complete() for case in stored) else make_store(folder)


def train_fold(ranks: Ranks, store: str, folder: str, settings: dict[str, Any], stops: dict[int, int]) -> Training:
    """Train on 3 cases, validated on 3; a rank gets a signal after a step: `stops`."""
    torch.set_num_threads(1)
    plan, cases = make_fold_plan(**settings), find_store(Path(store))
    validation = DepthValidation(cases, plan, CPU, cases, ranks)
    training = FoldTraining(plan, cases, Path(folder), device=CPU, validate=validation, ranks=ranks)
    after_step = training._after_step

    def stop(done: int, loss: float) -> str:
        if stops.get(done) == ranks.rank:
            signal.raise_signal(signal.SIGTERM)
        return after_step(done, loss)

    training._after_step = stop  # type: ignore[method-assign]
    return training.run(resume=True)


def train_folds(ranks: Ranks, store: str, folder: str) -> dict[str, str]:
    """Several trainings, one after the other: what each ends with, in words."""
    ends = {}
    for name, settings, stops in (
        ("whole", {}, {}),
        ("stopped", {}, {5: ranks.size - 1}),
        ("growing", {"train.growth": (0.5,), "model.shells": (0.5, 1)}, {}),
        ("diverging", {"train.learning_rate": 1e30}, {}),
    ):
        try:
            ends[name] = train_fold(ranks, store, f"{folder}/{name}", settings, stops).reason
        except UnetppError as error:
            ends[name] = str(error)
    return ends


def read_log(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / LOG).read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def differ(first: Path, second: Path) -> float:
    """Largest difference between two model files."""
    a, b = read_tensors(first), read_tensors(second)
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def test_a_training_is_that_of_one_process_and_one_rank_writes(tmp_path: Path) -> None:
    for name in ("whole", "growing"):
        settings = {"train.growth": (0.5,), "model.shells": (0.5, 1)} if name == "growing" else {}
        train_fold(ALONE, str(tmp_path), str(tmp_path / f"one {name}"), settings, {})
    ends = spawn(train_folds, 2, tmp_path / "ends", str(tmp_path), str(tmp_path))
    assert ends[0] == ends[1] or "SIGTERM" in ends[1]["stopped"]
    assert ends[0]["whole"] == ends[0]["growing"] == "finished"
    for name in ("whole", "growing"):
        assert sorted(os.listdir(tmp_path / name)) == sorted([CHECKPOINT, LOG, MODEL])
        assert differ(tmp_path / name / MODEL, tmp_path / f"one {name}" / MODEL) < 1e-3
        scores = [[line["dice"] for line in read_log(tmp_path / each, "validation")] for each in (name, f"one {name}")]
        assert scores[0] == pytest.approx(scores[1], abs=1e-3)
    # a signal to one rank stops both after the same step
    assert ends[0]["stopped"] == "Stopped by a signal to another rank after step 5; everything is saved."
    assert ends[1]["stopped"] == "Stopped by SIGTERM after step 5; everything is saved."
    assert "a loss of nan; expected a finite number" in ends[0]["diverging"]
    assert ends[0]["diverging"] == ends[1]["diverging"]
    # continued by one process, it ends as one that never stopped
    assert train_fold(ALONE, str(tmp_path), str(tmp_path / "stopped"), {}, {}).steps == 12
    assert differ(tmp_path / "stopped" / MODEL, tmp_path / "one whole" / MODEL) < 1e-3


def test_a_training_goes_from_one_process_to_two_and_back(tmp_path: Path) -> None:
    train_fold(ALONE, str(tmp_path), str(tmp_path / "one"), {}, {})
    arguments = str(tmp_path), str(tmp_path / "moved"), {}
    with pytest.raises(Interrupted, match="step 3"):
        train_fold(ALONE, *arguments, {3: 0})
    spawn(expect_interruption, 2, tmp_path / "ends", *arguments, {7: 0})
    assert [line["step"] for line in read_log(tmp_path / "moved", "end")][-1] == 7
    assert train_fold(ALONE, *arguments, {}).steps == 12
    assert differ(tmp_path / "moved" / MODEL, tmp_path / "one" / MODEL) < 1e-3


def expect_interruption(ranks: Ranks, *arguments: Any) -> bool:
    with pytest.raises(Interrupted):
        train_fold(ranks, *arguments)
    return True


def die(rank: int, port: int, folder: str) -> None:
    """Train with another rank; rank 1 is killed after step 3."""
    ranks = join_here(rank, 2, port)
    try:
        train_fold(ranks, folder, f"{folder}/lost", {"train.epochs": 30}, {})
    except LostRank as error:
        Path(folder, "message.txt").write_text(str(error))


def die_after_step(rank: int, port: int, folder: str) -> None:
    after_step = FoldTraining._after_step

    def kill(self: FoldTraining, done: int, loss: float) -> str:
        if done == 3 and rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return after_step(self, done, loss)

    FoldTraining._after_step = kill  # type: ignore[method-assign]
    die(rank, port, folder)


def test_a_lost_rank_is_named_with_its_machine(tmp_path: Path) -> None:
    make_store(tmp_path)
    port = find_port()
    both = [SERVER.Process(target=die_after_step, args=(rank, port, str(tmp_path))) for rank in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, -signal.SIGKILL]
    message = (tmp_path / "message.txt").read_text()
    assert message.startswith(f"Lost rank 1 on {os.uname().nodename} (process {both[1].pid}): got no sign of life")
    assert read_log(tmp_path / "lost", "start")
