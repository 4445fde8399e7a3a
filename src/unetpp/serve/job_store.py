"""Jobs on disk: a table of SQLite, and a folder for the files of each. Both survive a restart."""

from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from unetpp.errors import UsageError, WriteError
from unetpp.files import hold_lock
from unetpp.serve.job import UNDONE, Job, JobState
from unetpp.serve.job_ends import JobEnds

_TABLE = """CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY, state TEXT NOT NULL, created REAL NOT NULL,
content TEXT NOT NULL)"""
_INDEX = "CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, created, id)"
LOCK = ".serve.lock"
"""File that a server locks: a second one would begin again what the first one is predicting."""


class JobStore:
    """All jobs. Threads share it.

    Args:
        folder: for the table and the files of the jobs.

    Raises:
        UsageError: the folder cannot be used, or another server uses it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.RLock()
        self.changed = threading.Condition(self._lock)
        self._live: dict[str, Job] = {}
        self._running: dict[str, Job] = {}
        self.ends = JobEnds()
        self._held = ExitStack()
        try:
            (folder / "jobs").mkdir(parents=True, exist_ok=True)
            if not self._held.enter_context(hold_lock(folder / LOCK)):
                self._held.close()
                action = "Stop the other one, or choose another `out`."
                raise UsageError("out", f"{folder}, which another server uses", "a folder of its own", action)
            self._table = sqlite3.connect(folder / "jobs.sqlite", check_same_thread=False, isolation_level=None)
            self._table.execute("PRAGMA journal_mode=WAL")
            self._table.execute("PRAGMA synchronous=NORMAL")
            self._table.execute(_TABLE)
            self._table.execute(_INDEX)
        except (OSError, sqlite3.Error, WriteError) as error:
            self._held.close()
            got = f"{folder} ({getattr(error, 'strerror', None) or error})"
            raise UsageError("out", got, "a folder for the jobs", "Choose another one.") from error
        for job in self.list(*UNDONE):  # handed back: a restart begins them again
            self.save(job.model_copy(update={"state": JobState.QUEUED, "started": None, "progress": 0.0}))

    def close(self) -> None:
        """Close the table, and leave the folder to others."""
        with self._lock:
            self._table.close()
            self._held.close()

    def add(self, job: Job, most: int) -> bool:
        """Add a job to the queue; False if `most` wait already."""
        with self.changed:
            if self.count(JobState.QUEUED) >= most:
                return False
            self.save(job)
            self.changed.notify_all()
            return True

    def save(self, job: Job) -> None:
        """Write a job."""
        row = (job.id, str(job.state), job.created, job.model_dump_json())
        with self._lock:
            self._table.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?)", row)
            self._live.pop(job.id, None)
            if job.state is JobState.RUNNING:
                self._running[job.id] = job
            elif self._running.pop(job.id, None):
                self.changed.notify_all()  # who waits for its end may begin
        if job.state not in UNDONE:
            self.ends.tell(job.id)

    def show(self, job: Job) -> None:
        """Tell the progress of a running job without writing it."""
        with self._lock:
            self._live[job.id] = job

    def find(self, id: str) -> Job | None:
        """Find a job, with its place in the queue; None: there is none."""
        with self._lock:
            row = self._table.execute("SELECT content FROM jobs WHERE id = ?", (id,)).fetchone()
            job = self._live.get(id) or (Job.model_validate_json(row[0]) if row else None)
            if job is None or job.state is not JobState.QUEUED:
                return job
            before = self._table.execute(
                "SELECT COUNT(*) FROM jobs WHERE state IN (?, ?) AND (created, id) < (?, ?)", (*UNDONE, job.created, id)
            ).fetchone()[0]
            return job.model_copy(update={"position": before})

    def list(self, *states: JobState, limit: int = 10_000) -> list[Job]:
        """List jobs, the newest first; of these states, or all."""
        where = f"WHERE state IN ({','.join('?' * len(states))})" if states else ""
        with self._lock:
            query = f"SELECT content FROM jobs {where} ORDER BY created DESC, id DESC LIMIT ?"
            rows = self._table.execute(query, (*states, limit)).fetchall()
            jobs = [Job.model_validate_json(row[0]) for row in rows]
            return [self._live.get(job.id, job) for job in jobs]

    def count(self, *states: JobState) -> int:
        """Count the jobs of some states."""
        with self._lock:
            marks = ",".join("?" * len(states))
            found = self._table.execute(f"SELECT COUNT(*) FROM jobs WHERE state IN ({marks})", states).fetchone()
            return int(found[0])

    def take(self, stopping: Callable[[], bool], small_voxels: int = 0, wait_s: float = 0.5) -> Job | None:
        """Wait for the next job, and mark it as running; None if none may begin, or the server stops.

        Jobs begin in their order. Beside others, one of the same model may begin; of those that are not small, only one
        at a time, while small ones pass it.

        Args:
            stopping: whether the server stops.
            small_voxels: largest number of voxels of a small image.
            wait_s: longest wait.
        """
        with self.changed:
            job = self._find_next(small_voxels)
            if job is None and not stopping():
                self.changed.wait(wait_s)
                job = self._find_next(small_voxels)
            if job is None or stopping():
                return None
            changes = {"state": JobState.RUNNING, "started": time.time(), "position": None}
            job = job.model_copy(update=changes)
            self.save(job)
            return job

    def cancel(self, id: str) -> bool:
        """Cancel a job that waits; False: it does not, or no longer."""
        with self.changed:
            job = self.find(id)
            if job is None or job.state is not JobState.QUEUED:
                return False
            self.save(job.model_copy(update={"state": JobState.CANCELLED, "position": None}))
            return True

    def _find_next(self, small_voxels: int) -> Job | None:
        """Find the first job that may begin beside those that run."""
        query = "SELECT content FROM jobs WHERE state = ? ORDER BY created, id"
        models = {job.model for job in self._running.values()}
        is_large_running = any(not job.is_small(small_voxels) for job in self._running.values())
        for (content,) in self._table.execute(query, (JobState.QUEUED,)):
            job = Job.model_validate_json(content)
            if models - {job.model}:
                return None  # memory is for one model at a time; nobody passes it, so that its turn comes
            if job.is_small(small_voxels) or not is_large_running:
                return job
        return None

    def remove(self, id: str) -> None:
        """Remove a job with its files."""
        with self._lock:
            self._table.execute("DELETE FROM jobs WHERE id = ?", (id,))
            self._live.pop(id, None)
            self._running.pop(id, None)
        self.ends.tell(id)
        shutil.rmtree(self.folder_of(id), ignore_errors=True)

    def remove_oldest(self, most: int) -> None:
        """Remove finished jobs beyond so many."""
        query = "SELECT id FROM jobs WHERE state NOT IN (?, ?) ORDER BY created DESC, id DESC LIMIT -1 OFFSET ?"
        with self._lock:
            oldest = self._table.execute(query, (*UNDONE, most)).fetchall()
        for (id,) in oldest:
            self.remove(id)

    def folder_of(self, id: str) -> Path:
        """Return the folder of a job; ids are ours, and hold no separators."""
        return self.folder / "jobs" / id

    def inputs_of(self, id: str) -> Path:
        """Return the folder of its uploaded files."""
        return self.folder_of(id) / "input"

    def results_of(self, id: str) -> Path:
        """Return the folder of its results."""
        return self.folder_of(id) / "result"
