"""Prediction on a real SLURM: jobs of Dask, an array of parts, and jobs that are cancelled."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.services.slurm import find_reason_without, run_slurm

import unetpp
from unetpp.data.demo import write_demo_data

REASON = find_reason_without()
pytestmark = [pytest.mark.services, pytest.mark.skipif(REASON is not None, reason=f"no SLURM: {REASON}")]

CASES = 12
WAIT_S = 600.0


@pytest.fixture(scope="module")
def slurm() -> Iterator[Mapping[str, str]]:
    paths = os.pathsep.join(path or os.curdir for path in sys.path)
    with run_slurm() as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in {**environment, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}.items():
            patch.setenv(name, value)
        yield environment


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo_data(tmp_path_factory.mktemp("images"), 2, cases=CASES, shape=(300, 300)) / "images"


@pytest.fixture(scope="module")
def whole(trained: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole") / "out"
    unetpp.predict(trained, images, out, device="cpu", backend="torch")
    return read(out)


def read(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_script(folder: Path, words: Sequence[object]) -> Path:
    command = " ".join([sys.executable, "-m", "unetpp", "predict", *map(str, words)])
    path = folder / "job.sh"
    path.write_text(f"#!/bin/sh\nexec {command} --device cpu --backend torch\n")
    return path


def submit(script: Path, *options: str) -> str:
    log = script.with_name("%A_%a.log")
    words = ["sbatch", "--parsable", "-n", "1", f"--output={log}", *options, str(script)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def wait_until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < until, "SLURM took too long"
        time.sleep(0.1)


def list_jobs() -> list[str]:
    return subprocess.run(["squeue", "-h", "-o", "%A %T"], capture_output=True, text=True).stdout.splitlines()


def test_an_array_of_parts_meets_in_one_folder(
    slurm: Any, trained: Path, images: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    script = write_script(tmp_path, [trained, images, "--out", out, "--part", "$SLURM_ARRAY_TASK_ID/3"])
    submit(script, "--array=1-3")
    wait_until(lambda: not list_jobs())
    assert read(out) == whole


def test_a_cancelled_job_goes_on(
    slurm: Any, trained: Path, images: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    script = write_script(tmp_path, [trained, images, "--out", out, "--resume"])
    job = submit(script)
    wait_until(lambda: len(list(out.glob("*.png"))) >= 2)
    subprocess.run(["scancel", "--signal=KILL", job], check=True)
    wait_until(lambda: not list_jobs())
    done = {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}
    submit(script)
    wait_until(lambda: not list_jobs())
    assert read(out) == whole
    again = [name for name, moment in done.items() if (out / name).stat().st_mtime_ns != moment]
    assert len(again) <= 1  # the one that was not recorded yet


def test_jobs_of_dask_predict_and_a_job_that_ends_is_sent_again(
    slurm: Any, trained: Path, images: Path, whole: dict[str, bytes], tmp_path: Path
) -> None:
    pytest.importorskip("dask_jobqueue", reason="the extra `cluster` is not installed")
    settings = {"cores": 1, "memory": "2GB", "interface": "lo", "log-directory": str(tmp_path)}
    (tmp_path / "slurm.yaml").write_text(json.dumps({"jobs": 1, "jobqueue": {"slurm": settings}}))
    out, cancelled = tmp_path / "out", list[str]()

    def cancel() -> None:
        """End the only job when it has done something, as its walltime would."""
        wait_until(lambda: len(list(out.glob("*.png"))) >= 2)
        cancelled.extend(line.split()[0] for line in list_jobs())
        subprocess.run(["scancel", *cancelled], check=True)

    thread = threading.Thread(target=cancel)
    thread.start()
    unetpp.predict(trained, images, out, device="cpu", backend="torch", cluster=str(tmp_path / "slurm.yaml"))
    thread.join()
    assert len(cancelled) == 1
    assert read(out) == whole
