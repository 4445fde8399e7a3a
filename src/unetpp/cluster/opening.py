"""One function that opens an engine by the argument `cluster`."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any

from unetpp.cluster.address import LocalWorkers, SchedulerAddress, count_cores, read_address
from unetpp.cluster.engine import Engine, HereEngine
from unetpp.cluster.queue_file import DEVICE, QueueFile
from unetpp.errors import UsageError
from unetpp.free_memory import measure_free_bytes
from unetpp.progress import SILENCE, Progress

ALLOWED_DEATHS = 3
"""Workers that may die of one unit before it is given up, of clusters that are started here."""
CONNECT_S = 8
"""Seconds within which a scheduler has to answer."""
_SETTINGS = {
    "distributed.scheduler.allowed-failures": ALLOWED_DEATHS - 1,
    "distributed.scheduler.worker-saturation": 1.0,  # no unit waits on a worker that may die
    "distributed.worker.memory.spill": False,  # what a task holds cannot be spilled
    "distributed.worker.memory.target": False,
}
_SILENT = (
    "asyncio",
    "tornado.application",
    *(f"distributed.{name}" for name in ("batched", "client", "comm", "core", "scheduler", "utils")),
)
"""Loggers of this process whose tracebacks say what the engine says in a message."""


@contextmanager
def open_engine(cluster: str | None, progress: Progress = SILENCE) -> Iterator[Engine]:
    """Open an engine, and close at the end what was started for it.

    Args:
        cluster: local, local:N, tcp://HOST:PORT, the JSON file of a scheduler, or a YAML file of dask-jobqueue; None:
            this process.
        progress: is told the address of the dashboard, and which workers are lost.

    Raises:
        UsageError: there is no such thing, or no scheduler answers.
        MissingExtraError: Dask is not installed.
    """
    if cluster is None:
        yield HereEngine()
        return
    address = read_address(cluster)
    _require_guard()
    import_module("distributed")  # first: what is set before its defaults are there takes them along at the end
    with ExitStack() as stack:
        stack.enter_context(import_module("dask").config.set(_SETTINGS))
        stack.enter_context(_silence())
        started, jobs, expected, cores = None, 0, 0, 0
        if isinstance(address, LocalWorkers):
            started = stack.enter_context(_start_workers(address.count))
        elif isinstance(address, QueueFile):
            started, jobs = stack.enter_context(address.start()), address.jobs
            expected, cores = jobs * address.processes, address.cores
            progress.note(f"Jobs that were sent to {address.system.upper()}: {jobs}")
        client = stack.enter_context(_connect(started, address))
        from unetpp.cluster.dask_engine import DaskEngine

        progress.note(f"Dashboard of the cluster: {client.dashboard_link}")
        engine = DaskEngine(client, started, jobs, expected, progress, cores)
        stack.callback(engine.close)
        yield engine


@contextmanager
def _silence() -> Iterator[None]:
    """Let the libraries below print no traceback of a callback: what fails is said by the engine."""
    loggers = [logging.getLogger(name) for name in _SILENT]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def show_script(cluster: str | None) -> str:
    """Write the script of a job of a batch system; empty for anything else. Nothing is started.

    Raises:
        UsageError: as `open_engine`, apart from a scheduler that does not answer.
    """
    address = None if cluster is None else read_address(cluster)
    return address.write_script() if isinstance(address, QueueFile) else ""


def _start_workers(count: int) -> Any:
    """Start workers of one thread each, which share the cores and the memory of this machine."""
    distributed = import_module("distributed")
    threads = max(1, count_cores() // count)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {f"distributed.nanny.pre-spawn-environ.{name}": threads for name in names}
    with import_module("dask").config.set(environment):
        return distributed.LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            resources={DEVICE: 1},
            memory_limit=measure_free_bytes() // count,
            dashboard_address="127.0.0.1:0",
            silence_logs="CRITICAL",
        )


def _connect(started: Any, address: Any) -> Any:
    distributed = import_module("distributed")
    if started is not None:
        return distributed.Client(started)
    assert isinstance(address, SchedulerAddress)
    try:
        return distributed.Client(address.address, timeout=CONNECT_S)
    except (OSError, ValueError, TimeoutError) as error:
        got = f"{address.given}, where no scheduler answers ({' '.join(str(error).split())[:120]})"
        action = "Start one with `dask scheduler`, or correct the address."
        raise UsageError("cluster", got, "the address of a scheduler of Dask that runs", action) from None


def _require_guard() -> None:
    """Refuse to start processes from a script that each of them would run again."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        got = "a script that starts processes while it is imported"
        raise UsageError("cluster", got, 'its work below `if __name__ == "__main__":`', "Put it there.")
