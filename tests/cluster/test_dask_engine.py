"""Tasks on real workers, some of which are killed."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.cluster.conftest import Heard

from unetpp.cluster import dask_engine
from unetpp.cluster.engine import Engine
from unetpp.errors import DataError, Interrupted, Problem, UsageError, WriteError
from unetpp.free_memory import measure_free_bytes


def square(number: int) -> int:
    if number == 3:
        raise ValueError("three")
    if number == 4:
        raise DataError([Problem("four", "a", "b", "c"), Problem("again four", "a", "b", "c")])
    return number**2


@dataclass(frozen=True)
class Deadly:
    """Kills its process, at one number, the first time or always."""

    mark: Path
    number: int
    always: bool

    def __call__(self, number: int) -> int:
        if number == self.number and (self.always or not self.mark.exists()):
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number


def fill_up(number: int) -> None:
    raise WriteError("out", "No space left on device", "to write it", "Free some.")


def occupy(folder: Path, number: int) -> bool:
    """Tell whether this worker does another task at the same time."""
    own = folder / f"{os.getpid()}"
    try:
        own.mkdir()
    except FileExistsError:
        return True
    time.sleep(0.05)
    own.rmdir()
    return False


def see_memory(number: int) -> tuple[int, int]:
    from distributed import get_worker

    return measure_free_bytes(), get_worker().memory_manager.memory_limit


def test_values_and_problems(engine: Engine) -> None:
    found = {outcome.unit: outcome for outcome in engine.run(square, range(8), name="square")}
    assert {unit: outcome.result for unit, outcome in found.items()} == {
        unit: None if unit in (3, 4) else unit**2 for unit in range(8)
    }
    assert found[3].problem is not None and "ValueError: three" in found[3].problem.got
    assert [problem.where for problem in found[4].problems] == ["four", "again four"]
    with pytest.raises(DataError, match="four and 1 more"):
        _ = found[4].value
    assert list(engine.run(square, [], name="none")) == []


def test_units_are_taken_as_they_are_needed(engine: Engine) -> None:
    taken = []

    def generate() -> Iterator[int]:
        for number in range(10**9):
            taken.append(number)
            yield number + 10

    outcomes = engine.run(square, generate(), name="many")
    for _ in range(20):
        next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    assert 20 <= len(taken) <= 20 + 2 * engine.width


def test_a_worker_that_dies_is_named_and_its_work_done_again(engine: Engine, heard: Heard, tmp_path: Path) -> None:
    task = Deadly(tmp_path / "mark", 2, always=False)
    found = sorted(outcome.value for outcome in engine.run(task, range(6), name="deadly"))
    assert found == list(range(6))
    assert any("the worker" in note and "was lost; 1 of its units is done again" in note for note in heard.notes)


def test_a_unit_that_three_workers_die_of_is_given_up_and_the_rest_is_done(engine: Engine, tmp_path: Path) -> None:
    task = Deadly(tmp_path / "mark", 1, always=True)
    found = {outcome.unit: outcome for outcome in engine.run(task, range(5), name="deadlier")}
    assert [unit for unit in sorted(found) if not found[unit].problems] == [0, 2, 3, 4]
    assert found[1].problem is not None and "3 workers that died" in found[1].problem.got


def test_an_error_that_concerns_all_units_ends_the_run(engine: Engine) -> None:
    with pytest.raises(WriteError, match="No space left"):
        list(engine.run(fill_up, range(50), name="full"))
    assert next(engine.run(square, [5], name="after")).value == 25


def test_tasks_alone_never_share_a_worker(engine: Engine, tmp_path: Path) -> None:
    task, until = partial(occupy, tmp_path), time.monotonic() + 60
    while engine.count_devices() < 2 and time.monotonic() < until:  # a test before may have killed one
        time.sleep(0.2)
    assert engine.count_devices() == 2
    assert not any(outcome.value for outcome in engine.run(task, range(6), name="alone", alone=True))


def test_a_worker_plans_with_its_memory(engine: Engine) -> None:
    free, limit = next(engine.run(see_memory, [0], name="memory")).value
    assert 0 < free < limit <= psutil.virtual_memory().total


def test_a_path_that_a_worker_does_not_see_is_named(engine: Engine, tmp_path: Path) -> None:
    engine.require_shared([tmp_path], tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match=r"worker [01] on 127.0.0.1: got no .*/nothing; expected a disk"):
        engine.require_shared([tmp_path / "nothing"])
    engine.require_shared([])


def test_a_worker_of_another_version_is_named_before_it_works(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = engine._client.run

    def answer(question: Any, **options: Any) -> dict[str, Any]:
        found: dict[str, Any] = ask(question, **options)
        for worker in found.values():
            if isinstance(worker, dict):
                worker["packages"] |= {"torch": "2.0.1", "numpy": None}
        return found

    with monkeypatch.context() as patch, pytest.raises(UsageError) as refused:
        patch.setattr(engine._client, "run", answer)
        engine.require_shared([])
    assert len(refused.value.problems) == 1
    got, expected = r"torch 2\.0\.1, numpy not installed", r"torch .*, numpy .*, as here\. Install"
    words = rf"worker [01] on 127\.0\.0\.1: got {got}; expected {expected}"
    assert re.match(words, str(refused.value))
    engine.require_shared([])


def test_a_worker_that_is_frozen_holds_nobody(engine: Any, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    ask, (frozen, *_) = engine._client.run, sorted(engine._list_workers())
    ends = threading.Event()

    def answer(question: Any, workers: list[str], **options: Any) -> dict[str, Any]:
        if workers == [frozen]:
            ends.wait(30)
        found: dict[str, Any] = ask(question, workers=workers, **options)
        return found

    monkeypatch.setattr(dask_engine, "ANSWER_S", 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(engine._client, "run", answer)
        engine.require_shared([])
        assert frozen not in engine._checked
    ends.set()
    assert len([note for note in heard.notes if "does not answer" in note and frozen in note]) == 1
    engine._look()
    assert frozen in engine._checked  # it has thawed


def test_workers_that_stay_paused_end_the_command(engine: Any, heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = engine._list_workers
    for name in ("NOTED_S", "NO_WORKERS_S"):
        monkeypatch.setattr(dask_engine, name, 0.0)

    def pause(executing: int) -> dict[str, Any]:
        state = {"status": "paused", "metrics": {"task_counts": {"executing": executing}}}
        return {address: worker | state for address, worker in ask().items()}

    monkeypatch.setattr(engine, "_list_workers", lambda: pause(1))
    for _ in range(2):
        engine._look()  # they work, which may free their memory
    monkeypatch.setattr(engine, "_list_workers", lambda: pause(0))
    engine._look()
    with pytest.raises(Interrupted, match=r"has had only workers that Dask has paused.*start workers with more, and"):
        engine._look()
    assert any("only workers that Dask has paused" in note for note in heard.notes)
    monkeypatch.setattr(engine, "_list_workers", ask)
    engine._look()


def test_the_least_memory_of_a_worker_is_known(engine: Engine) -> None:
    assert engine.memory is not None
    assert 0 < engine.memory <= psutil.virtual_memory().total


def meet(folder: Path, number: int) -> bool:
    """Tell whether another task runs at the same time."""
    (folder / str(number)).touch()
    until = time.monotonic() + 60
    while len(list(folder.iterdir())) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    return len(list(folder.iterdir())) == 2


def test_workers_that_come_later_get_work_while_long_units_run(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths = iter([1, 1])
    monkeypatch.setattr(type(engine), "width", property(lambda self: next(widths, 2)))
    assert all(outcome.value for outcome in engine.run(partial(meet, tmp_path), range(2), name="meet"))
