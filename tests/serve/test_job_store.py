"""Jobs in SQLite: their order, their limits, and what a killed server leaves."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from unetpp.errors import UsageError
from unetpp.serve.job import Job, JobState
from unetpp.serve.job_store import JobStore


def make(number: int, state: JobState = JobState.QUEUED) -> Job:
    return Job(id=f"job{number}", name=f"image {number}", model="m", created=float(number), state=state)


def test_jobs_are_taken_in_order(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    assert all(store.add(make(number), 3) for number in range(3))
    assert not store.add(make(3), 3)
    taken = store.take(lambda: False)
    assert taken is not None and taken.id == "job0"
    running = store.find("job0")
    assert running is not None and running.state is taken.state is JobState.RUNNING and running.started
    assert not store.cancel("job0") and not store.cancel("none")  # too late: it was taken
    assert [job.id for job in store.list()] == ["job2", "job1", "job0"]
    second = store.find("job1")
    assert second is not None and second.position == 1  # behind the one that runs
    assert store.take(lambda: True) is None
    assert store.cancel("job1")
    store.save(running.model_copy(update={"state": JobState.DONE}))
    third = store.take(lambda: False)
    assert third is not None and third.id == "job2"
    assert store.find("none") is None
    store.close()


def test_small_images_begin_beside_others(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    sizes = [("m", None), ("m", 200), ("m", 50), ("other", 50), ("m", 50)]
    for number, (model, voxels) in enumerate(sizes):
        store.add(make(number).model_copy(update={"model": model, "voxels": voxels}), 10)

    def take() -> str | None:
        job = store.take(lambda: False, small_voxels=100, wait_s=0.0)
        return job and job.id

    assert take() == "job0"  # of unknown size: it counts as large
    assert take() == "job2"  # small, and passes the large one that has to wait
    assert take() is None  # the next is of another model: nobody passes it
    finished = store.find("job0")
    assert finished is not None
    store.save(finished.model_copy(update={"state": JobState.DONE}))
    assert take() == "job1" and take() is None
    for id in ("job1", "job2"):
        store.remove(id)
    assert take() == "job3" and take() is None
    store.close()


def test_a_waiting_thread_is_woken(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    found: list[Job | None] = []
    thread = threading.Thread(target=lambda: found.append(store.take(lambda: False, wait_s=30)))
    thread.start()
    store.add(make(1), 10)
    thread.join(10)
    assert found[0] is not None and found[0].id == "job1"
    store.close()


def test_what_ran_waits_again_after_a_restart(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    for number, state in enumerate((JobState.RUNNING, JobState.DONE, JobState.QUEUED, JobState.FAILED)):
        store.save(make(number, state))
    mode = store._table.execute("PRAGMA journal_mode").fetchone()[0]
    store.close()
    again = JobStore(tmp_path)
    assert mode == "wal"
    assert [job.state for job in reversed(again.list())] == ["queued", "done", "queued", "failed"]
    again.close()


def test_the_oldest_make_room_with_their_files(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    for number in range(4):
        store.save(make(number, JobState.DONE if number else JobState.QUEUED))
        store.inputs_of(f"job{number}").mkdir(parents=True)
    store.remove_oldest(1)
    assert {job.id for job in store.list()} == {"job0", "job3"}
    assert {path.name for path in (tmp_path / "jobs").iterdir()} == {"job0", "job3"}
    store.close()


def test_progress_is_shown_and_not_written(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    job = make(1, JobState.RUNNING)
    store.save(job)
    store.show(job.model_copy(update={"progress": 0.5}))
    found = store.find("job1")
    assert found is not None and found.progress == 0.5 and store.list()[0].progress == 0.5
    (content,) = store._table.execute("SELECT content FROM jobs").fetchone()
    assert Job.model_validate_json(content).progress == 0
    store.close()


def test_a_folder_of_another_server_is_refused_and_left_alone(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    store.save(make(0, JobState.RUNNING))
    with pytest.raises(UsageError, match="another server"):
        JobStore(tmp_path)
    assert [job.state for job in store.list()] == [JobState.RUNNING]
    store.close()
    JobStore(tmp_path).close()


def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="folder"):
        JobStore(tmp_path / "file")
    (tmp_path / "jobs.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(UsageError, match="folder") as error:
        JobStore(tmp_path)
    assert isinstance(error.value.__cause__, sqlite3.Error)
