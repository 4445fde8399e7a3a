"""Faults of whoever starts the processes: torchrun, SLURM, parts of an array, workers of a command that dies."""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from benchmarks.campaigns.outcome import Child, start
from benchmarks.faults.crew import fork
from benchmarks.faults.injections import Row, find_fault, finish, has_ended, is_running, take_message
from benchmarks.faults.scenes import LIMIT_S, RANKS, Stage

PARTS = 2
ORPHANS_S = 60.0
"""Seconds within which workers have to end whose command was killed."""


class Launched:
    """Faults at random moments of commands that a launcher has started.

    Args:
        stage: the scenes.
        scene: one of them.
        name: of the fault, for the table.
        generator: chooses the moment.
        slurm: environment of a SLURM, where the fault needs it.
    """

    def __init__(
        self, stage: Stage, scene: str, name: str, generator: random.Random, slurm: Mapping[str, str] | None = None
    ) -> None:
        self._stage, self._scene, self._generator, self._slurm = stage, scene, generator, dict(slurm or {})
        self._row = Row(scene, name)

    def kill_rank_of_torchrun(self, out: Path) -> Row:
        """Kill a rank that torchrun starts again, with all others."""
        stage, row = self._stage, self._row
        stage.prepare(self._scene, out)
        words = ["--standalone", "--nproc-per-node", str(RANKS), "--max-restarts", "2", "-m", "unetpp"]
        log, began = out / "torchrun.log", time.monotonic()
        pid = fork(functools.partial(_run_torchrun, [*words, *stage.tokens(self._scene, out)]), log)
        _wait_until(lambda: stage.count_done(self._scene, out) > 0 or has_ended(pid))  # a checkpoint
        time.sleep(self._generator.uniform(0, stage.seconds[self._scene] / 2))
        row.moment_s = round(time.monotonic() - began, 1)
        ranks = [each for each in _list_children(pid) if "unetpp" in each.cmdline()]
        row.early = bool(ranks)
        if ranks:
            self._generator.choice(ranks).kill()
        broke = time.monotonic()
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            if time.monotonic() - broke > LIMIT_S:
                row.problem = f"torchrun has not ended after {LIMIT_S:g} s"
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)
        row.seconds, text = round(time.monotonic() - broke, 1), log.read_text()
        row.said = take_message(text)
        row.problem = row.problem or stage.compare(self._scene, out)  # by itself, before --resume
        finish(stage, row, out)
        return row

    def kill_part(self, out: Path) -> Row:
        """Kill one of two jobs of an array, which is sent again; the other one goes on beside it."""
        stage, row = self._stage, self._row
        stage.prepare(self._scene, out)
        tokens, began = stage.tokens(self._scene, out, resume=True, cluster=None), time.monotonic()
        shares = [[*tokens, "--part", f"{number}/{PARTS}"] for number in range(1, PARTS + 1)]
        children = [start(share) for share in shares]
        _wait_for(children[0], self._generator.uniform(0.05, stage.seconds[self._scene]))
        row.early, row.moment_s = is_running(children[0]), round(time.monotonic() - began, 2)
        with suppress(ProcessLookupError):
            os.kill(children[0].pid, signal.SIGKILL)
        children[0].wait()
        outcomes = [child.wait(LIMIT_S) for child in (start(shares[0]), children[1])]
        row.code, row.said = outcomes[0].code, take_message(outcomes[0].text)
        row.seconds = round(time.monotonic() - began - row.moment_s, 1)
        faults = [find_fault(outcome) or (outcome.code and outcome.text[-300:]) or None for outcome in outcomes]
        row.problem = next((str(fault) for fault in faults if fault), None)
        row.problem = row.problem or stage.compare(self._scene, out)  # parts alone have made all of it
        finish(stage, row, out)
        return row

    def kill_client_of_local_workers(self, out: Path) -> Row:
        """Kill a command that has started workers: they have to end."""
        stage, row = self._stage, self._row
        stage.prepare(self._scene, out)
        tokens, began = stage.tokens(self._scene, out, cluster="local:2"), time.monotonic()
        child = start(tokens)
        while len(_list_children(child.pid)) < 2 and is_running(child):
            time.sleep(0.05)
        _wait_for(child, self._generator.uniform(0, 15))
        row.early, row.moment_s = is_running(child), round(time.monotonic() - began, 2)
        workers = _list_children(child.pid)
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
        child.wait()
        _, alive = psutil.wait_procs(workers, ORPHANS_S)
        row.seconds = round(time.monotonic() - began - row.moment_s, 1)
        if alive:
            row.problem = f"{len(alive)} of {len(workers)} workers outlive their command by {ORPHANS_S:g} s"
            for process in alive:
                process.kill()
        finish(stage, row, out)
        return row

    def end_walltime(self, out: Path) -> Row:
        """Cancel a job of SLURM that is a worker of Dask, as its walltime does."""
        stage, row = self._stage, self._row
        stage.prepare(self._scene, out)
        settings = {"cores": 1, "memory": "2GB", "interface": "lo", "log-directory": str(out)}
        settings |= {"job-script-prologue": [f"export {name}={value}" for name, value in _own_environment().items()]}
        file = out / "slurm.yaml"
        file.write_text(json.dumps({"jobs": 2, "jobqueue": {"slurm": settings}}))
        began = time.monotonic()
        child = start(stage.tokens(self._scene, out, cluster=str(file)), lambda: os.environ.update(self._slurm))
        _wait_until(lambda: stage.count_done(self._scene, out) > 0 or not is_running(child))
        _wait_for(child, self._generator.uniform(0, 2))
        row.early, row.moment_s = is_running(child), round(time.monotonic() - began, 1)
        if jobs := self._list_jobs():
            self._command("scancel", self._generator.choice(jobs))
        outcome = child.wait(began + 2 * LIMIT_S - child.started)
        row.code, row.said = outcome.code, take_message(outcome.text)
        row.seconds = round(time.monotonic() - began - row.moment_s, 1)
        row.problem = find_fault(outcome) or (outcome.text[-300:] if outcome.code else None)
        finish(stage, row, out)
        return row

    def requeue(self, out: Path) -> Row:
        """Let SLURM send a job again that runs: it goes on from where it was."""
        stage, row = self._stage, self._row
        stage.prepare(self._scene, out)
        tokens = stage.tokens(self._scene, out, resume=self._scene != "training", cluster=None)
        script, log = out / "job.sh", out / "job.log"
        lines = [f"export {name}={value}" for name, value in _own_environment().items()]
        count = RANKS if self._scene == "training" else 1
        words = " ".join(["srun", "-n", str(count), sys.executable, "-m", "unetpp", *tokens])
        script.write_text("\n".join(["#!/bin/bash", *lines, words, ""]))
        began = time.monotonic()
        job = self._command("sbatch", "--parsable", "--requeue", "-n", str(count), f"--output={log}", str(script))
        _wait_until(lambda: stage.count_done(self._scene, out) > 0 or not self._list_jobs())
        time.sleep(self._generator.uniform(0, 2))
        row.early, row.moment_s = bool(self._list_jobs()), round(time.monotonic() - began, 1)
        self._command("scontrol", "requeue", job)
        time.sleep(1)
        self._command("scontrol", "update", f"JobId={job}", "StartTime=now")  # not after the usual two minutes
        if not _wait_until(lambda: not self._list_jobs(), 2 * LIMIT_S):
            row.problem = "the job that was requeued does not end"
            self._command("scancel", job)
        row.seconds, text = round(time.monotonic() - began - row.moment_s, 1), log.read_text()
        row.said = take_message(text)
        row.problem = row.problem or stage.compare(self._scene, out)
        finish(stage, row, out)
        return row

    def _list_jobs(self) -> list[str]:
        return self._command("squeue", "-h", "-o", "%A").split()

    def _command(self, *words: str) -> str:
        done = subprocess.run(words, env={**os.environ, **self._slurm}, capture_output=True, text=True, check=False)
        return done.stdout.strip()


def _run_torchrun(words: Sequence[str]) -> None:
    from torch.distributed.run import main

    main(list(words))


def _own_environment() -> dict[str, str]:
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    return {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


def _list_children(pid: int) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return [each for each in psutil.Process(pid).children(recursive=True) if each.is_running()]
    return []


def _wait_for(child: Child, seconds: float) -> None:
    """Wait for some seconds, or until a child has ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and is_running(child):
        time.sleep(0.01)


def _wait_until(is_so: object, seconds: float = LIMIT_S) -> bool:
    assert callable(is_so)
    until = time.monotonic() + seconds
    while not (found := bool(is_so())) and time.monotonic() < until:
        time.sleep(0.1)
    return found
