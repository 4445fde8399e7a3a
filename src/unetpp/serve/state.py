"""All that the server holds, which its routes share."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import gettempdir
from typing import Annotated

from fastapi import Depends, Request

from unetpp.data.case_files import open_case_image
from unetpp.formats.sources import ImageSource
from unetpp.layouts.dataset import Case
from unetpp.plan import DataPlan
from unetpp.serve.corrections import CorrectionSet
from unetpp.serve.data_cases import DataCases
from unetpp.serve.job import Job, JobState, SizeResult, View
from unetpp.serve.job_prediction import JobPrediction
from unetpp.serve.job_store import JobStore
from unetpp.serve.leases import Leases
from unetpp.serve.limits import DEFAULT_LIMITS, Limits
from unetpp.serve.model_shelf import ModelShelf
from unetpp.serve.problems import Refused
from unetpp.serve.suggestions import Suggester
from unetpp.serve.tiles import TileCache
from unetpp.serve.trainings import Trainings
from unetpp.serve.uploads import clean_name
from unetpp.serve.worker import Worker


@dataclass
class ServerState:
    """Models, jobs and folders of one server."""

    store: JobStore
    shelf: ModelShelf
    cases: DataCases
    corrections: Path
    """Folder of corrected cases, in it one for each data set that models have learned from."""
    device: str = "auto"
    tokens: tuple[str, ...] = ()
    limits: Limits = DEFAULT_LIMITS
    run: Path | None = None
    """Training that is shown live."""
    started: float = field(default_factory=time.time)
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the server was told to stop: it takes no more jobs, and streams end."""

    def __post_init__(self) -> None:
        self.prediction = JobPrediction(self.store, self.shelf, self.cases.find)
        self.worker = Worker(self.store, self.shelf, self.prediction, self.limits)
        self.leases = Leases(self.store, self.shelf, self.worker.cancel, self.limits)
        self.tiles = TileCache(self)
        self.suggester = Suggester(self)
        folder = self.store.folder / "trainings"
        self.trainings = Trainings(folder, self.shelf, self.corrected, self.cases, self.device)

    def corrected(self, model: str | None) -> CorrectionSet:
        """Return the corrected cases of a model: those of all models that learned from the same data lie together."""
        card = self.shelf.card(model)
        return CorrectionSet(self.corrections / clean_name(card.trained_on))

    def require_room(self, coming: int = 0, received: int = 0) -> None:
        """Refuse a prediction that the queue, or an upload that the disks, have no room for.

        What comes is first a temporary file, and is copied when it is complete.

        Args:
            coming: bytes that will come; 0: it is not known.
            received: bytes of the upload that have come.
        """
        most = self.limits.queued
        if self.store.count(JobState.QUEUED) >= most:
            got, expected = f"{most} jobs that wait", "a free place in the queue"
            raise Refused(429, "queue", got, expected, "Try again later.", {"Retry-After": "10"})
        kept, temporary = self.store.folder, Path(gettempdir())
        is_same = kept.stat().st_dev == temporary.stat().st_dev
        needed = {temporary: (coming, 0), kept: (received + coming * (2 if is_same else 1), self.limits.free_bytes)}
        for folder, (bytes, reserved) in needed.items():
            free = max(0, shutil.disk_usage(folder).free - reserved)
            if bytes > free:
                disk = "the disk" if folder == kept else "the folder of temporary files"
                got, expected = f"{bytes / 1e6:,.0f} MB", f"at most the {free / 1e6:,.0f} MB that {disk} has left"
                action = "Remove jobs that are done, or ask whoever runs the server."
                raise Refused(507, "upload", got, expected, action)

    def require_running(self) -> None:
        """Refuse a prediction while the server stops."""
        if self.stopping.is_set():
            raise Refused(503, "server", "a server that is stopping", "one that runs", "Try again soon.")

    def add_job(self, job: Job) -> Job:
        """Queue a job, and let its lease hold it; nothing is left of one that is refused.

        Raises:
            Refused: the queue is full, or the lease has ended while the upload was read.
        """
        if not self.store.add(job, self.limits.queued):
            self.store.remove(job.id)
            self.require_room()  # whose refusal says why; before the upload was read there was a place
            raise Refused(429, "queue", "no place a moment ago", "a free one", "Try again.", {"Retry-After": "1"})
        if job.lease is not None:
            try:
                self.leases.renew(job.lease, job.id)
            except Refused:
                self.leases.give_back(job.id)
                raise
        return self.require_job(job.id)

    def require_job(self, id: str) -> Job:
        """Find a job, and renew its lease; raises Refused."""
        job = self.store.find(id)
        if job is None:
            raise Refused(404, "job", repr(id[:80]), "the id of a job", "List them: /v1/jobs.")
        self.leases.touch(job.lease)
        return job

    def require_result(self, id: str) -> tuple[Job, View]:
        """Find a job with a result; raises Refused."""
        job = self.require_job(id)
        if not job.is_done or job.view is None:
            raise Refused(409, "job", f"a job that is {job.state}", "one that is done", "Wait for it: its events tell.")
        return job, job.view

    def require_size(self, job: Job, size: str | None) -> SizeResult:
        """Find the result of a job at a size, by its name or word; None: the largest. Raises Refused."""
        if size is None and job.sizes:
            return job.sizes[-1]
        words = {entry.word: entry.size for entry in self.shelf.card(job.model).sizes if entry.word}
        for found in job.sizes:
            if found.size in (size, words.get(size or "")):
                return found
        known = ", ".join([*(found.size for found in job.sizes), *words])
        raise Refused(404, "size", repr((size or "")[:40]), known, "Choose one of them.")

    def require_file(self, job: Job, name: str | None, what: str) -> Path:
        """Return the path of a result; raises Refused if it was not asked for or is gone."""
        path = self.store.results_of(job.id) / (name or "-")
        if not name or not path.is_file():
            raise Refused(404, what, "no such map in this job", "one that was asked for", "Predict again with it.")
        return path

    def case_of(self, job: Job) -> Case:
        """Return the files of a job."""
        return self.prediction.case_of(job)

    def data_of(self, job: Job) -> DataPlan:
        """Return how the model of a job reads images."""
        return self.shelf.data(job.model)

    def open_image(self, job: Job) -> ImageSource:
        """Open the image of a job; raises DataError."""
        return open_case_image(self.case_of(job), self.data_of(job))


def find_state(request: Request) -> ServerState:
    """Return the state of the server that answers a request."""
    state: ServerState = request.app.state.unetpp
    return state


State = Annotated[ServerState, Depends(find_state)]
"""Parameter of a route that gets the state."""
