"""Processes that train together: what they add up, agree on and tell each other.

Gradients are added up explicitly, in one message after the backward pass, not by DistributedDataParallel: that averages
instead of adding up (shares of a batch may differ by a patch), has to be built again for each phase of growth and each
time an encoder is frozen, and what it gains, messages beside the backward pass, is little where gradients are small
against the work of a step, as here (docs/cluster.md, docs/log.md).

Nothing is pickled: tensors go through gloo or NCCL, texts as JSON through the store of the launcher.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from unetpp.errors import UsageError
from unetpp.rank_place import RankPlace
from unetpp.runtime.rank_watch import SILENT_S, LostRank, RankWatch

JOIN_S = 300.0
"""Seconds within which all ranks have to be there."""
TIMEOUT_S = 1800.0
"""Seconds after which ranks that live, but do not meet, give up; one that is lost is found long before."""
POLL_S = 0.1
"""Seconds between two looks for a message."""
LEAVE_S = 5.0
"""Seconds for which the first rank, where the messages are, waits until the others have read the last one."""


class Ranks:
    """The processes that train together, seen from one of them. A single one communicates with nobody.

    Args:
        place: of this process.
        store: of the launcher; None: this process is alone.
        hosts: machine and process of each rank, in words.

    Attributes:
        added_bytes: bytes that were added up so far, for measurements.
        gathered_bytes: bytes that were gathered or taken from the first rank, of all ranks together.
        messages: number of messages of both kinds.
    """

    def __init__(self, place: RankPlace, store: Any = None, hosts: Sequence[str] = ()) -> None:
        self.place, self.rank, self.size = place, place.rank, place.size
        self.added_bytes = self.gathered_bytes = self.messages = 0
        self._store, self._orders = store, 0
        self._watch = RankWatch(store, place, hosts) if store else None

    @property
    def is_first(self) -> bool:
        """Whether this is the one that reads, plans, writes and reports."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        """Whether there is no other."""
        return self.size == 1

    def share(self, count: int) -> range:
        """Return the indices of this rank's share of `count` things; shares differ by one at most."""
        return range(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def add_up(self, values: Tensor) -> Tensor:
        """Add up a tensor over the ranks in place, and return it: tensors that no gradient flows through."""
        if not self.is_alone:
            self.added_bytes += values.nbytes
            with self._communicating():
                dist.all_reduce(values)
        return values

    def sum_gradients(self, weights: Sequence[Tensor]) -> None:
        """Replace gradients by their sums over the ranks, in one message."""
        if self.is_alone:
            return
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        flat = self.add_up(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def gather(self, own: Tensor, lengths: Sequence[int]) -> list[Tensor]:
        """Gather a flat tensor of each rank.

        Args:
            own: that of this rank.
            lengths: of those of all ranks.
        """
        if self.is_alone:
            return [own]
        longest = max(lengths)
        padded = torch.nn.functional.pad(own, (0, longest - len(own)))
        rows = [torch.empty_like(padded) for _ in lengths]
        self.gathered_bytes += self.size * padded.nbytes
        with self._communicating():
            dist.all_gather(rows, padded)
        return [row[:length] for row, length in zip(rows, lengths, strict=True)]

    def take_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite tensors by those of the first rank."""
        for tensor in tensors if not self.is_alone else ():
            values = tensor.contiguous()
            self.gathered_bytes += values.nbytes
            with self._communicating():
                dist.broadcast(values, src=0)
            tensor.copy_(values)

    def agree(self, number: float, flag: bool = False) -> tuple[float, bool]:
        """Return the number of the first rank, and whether any rank has raised the flag: one small message."""
        if self.is_alone:
            return number, flag
        values = self.add_up(torch.tensor([number if self.is_first else 0.0, float(flag)], dtype=torch.float64))
        return values[0].item(), bool(values[1])

    def tell(self, message: dict[str, Any]) -> None:
        """Tell the others, who `listen`; only the first rank does."""
        if self._store:
            self._store.set(f"order/{self._orders}", json.dumps(message))
            self._orders += 1

    def listen(self) -> dict[str, Any]:
        """Wait for what the first rank tells next, however long that takes; signals are handled meanwhile.

        Raises:
            LostRank: the first rank has ended without a word.
        """
        assert self._store is not None and self._watch is not None
        name = f"order/{self._orders}"
        try:
            while not self._store.check([name]):
                self._watch.require_first()
                time.sleep(POLL_S)
            message: dict[str, Any] = json.loads(self._store.get(name))
        except RuntimeError as error:
            raise self._watch.explain(error) from error
        self._orders += 1
        return message

    def fail(self, message: str) -> None:
        """Tell all others why this rank ends, so that they need not wait for it."""
        if self._watch:
            self._watch.fail(message)

    def find_lost(self) -> list[int]:
        """List the ranks that have shown no sign of life for some seconds."""
        return self._watch.find_lost(SILENT_S) if self._watch else []

    @property
    def speaks(self) -> bool:
        """Whether this is the first of the ranks that still live: the one that shows messages."""
        return self._watch is None or self._watch.speaks

    def leave(self) -> None:
        """End the communication; the first rank, where the messages may be, goes last."""
        global _joined
        _joined = ALONE
        if self._store is None or self._watch is None:
            return
        with suppress(RuntimeError):
            dist.destroy_process_group()
        self._watch.close()
        with suppress(RuntimeError):
            left, until = self._store.add("left", 1), time.monotonic() + LEAVE_S
            while self.is_first and left < self.size and time.monotonic() < until:
                time.sleep(POLL_S)
                left = self._store.add("left", 0)
        self._store = self._watch = None

    @contextmanager
    def _communicating(self) -> Iterator[None]:
        """Explain why others do not answer."""
        assert self._watch is not None
        self.messages += 1
        with self._watch.waiting():
            try:
                yield
            except RuntimeError as error:
                raise self._watch.explain(error) from error


ALONE = Ranks(RankPlace())
_joined = ALONE


def joined() -> Ranks:
    """Return the ranks that this process has joined; without `join` it is alone."""
    return _joined


def join(place: RankPlace, device: torch.device) -> Ranks:
    """Meet the other ranks; with none of them, this process is alone.

    Args:
        place: of this process.
        device: where it trains: gloo for a processor, NCCL for a GPU.

    Raises:
        UsageError: not all of them came.
    """
    if place.size == 1:
        return ALONE
    backend, timeout = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timedelta(seconds=TIMEOUT_S)
    try:
        store = _open_store(place)
        found = _introduce(place, store)
        dist.init_process_group(backend, store=store, rank=place.rank, world_size=place.size, timeout=timeout)
    except RuntimeError as error:
        reason = str(error).splitlines()[0][:200]
        got = f"rank {place.rank} on {socket.gethostname()} without the others ({reason})"
        expected = f"all {place.size} ranks at {place.address}:{place.port}"
        action = "Start all of them at once with torchrun or srun, and check that this address can be reached."
        raise UsageError("WORLD_SIZE", got, expected, action) from error
    _divide_threads(found[place.rank], found)
    hosts = [f"{each['host']} (process {each['process']})" for each in found]
    global _joined
    _joined = Ranks(place, PrefixStore("unetpp", store), hosts)
    return _joined


def _open_store(place: RankPlace) -> Any:
    """Open the store of the launcher, or have the first rank open one."""
    url, timeout = f"tcp://{place.address}:{place.port}", timedelta(seconds=JOIN_S)
    store, _, _ = next(rendezvous(url, place.rank, place.size, timeout=timeout))
    return PrefixStore(f"start-{place.restarts}", store)  # a launcher may keep its store when it starts all again


def _introduce(place: RankPlace, store: Any) -> list[dict[str, Any]]:
    """Tell the others where this process runs, and read where they do."""
    mine = {"host": socket.gethostname(), "process": os.getpid(), "cores": _list_cores()}
    store.set(f"rank/{place.rank}", json.dumps(mine))
    names = [f"rank/{rank}" for rank in range(place.size)]
    store.wait(names, timedelta(seconds=JOIN_S))
    return [json.loads(store.get(name)) for name in names]


def _list_cores() -> list[int]:
    """List the cores on which this process may run."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def _divide_threads(mine: dict[str, Any], ranks: Sequence[dict[str, Any]]) -> None:
    """Divide the cores among the ranks that share them, unless the user has said how many threads there are."""
    if not _has_chosen_threads():
        sharing = sum(each["host"] == mine["host"] and each["cores"] == mine["cores"] for each in ranks)
        torch.set_num_threads(max(1, len(mine["cores"]) // sharing))


def _has_chosen_threads() -> bool:
    """Tell whether the user has set OMP_NUM_THREADS; torchrun sets it to 1 where the user has not: that is undone."""
    if "OMP_NUM_THREADS" not in os.environ:
        return False
    if os.environ.get("OMP_NUM_THREADS") != "1" or "TORCHELASTIC_RUN_ID" not in os.environ:
        return True
    import psutil

    try:
        launcher: dict[str, str] = psutil.Process(os.getppid()).environ()
    except psutil.Error:
        return True
    if "OMP_NUM_THREADS" in launcher:
        return True
    del os.environ["OMP_NUM_THREADS"]  # processes of this one, which measure costs, have all cores
    return False


__all__ = ["ALONE", "LostRank", "Ranks", "join"]
