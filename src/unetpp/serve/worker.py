"""The threads that predict: small images several at once, whose tiles share passes, and one large image beside them."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

from unetpp.errors import LOG, Problem
from unetpp.progress import Stage
from unetpp.serve.job import Job, JobState
from unetpp.serve.job_prediction import JobPrediction
from unetpp.serve.job_store import JobStore
from unetpp.serve.limits import Limits
from unetpp.serve.model_shelf import ModelShelf
from unetpp.serve.problems import describe_error, to_item

RETRY_S = 5.0
"""Seconds after which the list of jobs is written again, if that was not possible."""


class Stopped(BaseException):
    """Ends a prediction between two tiles; no `Exception`, so that nothing takes it for a problem of the image."""

    def __init__(self, state: JobState, problem: Problem | None = None) -> None:
        self.state, self.problem = state, problem


class Worker:
    """Predicts the jobs of a store until it is stopped.

    Args:
        store: the jobs.
        shelf: the models.
        prediction: predicts one of them.
        limits: of the server.
    """

    def __init__(self, store: JobStore, shelf: ModelShelf, prediction: JobPrediction, limits: Limits) -> None:
        self._store, self._shelf, self._prediction, self._limits = store, shelf, prediction, limits
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._cancelled: set[str] = set()
        self._threads = [
            threading.Thread(target=lambda: self.run(), name=f"unetpp predictions {number}", daemon=True)
            for number in range(max(1, limits.together))
        ]
        self.is_ready = threading.Event()
        """Set when the first model is loaded."""
        self.finished: dict[JobState, int] = {}
        """Number of jobs by the state in which they ended."""
        self.busy_seconds = 0.0
        """Seconds of all jobs, also of those that ran at the same time."""

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def is_alive(self) -> bool:
        """Tell whether the threads live."""
        return all(thread.is_alive() for thread in self._threads)

    def stop(self, wait_s: float = 30.0) -> None:
        """Stop after the present tiles; their jobs go back to the queue."""
        self._stopping.set()
        with self._store.changed:
            self._store.changed.notify_all()
        until = time.monotonic() + wait_s
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, until - time.monotonic()))

    def cancel(self, id: str) -> None:
        """Stop a running job after its present tile."""
        self._cancelled.add(id)

    def run(self) -> None:
        """Load the first model, and predict until stopped; what each thread does."""
        with self._lock:
            for card in [] if self.is_ready.is_set() else self._shelf.list()[:1]:
                with suppress(Exception):  # told by each job
                    self._shelf.load(card.id)
            self.is_ready.set()
        while not self._stopping.is_set():
            try:
                job = self._store.take(self._stopping.is_set, self._limits.small_voxels)
            except Exception as error:  # a full disk, most often: only these threads predict
                self._wait_for_disk(error)
                continue
            if job is not None:
                self._run_job(job)

    def _run_job(self, job: Job) -> None:
        started = time.time()
        end: dict[str, Any] = {"state": JobState.DONE}
        try:
            end |= self._prediction.run(job, self._watch(job))
        except Stopped as stopped:
            end = {"state": stopped.state, "problem": stopped.problem and to_item(stopped.problem)}
            if stopped.state is JobState.QUEUED:
                end |= {"started": None, "progress": 0.0}
        except Exception as error:
            status, problems = describe_error(error)
            if status == 500:
                LOG.error("job %s", job.id, exc_info=error)
            end = {"state": JobState.FAILED, "problem": to_item(problems[0])}
        self._cancelled.discard(job.id)
        state = end["state"]
        if state is not JobState.QUEUED:
            end["finished"] = time.time()
            with self._lock:
                self.finished[state] = self.finished.get(state, 0) + 1
                self.busy_seconds += time.time() - started
        while not self._write_end(job, end):
            if self._stopping.is_set():
                return  # the next server begins it again

    def _write_end(self, job: Job, end: dict[str, Any]) -> bool:
        """Write how a job ended; False: not possible now, so that it has to be tried again."""
        try:
            current = self._store.find(job.id)
            if current is not None:  # not removed meanwhile
                self._store.save(current.model_copy(update=end))
                self._store.remove_oldest(self._limits.kept)
        except Exception as error:
            self._wait_for_disk(error)
            return False
        return True

    def _wait_for_disk(self, error: Exception) -> None:
        LOG.error("the list of jobs cannot be written (%s); it is tried again", error)
        LOG.debug("list of jobs", exc_info=error)
        self._stopping.wait(RETRY_S)

    def _watch(self, job: Job) -> Stage:
        """Return what is told of the progress: it shows it, and stops the job where it must end."""
        started = time.monotonic()

        def watch(done: float, total: int, note: str = "") -> None:
            if job.id in self._cancelled:
                raise Stopped(JobState.CANCELLED)
            if self._stopping.is_set():
                raise Stopped(JobState.QUEUED)
            spent = time.monotonic() - started
            if spent > self._limits.job_seconds:
                got = f"more than {self._limits.job_seconds:g} s"
                expected = "a prediction within the limit of the server"
                raise Stopped(JobState.FAILED, Problem(job.name, got, expected, "Cut the image into pieces."))
            left = spent * (total / done - 1) if done else None
            shown = {"progress": done / max(total, 1), "seconds_left": left}
            self._store.show(job.model_copy(update=shown))

        return watch
