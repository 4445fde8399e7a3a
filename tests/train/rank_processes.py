"""Processes that train together, for tests, over gloo on this machine."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.processes import start
from unetpp.rank_place import RankPlace
from unetpp.runtime.ranks import Ranks, join

CPU = torch.device("cpu")


def spawn(work: Callable[..., Any], size: int, folder: Path, *arguments: Any) -> list[Any]:
    """Call `work(ranks, *arguments)` in each of `size` processes; return what they return, tensors and such."""
    folder.mkdir(parents=True, exist_ok=True)
    start(_join_and_work, size, work, size, find_port(), str(folder), arguments)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(size)]


def find_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def join_here(rank: int, size: int, port: int) -> Ranks:
    """Join the other processes of this machine, with one thread."""
    ranks = join(RankPlace(rank, size, rank, "127.0.0.1", port), CPU)
    torch.set_num_threads(1)
    return ranks


def _join_and_work(
    rank: int, work: Callable[..., Any], size: int, port: int, folder: str, arguments: tuple[Any, ...]
) -> None:
    ranks = join_here(rank, size, port)
    try:
        torch.save(work(ranks, *arguments), f"{folder}/{rank}.pt")
    finally:
        ranks.leave()
