"""A training of two tasks on a real SLURM: one run; a task that is killed is named, and one task goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

slurm = pytest.importorskip("tests.services.slurm", reason="no SLURM that tests can start")

from tests.tiny import TINY, set_options  # noqa: E402

from unetpp.data.demo import write_demo_data  # noqa: E402
from unetpp.run_folder import CHECKPOINT, LOG, METRICS_FILE  # noqa: E402

REASON = slurm.find_reason_without()
pytestmark = [pytest.mark.services, pytest.mark.skipif(REASON is not None, reason=f"no SLURM: {REASON}")]
SETTINGS = TINY | {"train.batch": 4, "train.checkpoint_minutes": 0.001}


@pytest.fixture(scope="module")
def environment() -> Iterator[Mapping[str, str]]:
    paths = os.pathsep.join(path or os.curdir for path in sys.path)
    with slurm.run_slurm() as found:
        yield {**found, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


def start(environment: Mapping[str, str], tasks: int, *tokens: object) -> subprocess.Popen[str]:
    command = ["srun", "-n", str(tasks), sys.executable, "-m", "unetpp", "train", *map(str, tokens), "--device", "cpu"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def test_a_killed_task_is_named_and_the_run_goes_on_with_another_number(
    environment: Mapping[str, str], tmp_path: Path
) -> None:
    data, run = write_demo_data(tmp_path / "data", 2, cases=8, shape=(40, 40)), tmp_path / "run"
    with start(environment, 2, data, "--out", run, "--epochs", 40, *set_options(SETTINGS)) as step:
        victim = kill_task(str(run), run / "fold_0" / CHECKPOINT)
        text, _ = step.communicate(timeout=300)
    assert step.returncode != 0
    assert f"Lost rank 1 on {os.uname().nodename} (process {victim})" in text
    assert text.count("Continue: unetpp train") == 1
    with start(environment, 1, data, "--out", run, "--resume") as step:
        text, _ = step.communicate(timeout=500)
    assert step.returncode == 0, text
    assert (run / "fold_0" / METRICS_FILE).exists()
    starts = [json.loads(line) for line in (run / "fold_0" / LOG).read_text().splitlines() if '"start"' in line]
    assert [line.get("ranks", 1) for line in starts] == [2, 1]


def kill_task(run: str, checkpoint: Path) -> int:
    """Kill task 1 of a run as soon as there is a checkpoint."""
    until = time.monotonic() + 300
    while time.monotonic() < until:
        time.sleep(0.1)
        for process in psutil.process_iter(["cmdline"]) if checkpoint.exists() else ():
            if run in (process.info["cmdline"] or ()) and process.environ().get("SLURM_PROCID") == "1":
                process.send_signal(signal.SIGKILL)
                return process.pid
    raise AssertionError("no checkpoint")
