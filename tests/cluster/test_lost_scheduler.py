"""A scheduler and a worker that others run, by the scheduler's file; and the scheduler's death."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.cluster.conftest import Heard

from unetpp.cluster.opening import open_engine
from unetpp.errors import Interrupted, UsageError

pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
pytestmark = pytest.mark.slow


def rest(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    file, paths = tmp_path / "scheduler.json", os.pathsep.join(path or os.curdir for path in sys.path)
    of_file = ["--scheduler-file", str(file), "--dashboard-address", ":0"]
    commands = [
        ["scheduler", "--host", "127.0.0.1", "--port", "0", *of_file],
        ["worker", "--nthreads", "1", "--name", "one", "--local-directory", str(tmp_path), *of_file],
    ]
    environment = {**os.environ, "PYTHONPATH": paths}
    with ExitStack() as stack:
        processes = []
        for command in commands:
            words = [sys.executable, "-m", "dask", *command]
            processes.append(subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL))
            stack.callback(processes[-1].wait)
            stack.callback(processes[-1].kill)
        while not file.exists() or not file.read_text():
            assert processes[0].poll() is None
            time.sleep(0.1)
        yield str(file), processes[0]


def test_a_scheduler_that_dies_ends_the_command(scheduler: tuple[str, subprocess.Popen[bytes]], heard: Heard) -> None:
    file, process = scheduler
    words = r"The scheduler at tcp://127.0.0.1:\d+ is gone\. .*`resume=True`"
    with pytest.raises(Interrupted, match=words), open_engine(file, heard) as engine:
        outcomes = engine.run(rest, [0.1, 0.1, 60.0, 0.1], name="rest")
        assert next(outcomes).value == 0.1
        with pytest.raises(UsageError, match=r"workers without the resource device.*--resources device=1"):
            engine.count_devices()
        started = time.monotonic()
        process.kill()
        list(outcomes)
    assert time.monotonic() - started < 45
