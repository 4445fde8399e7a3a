"""What runs on a worker of Dask apart from the tasks themselves: what it sees, which device is its own."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from unetpp.errors import UsageError
from unetpp.free_memory import limit_process


def list_unseen(paths: Sequence[str]) -> list[str]:
    """List those of some absolute paths that this machine does not have."""
    return [path for path in paths if not os.access(path, os.R_OK)]


def choose_device(wanted: str) -> str:
    """Choose the device of this worker: of several GPUs that it sees, the one of its number.

    Workers of one job, or of one machine, have names that end with consecutive numbers. Without a name they have their
    address for one, which ends with a port: that of two workers may stand for the same GPU.

    Args:
        wanted: auto, or a device, which is taken as it is.

    Raises:
        UsageError: several GPUs, and a worker without a name.
    """
    if wanted not in ("auto", "cuda") or (worker := _find_worker()) is None:
        return wanted
    count = int(import_module("torch").cuda.device_count())
    name = str(worker.name)
    if count > 1 and "://" in name:
        expected = "a name that ends with its number, by which it takes one"
        action = (
            "Start it with `--name w` (`dask worker --nworkers 2 --name w`), or with one GPU in CUDA_VISIBLE_DEVICES."
        )
        raise UsageError(f"worker {name}", f"{count} GPUs and no name", expected, action, setting="cluster")
    number = re.search(r"[0-9]+$", name)
    return f"cuda:{int(number[0]) % count}" if number and count > 1 else wanted


def respect_memory() -> None:
    """Let this process plan with the memory of its worker, beyond which Dask ends it."""
    worker = _find_worker()
    limit = worker and worker.memory_manager.memory_limit
    limit_process(int(limit) if limit else None)


def use_cores(count: int) -> None:
    """Let torch compute with the cores of this worker, to which its nanny gives one; 0: leave it as it is."""
    if count and find_spec("torch") is not None:
        import_module("torch").set_num_threads(count)


def _find_worker() -> Any:
    """Find the worker that runs this task; None outside of one."""
    if (distributed := sys.modules.get("distributed")) is None:  # a worker has it; others need not install it
        return None
    try:
        return distributed.get_worker()
    except ValueError:
        return None
