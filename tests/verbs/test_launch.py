"""Trainings of several processes, started as torchrun and srun start them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.processes import Command, run_command
from tests.tiny import TINY, set_options
from tests.train.rank_processes import find_port
from tests.train.test_ranks import differ
from tests.verbs.test_two_at_once import data  # noqa: F401

from unetpp.data.folds import read_splits
from unetpp.model_notes import read_metrics
from unetpp.results import Followed, Result
from unetpp.run_folder import CHECKPOINT, METRICS_FILE, MODEL
from unetpp.verbs.launch import digest_arguments, with_ranks

SETTINGS = TINY | {"train.batch": 4, "train.checkpoint_minutes": 0.001, "train.precision": "fp32"}
PLAIN = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "TORCHELASTIC_"))}


def start_tasks(
    count: int, *tokens: object, each: Sequence[Sequence[str]] = ((), ()), **settings: Any
) -> list[Command]:
    """Start tasks with the environment that srun gives them."""
    shared = {
        "SLURM_NTASKS": str(count),
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NODELIST": "localhost",
        "MASTER_PORT": str(find_port()),
        "OMP_NUM_THREADS": "1",
    }
    words = ("train", *tokens, *set_options(SETTINGS | settings))
    return [
        Command(
            *words,
            *each[rank],
            environment={**PLAIN, **shared, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
        )
        for rank in range(count)
    ]


def test_tasks_of_srun_train_one_run_and_the_first_alone_speaks(data: Path, tmp_path: Path) -> None:  # noqa: F811
    run = tmp_path / "run"
    tasks = start_tasks(2, data, "--out", run, "--epochs", 2, "--device", "cpu")
    (out, err), (other_out, other_err) = (task.communicate() for task in tasks)
    assert [task.returncode for task in tasks] == [0, 0], err + other_err
    assert "Fold 0: training" in err
    assert f"Next: unetpp train {data}" in out
    assert (other_out, other_err) == ("", "")
    found = read_metrics(run / "fold_0" / METRICS_FILE)
    assert found is not None
    assert len(found.cases) == len(read_splits(run / "splits.json")[0].validation)


def test_more_ranks_than_patches_are_refused_once(data: Path, tmp_path: Path) -> None:  # noqa: F811
    tasks = start_tasks(2, data, "--out", tmp_path / "run", "--epochs", 2, "--device", "cpu", **{"train.batch": 1})
    (_, err), others = (task.communicate() for task in tasks)
    assert [task.returncode for task in tasks] == [2, 2]
    assert "train.batch: got 1 for 2 ranks; expected a patch for each rank at least. Start at most 1 process" in err
    assert others == ("", "")
    assert not (tmp_path / "run" / "fold_0" / CHECKPOINT).exists()


def test_a_size_without_torchrun_is_refused(data: Path, tmp_path: Path) -> None:  # noqa: F811
    answer = run_command("train", data, "--out", tmp_path / "run", environment={**PLAIN, "WORLD_SIZE": "2"})
    assert answer.code == 2
    assert "WORLD_SIZE: got 2 without RANK" in answer.stderr
    assert "torchrun --nproc-per-node 2 -m unetpp train" in answer.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (("--part", "1/2"), ("--part", "2/2"), "--part: got 1/2 in 2 processes that torchrun or srun started together"),
        (("--cluster", "local:2"), ("--cluster", "local:2"), "--cluster: got local:2 in 2 processes"),
        (("--fold", "0"), ("--fold", "1"), "arguments: got others in rank 1 than in rank 0"),
    ],
)
def test_tasks_that_do_not_train_one_run_are_refused_once(
    data: Path,  # noqa: F811
    tmp_path: Path,
    first: tuple[str, ...],
    second: tuple[str, ...],
    said: str,
) -> None:
    common = (data, "--out", tmp_path / "run", "--epochs", 2, "--device", "cpu")
    tasks = start_tasks(2, *common, each=(first, second))
    (_, err), others = (task.communicate() for task in tasks)
    assert [task.returncode for task in tasks] == [2, 2]
    assert said in err
    assert others == ("", "")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("variables", [{"SLURM_RESTART_COUNT": "1"}, {}])
def test_a_single_task_that_slurm_starts_again_resumes(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in {"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_STEP_ID": "0", **variables}.items():
        monkeypatch.setenv(name, value)
    seen: list[dict[str, Any]] = []

    @with_ranks
    def verb(**options: Any) -> Result:
        seen.append(options)
        return Followed(0)

    verb(fold=1)
    assert seen == [{"fold": 1, "resume": True} if variables else {"fold": 1}]


@pytest.mark.parametrize("options", [{}, {"fold": 0, "set": {"train.batch": 4}}, {"out": Path("run"), "resume": True}])
def test_arguments_are_told_apart_but_for_those_of_each_rank(options: dict[str, Any]) -> None:
    digest = digest_arguments((Path("data"),), options)
    assert 0 <= digest < 2**63
    assert digest == digest_arguments(("data",), {**options, "device": "cuda", "progress": print})
    assert digest != digest_arguments(("data",), {**options, "seed": 1})
    assert digest_arguments((), {"log_to": print}) == digest_arguments((), {"log_to": len})


@pytest.mark.slow
def test_torchrun_goes_on_after_a_killed_rank_as_if_nothing_had_happened(
    data: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    options = ["--epochs", "12", "--device", "cpu", *set_options(SETTINGS)]
    for name in ("whole", "killed"):
        run = tmp_path / name
        command = [*launch, "--max-restarts", "1", "-m", "unetpp", "train", str(data), "--out", str(run), *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=PLAIN) as job:
            victim = kill_rank(job.pid, run / "fold_0" / CHECKPOINT) if name == "killed" else 0
            text, _ = job.communicate(timeout=500)
        assert job.returncode == 0, text
        if victim:
            assert f"Lost rank 1 on {os.uname().nodename} (process {victim})" in text
            assert "steps left, from step" in text
    assert differ(tmp_path / "whole" / "fold_0" / MODEL, tmp_path / "killed" / "fold_0" / MODEL) == 0.0


def kill_rank(launcher: int, checkpoint: Path) -> int:
    """Kill rank 1 as soon as there is a checkpoint."""
    until = time.monotonic() + 300
    while time.monotonic() < until:
        time.sleep(0.05)
        if not checkpoint.exists():
            continue
        for process in psutil.Process(launcher).children(recursive=True):
            if process.environ().get("RANK") == "1":
                process.send_signal(signal.SIGKILL)
                return process.pid
    raise AssertionError("no checkpoint")
