"""Leases of clients: what a program holds here is given back once it has not been heard of for a while.

A program that dies leaves no uploads, no jobs and no model behind. Each use of a lease renews it: a prediction with it,
a question about one of its jobs, or a word that its client still lives.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import BaseModel

from unetpp.serve.job import JobState
from unetpp.serve.job_store import JobStore
from unetpp.serve.limits import Limits
from unetpp.serve.model_shelf import ModelShelf
from unetpp.serve.problems import Refused

SWEEP_S = 2.0
"""Seconds between two looks for leases that have ended."""


class Lease(BaseModel):
    """What one client holds."""

    id: str
    idle_s: float
    """Seconds without a use after which it ends."""
    left_s: float
    """Seconds until then."""
    model: str | None = None
    """Model that stays loaded for it before others."""
    jobs: list[str] = []
    """Its jobs, which are removed with their files when it ends."""


@dataclass
class _Held:
    idle_s: float
    model: str | None
    used: float = field(default_factory=time.monotonic)
    jobs: set[str] = field(default_factory=set)

    @property
    def left_s(self) -> float:
        return max(0.0, self.used + self.idle_s - time.monotonic())


class Leases:
    """All leases of a server; those of jobs that have survived a restart begin anew.

    Args:
        store: the jobs.
        shelf: the models.
        cancel: stops a running job.
        limits: of the server.
    """

    def __init__(self, store: JobStore, shelf: ModelShelf, cancel: Callable[[str], None], limits: Limits) -> None:
        self._store, self._shelf, self._cancel, self._limits = store, shelf, cancel, limits
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        self._ending: set[str] = set()
        """Jobs of leases that have ended."""
        for job in store.list():
            if job.lease is not None:
                self._held.setdefault(job.lease, _Held(limits.lease_idle_s, None)).jobs.add(job.id)

    def begin(self, idle_s: float | None, model: str | None) -> Lease:
        """Begin a lease.

        Args:
            idle_s: seconds without a use after which it ends; None: the limit of the server, which is the most.
            model: a model that stays loaded for it.

        Raises:
            Refused: there are too many, or no such model.
        """
        held = _Held(min(idle_s or self._limits.lease_idle_s, self._limits.lease_idle_s), None)
        held.model = None if model is None else self._shelf.card(model).id
        id = secrets.token_urlsafe(12)
        with self._lock:
            if len(self._held) >= self._limits.leases:
                got, expected = f"{len(self._held)} leases", "fewer"
                raise Refused(429, "lease", got, expected, "Try again later.", {"Retry-After": "60"})
            self._held[id] = held
            self._pin()
        return self.renew(id)

    def renew(self, id: str, job: str | None = None) -> Lease:
        """Renew a lease, and let it hold a job. Raises Refused: it has ended."""
        with self._lock:
            held = self._held.get(id)
            if held is None or not held.left_s:
                got, expected = f"{id[:40]!r}, which has ended or was never begun", "a lease"
                raise Refused(404, "lease", got, expected, "Begin one: POST /v1/leases.")
            held.used = time.monotonic()
            held.jobs |= set() if job is None else {job}
            return Lease(id=id, idle_s=held.idle_s, left_s=held.left_s, model=held.model, jobs=sorted(held.jobs))

    def touch(self, id: str | None) -> None:
        """Renew the lease of a job that is asked for, if it has one that has not ended."""
        with self._lock:
            if (held := self._held.get(id or "")) is not None and held.left_s:
                held.used = time.monotonic()

    def end(self, id: str) -> None:
        """End a lease, and give back what it holds. Raises Refused: it has ended already."""
        self.renew(id)
        with self._lock:
            if id in self._held:  # another request may have ended it since
                self._held[id].idle_s = 0.0
        self.sweep()

    def give_back(self, job: str) -> None:
        """Remove a job, as if its lease had just ended."""
        with self._lock:
            self._ending.add(job)
        self.sweep()

    def sweep(self) -> None:
        """Give back what leases hold that have ended; a job that runs is stopped first, and removed the next time."""
        with self._lock:
            for id in [id for id, held in self._held.items() if not held.left_s]:
                self._ending |= self._held.pop(id).jobs
            self._pin()
            for held in self._held.values():  # jobs that were removed one by one are forgotten now and then
                if len(held.jobs) > self._limits.kept + self._limits.queued:
                    held.jobs = {job for job in held.jobs if self._store.find(job) is not None}
            ending = sorted(self._ending)
        for id in ending:
            job = self._store.find(id)
            if job is not None and job.state is JobState.QUEUED:
                self._store.cancel(id)
                job = self._store.find(id)
            if job is not None and job.state is JobState.RUNNING:
                self._cancel(id)
                continue
            if job is not None:
                self._store.remove(id)
            with self._lock:
                self._ending.discard(id)

    def _pin(self) -> None:
        self._shelf.pinned = frozenset(held.model for held in self._held.values() if held.model is not None)
