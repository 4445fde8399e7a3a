"""What the argument `cluster` names: processes of this machine, a scheduler by address or file, or a batch system."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from unetpp.cluster.queue_file import PURPOSE, QueueFile, read_queue_file
from unetpp.errors import UsageError, optional_package

EXPECTED = "local, local:4, tcp://HOST:PORT, the JSON file of a scheduler, or a YAML file of dask-jobqueue"
_SCHEDULER = re.compile(r"(tcp|tls|ucx|ws|wss)://[^\s/]+:[0-9]{1,5}")


@dataclass(frozen=True)
class LocalWorkers:
    """Processes of this machine."""

    count: int


@dataclass(frozen=True)
class SchedulerAddress:
    """A scheduler that runs already."""

    address: str
    """As tcp://HOST:PORT."""
    given: str
    """As the user names it."""


ClusterAddress = LocalWorkers | SchedulerAddress | QueueFile


def read_address(text: str) -> ClusterAddress:
    """Read the argument `cluster`.

    Raises:
        UsageError: it names nothing that can be used.
        MissingExtraError: Dask is not installed.
    """
    with optional_package("distributed", "cluster", PURPOSE):
        if find_spec("distributed") is None:
            raise ImportError
    if found := re.fullmatch(r"local(?::([0-9]{1,4}))?", text):
        count = int(found[1]) if found[1] else _count_devices()
        if count:
            return LocalWorkers(count)
    elif _SCHEDULER.fullmatch(text):
        return SchedulerAddress(text, text)
    elif os.path.isfile(text):
        return _read_file(Path(text))
    raise UsageError("cluster", repr(text), EXPECTED, "Check the path or the address.")


def _count_devices() -> int:
    """Count the GPUs of this machine; without one, the cores that this process may use."""
    if find_spec("torch") is not None and (gpus := int(import_module("torch").cuda.device_count())):
        return gpus
    return count_cores()


def count_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read_file(path: Path) -> ClusterAddress:
    yaml: Any = import_module("yaml")  # a part of Dask; JSON is YAML too
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(path, f"a file that cannot be read ({reason})", EXPECTED, setting="cluster") from None
    if isinstance(content, Mapping) and isinstance(content.get("address"), str):
        if _SCHEDULER.fullmatch(content["address"]):
            return SchedulerAddress(content["address"], str(path))
    elif isinstance(content, Mapping) and "jobqueue" in content:
        return read_queue_file(path, content)
    got = "neither the address of a scheduler nor a section jobqueue"
    raise UsageError(path, got, EXPECTED, "`dask scheduler --scheduler-file FILE` writes the first.", setting="cluster")
