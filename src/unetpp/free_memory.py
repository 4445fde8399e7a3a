"""Memory that a process may still take: what the machine has left, within the limits of containers and queues."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import psutil

_PROCESS = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")
_LIMITS: list[int] = []
"""Bytes that this process may take by the rules of what started it."""


def measure_free_bytes(process: Path = _PROCESS, mount: Path = _MOUNT) -> int:
    """Return the bytes that can still be taken: of the machine, and of each control group of this process.

    Docker, Kubernetes and SLURM end a process that exceeds the limit of its group, however much the machine has left.

    Args:
        process: file that lists the groups of a process (Linux, versions 1 and 2 of control groups).
        mount: folder of all groups.
    """
    available: int = psutil.virtual_memory().available
    own = [limit - psutil.Process().memory_info().rss for limit in _LIMITS]
    found: int = max(0, min([available, *own, *_read_groups(process, mount)]))
    return found


def limit_process(limit: int | None) -> None:
    """Set the bytes that this process may take in all, as a worker of a cluster; None: no limit of its own."""
    _LIMITS[:] = [] if limit is None else [limit]


def _read_groups(process: Path, mount: Path) -> Iterator[int]:
    """Yield what is left of each limit. Those of parents count too; in containers the path may be that of the host."""
    with contextlib.suppress(OSError, ValueError):
        for line in process.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            root = mount / "memory" if controllers else mount
            names = ("limit_in_bytes", "usage_in_bytes") if controllers else ("max", "current")
            inside = PurePosixPath(path.lstrip("/"))
            for folder in [root / inside, *(root / parent for parent in inside.parents)]:
                with contextlib.suppress(OSError, ValueError):
                    limit, used = (int((folder / f"memory.{name}").read_text()) for name in names)  # "max" is no number
                    yield limit - used + _read_file_cache(folder)


def _read_file_cache(folder: Path) -> int:
    """Return the bytes of files that a group keeps in memory, which the system takes back when they are needed."""
    entries = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    return int(entries.get("total_inactive_file", entries.get("inactive_file", 0)))
