"""A scheduler and workers of Dask with a limit of memory, as users start them, and the largest memory of each."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

START_S = 120.0
_LOOK_S = 0.2


@dataclass
class Workers:
    """Workers that run."""

    file: Path
    """Of the scheduler."""
    peaks: dict[int, float] = field(default_factory=dict)
    """Largest memory of each process that did work, by its number, in GB."""

    @property
    def peaks_gb(self) -> list[float]:
        """Largest memory of each process."""
        return list(self.peaks.values())


@contextmanager
def run_workers(folder: Path, count: int, limit_gb: float) -> Iterator[Workers]:
    """Run a scheduler, and workers of one thread under nannies, which replace one that takes more than the limit."""
    file, log = folder / "scheduler.json", folder / "workers.log"
    file.unlink(missing_ok=True)
    of_file = ["--scheduler-file", str(file)]
    scheduler = ["scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", ":0", *of_file]
    limits = ["--nworkers", str(count), "--nthreads", "1", "--memory-limit", f"{limit_gb}GB"]
    worker = [
        "worker",
        "--name",
        "w",
        "--no-dashboard",
        "--local-directory",
        str(folder / "scratch"),
        *limits,
        *of_file,
    ]
    with ExitStack() as stack, log.open("wb") as output:
        started = []
        for words in (scheduler, worker):
            command = [sys.executable, "-m", "dask", *words]
            started.append(subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT))
            stack.callback(_stop, started[-1])
        until = time.monotonic() + START_S
        while not file.exists() or not file.read_text():
            if time.monotonic() > until or started[0].poll() is not None:
                raise SystemExit(f"the scheduler did not start: {log}")
            time.sleep(0.1)
        found, stopping = Workers(file), threading.Event()
        watch = threading.Thread(target=_watch, args=(started[1].pid, found, stopping))
        watch.start()
        stack.callback(watch.join)
        stack.callback(stopping.set)
        yield found


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _watch(parent: int, workers: Workers, stopping: threading.Event) -> None:
    """Note the largest memory of all processes below one that have loaded the network."""
    while not stopping.wait(_LOOK_S):
        with suppress(psutil.Error):
            for child in psutil.Process(parent).children(recursive=True):
                with suppress(OSError, ValueError, StopIteration):
                    lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
                    kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
                    if kilobytes * 1024 / 1e9 > 0.2 or child.pid in workers.peaks:
                        workers.peaks[child.pid] = kilobytes * 1024 / 1e9
