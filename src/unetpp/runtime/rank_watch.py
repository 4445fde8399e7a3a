"""Signs of life of the ranks of a training: one that is lost is named with its machine, instead of a hang.

Each rank counts in the store of the launcher, and looks at the counts of the others. The messages of gloo end with an
error as soon as a process dies, those of NCCL or to a frozen process hang: then a thread ends this one. The store hangs
as well if the process is frozen that holds it, so that another thread looks how long a sign takes.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from unetpp.errors import Interrupted
from unetpp.rank_place import RankPlace

BEAT_S = 1.0
"""Seconds between two signs of life."""
SILENT_S = 5.0
"""Seconds without a sign of life after which a rank is lost whose connection has ended."""
LOST_S = 60.0
"""Seconds without a sign of life after which any rank is lost: a busy machine may delay a sign."""
LEFT = "left"


class LostRank(Interrupted):
    """A rank that has ended or does not answer; what was saved before can be continued."""


class RankWatch:
    """Looks after the other ranks, from threads.

    Args:
        store: of the launcher.
        place: of this process.
        hosts: machine and process of each rank, in words.
    """

    def __init__(self, store: Any, place: RankPlace, hosts: Sequence[str]) -> None:
        self._store, self._place, self._hosts = store, place, hosts
        now = time.monotonic()
        self._seen: dict[int, tuple[str, float]] = {rank: ("", now) for rank in range(place.size)}
        self._waiting_since: float | None = None
        self._unreachable_since: float | None = None
        self._beating_since: float | None = None
        self._stuck_since: float | None = None
        self._failure = ""
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._give_signs, name="signs of life", daemon=True)
        self._looking = threading.Thread(target=self._look_after, name="lost ranks", daemon=True)
        self._thread.start()
        self._looking.start()

    def find_lost(self, patience_s: float | None = None) -> list[int]:
        """List the ranks without a sign of life for so many seconds; None: `LOST_S`."""
        now, patience_s = time.monotonic(), LOST_S if patience_s is None else patience_s
        since = self._stuck_since if self._unreachable_since is None else self._unreachable_since
        if since is not None:  # the store is with the first rank, or with its launcher
            return [0] if self._place.rank and now - since > patience_s else []
        others = {rank: seen for rank, seen in self._seen.items() if rank != self._place.rank}
        return [rank for rank, (count, when) in others.items() if count != LEFT and now - when > patience_s]

    def require_first(self) -> None:
        """Raise LostRank if the first rank, or the store of the launcher, is lost."""
        if 0 in self.find_lost() or self._seen[0][0] == LEFT:
            raise LostRank(self._describe([0]))

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Mark a block in which this rank waits for the others, without an ear for signals."""
        self._waiting_since = time.monotonic()
        try:
            yield
        finally:
            self._waiting_since = None

    def explain(self, error: BaseException) -> LostRank:
        """Find out why the communication has ended: a rank has failed, and said so, or is lost."""
        until = time.monotonic() + SILENT_S + 3 * BEAT_S
        while time.monotonic() < until:
            if reason := self._read_failure():
                return LostRank(reason)
            if lost := self.find_lost(SILENT_S):
                return LostRank(self._describe(lost))
            time.sleep(BEAT_S / 4)
        reason = " ".join(str(error).split())[:200]
        return LostRank(f"The ranks of this training have lost each other ({reason}).")

    def fail(self, message: str) -> None:
        """Leave word why this rank ends."""
        with suppress(RuntimeError):
            self._store.compare_set("failed", "", f"{self._name(self._place.rank)} has ended: {message}")

    def close(self) -> None:
        """Leave: nobody waits for a sign of life of this rank any more."""
        self._closed.set()
        for thread in (self._thread, self._looking):
            thread.join(SILENT_S)  # a store that hangs holds them
        if not self._thread.is_alive():
            with suppress(RuntimeError):
                self._store.set(f"alive/{self._place.rank}", LEFT)

    def _give_signs(self) -> None:
        count = 0
        while not self._closed.wait(BEAT_S):
            count += 1
            self._beating_since = time.monotonic()
            try:
                self._beat(count)
            except RuntimeError:  # the store has gone with its process
                self._unreachable_since = self._unreachable_since or time.monotonic()
            self._beating_since = None

    def _look_after(self) -> None:
        before: float | None = None
        while not self._closed.wait(BEAT_S):
            since = self._beating_since
            # seen twice: after a pause of this process itself the sign is about to be given
            is_stuck = since is not None and since == before and time.monotonic() - since > SILENT_S
            self._stuck_since, before = since if is_stuck else None, since
            self._end_if_lost()

    def _beat(self, count: int) -> None:
        """Give a sign of life, and look for those of the others."""
        self._store.set(f"alive/{self._place.rank}", str(count))
        names = [f"alive/{rank}" for rank in self._seen]
        for rank, name in enumerate(names):
            if not self._store.check([name]):
                continue
            found = self._store.get(name).decode()
            if found != self._seen[rank][0]:
                self._seen[rank] = (found, time.monotonic())
        self._failure = self._failure or self._read_failure()

    def _end_if_lost(self) -> None:
        """End this process if it waits in vain, for others or for the store: its main thread cannot be reached.

        It must not ask the store, which may hang.
        """
        starts = [since for since in (self._waiting_since, self._stuck_since) if since is not None]
        if not starts or time.monotonic() - min(starts) < LOST_S:
            return
        lost = self.find_lost()
        reason = "" if self._stuck_since is not None else self._failure
        reason = reason or (self._describe(lost) if lost else "")
        if reason:
            if self.speaks:
                print(f"unetpp: {reason}", file=sys.stderr, flush=True)
            os._exit(1)

    @property
    def speaks(self) -> bool:
        """Whether this is the first of the ranks that are not lost."""
        lost = self.find_lost(SILENT_S)
        return self._place.rank == min(rank for rank in self._seen if rank not in lost)

    def _read_failure(self) -> str:
        with suppress(RuntimeError):
            if self._store.check(["failed"]):
                text: str = self._store.get("failed").decode()
                return text
        return ""

    def _describe(self, lost: Sequence[int]) -> str:
        names = " and ".join(map(self._name, lost))
        return f"Lost {names}: got no sign of life; expected all {self._place.size} ranks."

    def _name(self, rank: int) -> str:
        return f"rank {rank} on {self._hosts[rank]}"
