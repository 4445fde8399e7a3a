from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.data.test_store import make_case
from tests.plans import small_plan
from unetpp.data import workers
from unetpp.data.case_worker import read_case
from unetpp.data.store import store_cases
from unetpp.data.workers import WorkerProcesses, count_at_once, needs_processes
from unetpp.errors import DataError, WriteError
from unetpp.layouts.dataset import Case

PLAN = small_plan(classes=3).data


def test_a_killed_process_costs_its_case_alone(tmp_path: Path) -> None:
    cases = [make_case(tmp_path, name) for name in ("a", "b", "c")]
    processes = WorkerProcesses(PLAN)
    processes.prepare(cases[0], tmp_path / "cache" / "a")
    processes._all[-1].kill()
    with pytest.raises(DataError, match=r"b\.png: got a process that ended by SIGKILL .*what is prepared stays"):
        processes.prepare(cases[1], tmp_path / "cache" / "b")
    processes.prepare(cases[2], tmp_path / "cache" / "c")
    processes.close()
    assert sorted(path.name for path in (tmp_path / "cache").glob("*.image.npy")) == ["a.image.npy", "c.image.npy"]


def test_processes_store_what_threads_do_and_name_what_is_corrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [make_case(tmp_path, name) for name in ("a", "b", "ä\udcff")]
    expected = {path.name: path.read_bytes() for path in _store(cases, tmp_path / "threads")}
    monkeypatch.setattr(workers, "_LARGE", 0)
    assert {path.name: path.read_bytes() for path in _store(cases, tmp_path / "processes")} == expected
    cases[1].images[0].write_bytes(b"no image")
    with pytest.raises(DataError) as caught:
        store_cases(cases, PLAN, tmp_path / "rest")
    assert [Path(problem.where).name for problem in caught.value.problems] == ["b.png"]
    assert len([*(tmp_path / "rest").glob("*.foreground.npy")]) == 2


KILLED = """
import os, signal
from unetpp.data import store
sample = store.sample_positions
def end(label, case, *rest):
    if case == "b":
        os.kill(os.getpid(), signal.SIGKILL)
    return sample(label, case, *rest)
store.sample_positions = end
"""
FULL = """
import errno, os
import numpy as np
def fill(*args, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
np.save = fill
"""


def _run_first_in_workers(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path / "hook")
    monkeypatch.setattr(workers, "_LARGE", 0)


def test_a_worker_that_the_system_kills_is_named_with_its_case_and_the_rest_is_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = [make_case(tmp_path, name) for name in ("a", "b", "c", "d")]
    _run_first_in_workers(KILLED, tmp_path, monkeypatch)
    with pytest.raises(
        DataError, match=r"b\.png: got a process that ended by SIGKILL .*what is prepared stays"
    ) as caught:
        store_cases(cases, PLAN, tmp_path / "cache")
    assert len(caught.value.problems) == 1
    assert {path.name[0] for path in (tmp_path / "cache").glob("*.foreground.npy")} == {"a", "c", "d"}


def test_a_disk_that_is_full_in_a_worker_ends_the_preparation_and_what_is_prepared_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases, cache = [make_case(tmp_path, name) for name in ("a", "b")], tmp_path / "cache"
    store_cases(cases[:1], PLAN, cache)
    kept = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    _run_first_in_workers(FULL, tmp_path, monkeypatch)
    with pytest.raises(WriteError, match=r"b-\w+\.image\.npy: got No space left on device; .*Free some space"):
        store_cases(cases, PLAN, cache)
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == kept


def _store(cases: list[Case], folder: Path) -> list[Path]:
    store_cases(cases, PLAN, folder)
    return sorted(folder.iterdir())


def test_a_store_that_cannot_be_written_is_named_and_ends_the_preparation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_LARGE", 0)
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(WriteError, match="cache"):
        store_cases([make_case(tmp_path, "a")], PLAN, tmp_path / "cache")


def test_a_case_survives_json() -> None:
    case = Case(
        "a", (Path("x\udcff"), Path("y")), (Path("z"),), ("k",), (("k", 1),), area=((0, 3), (2, 4)), neighbors=("b",)
    )
    assert read_case(json.loads(json.dumps(asdict(case), default=str))) == case


def test_memory_and_the_number_of_cases_bound_what_is_prepared_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(tmp_path, "a")
    free = {"available": 2**40}
    monkeypatch.setattr(workers, "measure_free_bytes", lambda: free["available"])
    assert (count_at_once([case] * 3, 8), count_at_once([case] * 9, 8), count_at_once([], 8)) == (3, 8, 1)
    free["available"] = 2**31
    assert count_at_once([case] * 9, 8) == 3
    free["available"] = 0
    assert count_at_once([case] * 9, 8) == 1
    assert not needs_processes([case])
    monkeypatch.setattr(workers, "_LARGE", 1)
    assert needs_processes([case])
    assert not needs_processes([Case("a", case.images, case.labels, plane=3)])
