"""Place of this process among the ranks of a training, as torchrun or srun tell it through the environment.

torchrun (and whatever starts processes as it does) sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT; srun
sets SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID and the list of nodes. Read without torch, because a process that is not
the first one shows nothing from its start on.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from unetpp.errors import UsageError

PORTS = range(20_000, 30_000)
"""Ports of which the number of a SLURM job chooses one, below those that systems give away by themselves."""


@dataclass(frozen=True)
class RankPlace:
    """Place of a process among those that train together."""

    rank: int = 0
    """Its number; the first one, 0, is the one that reads, plans, writes and reports."""
    size: int = 1
    """Number of processes."""
    local_rank: int = 0
    """Its number among those of its machine."""
    address: str = ""
    """Machine of the first process."""
    port: int = 0
    restarts: int = 0
    """How often the launcher has started all of them again."""

    @property
    def is_first(self) -> bool:
        """Whether this is the process that reads, plans, writes and reports."""
        return self.rank == 0


def find_place(environment: Mapping[str, str] = os.environ) -> RankPlace:
    """Find the place of this process; that of a single one where nothing else is said.

    Raises:
        UsageError: WORLD_SIZE without the other variables of torchrun, or values that are no numbers or contradict each
            other.
    """
    if _read_number(environment, "WORLD_SIZE", 1) > 1 or "RANK" in environment:
        return _read_torchrun(environment)
    # a batch script has SLURM_NTASKS too, but is no task of a step: nobody would answer it
    if "SLURM_PROCID" in environment and ("SLURM_STEP_ID" in environment or "SLURM_STEPID" in environment):
        return _read_srun(environment)
    return RankPlace()


def _read_torchrun(environment: Mapping[str, str]) -> RankPlace:
    size = _read_number(environment, "WORLD_SIZE", 1)
    if missing := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if size > 1 and not environment.get(name)]:
        got, expected = f"{size} without {' and '.join(missing)}", "what torchrun sets for each process"
        action = f"Start it with `torchrun --nproc-per-node {size} -m unetpp train ...`, or unset WORLD_SIZE."
        raise UsageError("WORLD_SIZE", got, expected, action)
    rank = _read_number(environment, "RANK", 0)
    _require_below("RANK", rank, "WORLD_SIZE", size)
    return RankPlace(
        rank,
        size,
        _read_number(environment, "LOCAL_RANK", 0 if size == 1 else None),
        environment.get("MASTER_ADDR", ""),
        _read_number(environment, "MASTER_PORT", 0),
        _read_number(environment, "TORCHELASTIC_RESTART_COUNT", 0),
    )


def _read_srun(environment: Mapping[str, str]) -> RankPlace:
    size = _read_number(environment, "SLURM_STEP_NUM_TASKS", _read_number(environment, "SLURM_NTASKS", 1))
    rank = _read_number(environment, "SLURM_PROCID", 0)
    _require_below("SLURM_PROCID", rank, "SLURM_NTASKS", size)
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST", "")
    job = f"{environment.get('SLURM_JOB_ID', '')}.{environment.get('SLURM_STEP_ID', '')}"
    address = environment.get("MASTER_ADDR") or find_first_node(nodes)
    if size > 1 and not address:
        expected = "the list of nodes that srun sets"
        raise UsageError("SLURM_STEP_NODELIST", "nothing", expected, "Set MASTER_ADDR to the first node of the job.")
    return RankPlace(
        rank,
        size,
        _read_number(environment, "SLURM_LOCALID", 0),
        address,
        _read_number(environment, "MASTER_PORT", PORTS[zlib.crc32(job.encode()) % len(PORTS)]),
        _read_number(environment, "SLURM_RESTART_COUNT", 0),
    )


def find_first_node(nodes: str) -> str:
    """Return the first name of a list of nodes as SLURM writes it, such as gpu[03-07,11],login1; empty without one."""
    found = re.match(r"([^,\[]*)(?:\[([^\],-]+)[^\]]*\]([^,]*))?", nodes)
    return "".join(part or "" for part in found.groups()) if found else ""


def _read_number(environment: Mapping[str, str], name: str, default: int | None) -> int:
    text = environment.get(name) or ("" if default is None else str(default))
    if not (text.isascii() and text.isdecimal()):
        action = "Start the processes with torchrun or srun, which set it."
        raise UsageError(name, repr(text) if text else "nothing", "a whole number in the environment", action)
    return int(text)


def _require_below(name: str, value: int, limit_name: str, limit: int) -> None:
    if value >= limit:
        action = f"Start the processes with torchrun or srun, or unset {limit_name}."
        raise UsageError(name, str(value), f"0 to {limit - 1}, as {limit_name} is {limit}", action)


def is_follower() -> bool:
    """Tell whether this process is one of several, and not the first: that one alone shows progress and results."""
    try:
        return not find_place().is_first
    except UsageError:
        return False
