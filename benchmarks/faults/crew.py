"""Processes that share the work: ranks of a training, and a scheduler with two workers, forked from this one."""

from __future__ import annotations

import ctypes
import functools
import json
import os
import signal
import socket
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import psutil
from benchmarks.campaigns.outcome import Child, start
from benchmarks.faults.inputs import lighten

TTL_S = 45
"""Seconds without a sign of life after which the scheduler takes a worker for lost; Dask's own is 300."""
LOST_S = 40.0
"""The same for ranks; unetpp's own is 60."""
START_S = 120.0
"""Seconds within which the workers have to be there, on a machine that does other things as well."""
_DIE_WITH_PARENT = 1


def fork(function: Callable[[], object], log: Path) -> int:
    """Call a function in a process of its own, whose output goes to a file; return its number."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        written = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(written, 1)
        os.dup2(written, 2)
        function()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def call(function: Callable[[], object], log: Path) -> None:
    """Call a function in a process of its own, which has to end well: it may start threads, this one may not."""
    if os.waitpid(fork(function, log), 0)[1]:
        raise SystemExit(f"faults: {log.read_text()}")


def find_port() -> int:
    """Find a port that nobody uses."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def end(pid: int | None) -> None:
    """Kill a process of ours with what it started, also a frozen one."""
    if pid is None:
        return
    with suppress(psutil.Error):
        for process in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.Error):
                process.kill()
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


def is_alive(pid: int | None) -> bool:
    """Tell whether a child of this process runs; one that has ended is forgotten."""
    if pid is None:
        return False
    try:
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
    except ChildProcessError:
        return False


def start_ranks(tokens: list[str], size: int) -> list[Child]:
    """Start the ranks of a training, as srun and torchrun do: with their numbers in the environment."""
    place = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_port())}

    def enter(rank: int) -> None:
        watch = sys.modules["unetpp.runtime.rank_watch"]
        watch.LOST_S = LOST_S  # type: ignore[attr-defined]
        os.environ.update({**place, "RANK": str(rank), "LOCAL_RANK": str(rank)})

    return [start(tokens, functools.partial(enter, rank)) for rank in range(size)]


class Crew:
    """A scheduler and two workers that others run: one alone, the other one under a nanny, which starts it again.

    Args:
        folder: for logs and what workers write.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, find_port()
        self.address = f"tcp://127.0.0.1:{self._port}"
        self._page = find_port()
        self.pids: dict[str, int | None] = {"scheduler": None, "worker": None, "nanny": None}

    def find(self, name: str) -> int:
        """Find the number of a process: scheduler, worker, nanny, or nursed, the worker of the nanny."""
        if name != "nursed":
            pid = self.pids[name]
            assert pid is not None
            return pid
        nanny = psutil.Process(self.pids["nanny"])
        found = [each.pid for each in nanny.children() if "resource_tracker" not in " ".join(each.cmdline())]
        return max(found, default=nanny.pid)

    def repair(self) -> None:
        """Start what is not there, and wait until both workers have work to get."""
        for _ in range(2):
            if not is_alive(self.pids["scheduler"]):
                self.stop()
                self.pids["scheduler"] = fork(self._schedule, self._folder / "scheduler.log")
            for name in ("worker", "nanny"):
                if not is_alive(self.pids[name]):
                    self.pids[name] = fork(functools.partial(self._work, name), self._folder / f"{name}.log")
            if self._wait():
                return
            self.stop()
        raise SystemExit(f"faults: the workers do not start; see {self._folder}")

    def stop(self) -> None:
        """End all of them."""
        for name, pid in self.pids.items():
            end(pid)
            self.pids[name] = None

    def _wait(self) -> bool:
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            with suppress(OSError, ValueError):
                with urllib.request.urlopen(f"http://127.0.0.1:{self._page}/json/counts.json", timeout=5) as answer:
                    counts: Mapping[str, int] = json.loads(answer.read())
                if counts["workers"] == 2:
                    return True
            time.sleep(0.1)
        return False

    def _schedule(self) -> None:
        import dask
        from distributed.cli.dask_scheduler import main

        dask.config.set({"distributed.scheduler.worker-ttl": f"{TTL_S}s"})
        place = ["--host", "127.0.0.1", "--port", str(self._port), "--dashboard-address", f"127.0.0.1:{self._page}"]
        main([*place, "--no-show"], standalone_mode=False)

    def _work(self, name: str) -> None:
        from distributed.cli.dask_worker import main

        number = 1 if name == "nanny" else 0
        given = ["--nthreads", "1", "--name", f"w-{number}", "--resources", "device=1", "--no-dashboard"]
        given += ["--local-directory", str(self._folder / name), "--memory-limit", "0"]
        given += ["--nanny", "--preload", "benchmarks.faults.inputs"] if number else ["--no-nanny"]
        lighten()
        main([self.address, *given], standalone_mode=False)
