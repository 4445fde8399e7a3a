"""An engine on Dask: `distributed` schedules, retries and replaces; here are only what is in flight, and what is said.

What dies, and what follows: a worker: its units are done again elsewhere; three workers on one unit: that unit is given
up (`distributed.scheduler.allowed-failures`); the scheduler, or all workers for `NO_WORKERS_S`: `Interrupted`.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, final

from unetpp.cluster.checking import describe_difference, describe_unseen, probe, read_versions
from unetpp.cluster.engine import Engine, Outcome, Unit, Value, find_problems, name_unit
from unetpp.cluster.queue_file import DEVICE, list_refusals
from unetpp.cluster.worker import list_unseen, respect_memory, use_cores
from unetpp.errors import Interrupted, Problem, UnetppError, UsageError
from unetpp.progress import SILENCE, Progress

NO_WORKERS_S = 300.0
"""Seconds without any worker after which a command stops; jobs in the queue of a batch system may wait for ever."""
NOTED_S = 20.0
"""Seconds without any worker after which that is said: lost ones of this machine are replaced within some."""
ANSWER_S = 30.0
"""Seconds that a worker has to tell its versions and what it sees."""
_LOOK_S = 2.0
"""Seconds between two looks at the workers."""
_AGAIN = "run the command again with `resume=True` (check and plan, which only read, without)."
_END: Any = object()


@final
class DaskEngine(Engine):
    """Sends tasks to the workers of a scheduler, as many at once as they have threads.

    Args:
        client: client of `distributed`.
        cluster: the cluster that was started for it; None: others run it.
        jobs: number of jobs of a batch system that are sent again when they have ended; 0: there is no such system.
        expected: number of workers that there will be; 0: those that are there.
        progress: is told which workers are lost.
        cores: cores of each worker of a batch system; 0: workers know it by themselves.

    Attributes:
        address: that of the scheduler.
    """

    is_remote = True

    def __init__(
        self,
        client: Any,
        cluster: Any = None,
        jobs: int = 0,
        expected: int = 0,
        progress: Progress = SILENCE,
        cores: int = 0,
    ) -> None:
        self._client, self._cluster, self._jobs, self._progress = client, cluster, jobs, progress
        self._expected, self._cores = expected, cores
        self.address: str = client.scheduler.address
        self._paths: tuple[list[str], Path | None] = [], None
        self._checked: set[str] = set()
        self._silent: set[str] = set()
        self._names: dict[str, str] = {}
        self._events: list[dict[str, Any]] = []
        self._empty_since: float | None = None
        self._is_waiting = False
        self._refused: set[str] = set()
        client.subscribe_topic("all", self._hear)
        self._look()

    def close(self) -> None:
        """Hear no more of the workers, before the client is closed."""
        with suppress(OSError, RuntimeError):
            self._client.unsubscribe_topic("all")

    def _hear(self, event: tuple[float, dict[str, Any]]) -> None:
        if event[1].get("action") in ("add-worker", "remove-worker"):
            self._events.append(event[1])

    @property
    def width(self) -> int:  # type: ignore[override]
        """Number of tasks that run at once, at the moment."""
        threads: dict[str, int] = self._ask(self._client.nthreads)
        return max(1, sum(threads.values()))

    @property
    def memory(self) -> int | None:  # type: ignore[override]
        """Bytes that a worker may take; see `Engine`."""
        limits = [each.get("memory_limit") for each in self._list_workers().values()]
        return min((int(limit) for limit in limits if limit), default=None)

    def count_devices(self) -> int:
        """Count the devices that tasks can have for themselves; see `Engine.count_devices`."""
        return max(self._expected, self._count_alone())

    def require_shared(self, paths: Sequence[Path], out: Path | None = None) -> None:
        """Check that every worker sees some paths, those that join later too; see `Engine.require_shared`."""
        self._paths = [str(path) for path in paths], out
        self._checked.clear()
        self._look()

    def run(
        self, task: Callable[[Unit], Value], units: Iterable[Unit], *, name: str, alone: bool = False
    ) -> Iterator[Outcome[Unit, Value]]:
        """Call a task with each unit, on any worker; see `Engine.run`."""
        resources = {DEVICE: 1} if alone else None
        source, run, number = iter(units), uuid.uuid4().hex[:12], 0
        flying: dict[Any, Unit] = {}
        width = self._count_alone() if alone else self.width
        try:
            while True:
                while len(flying) < width and (unit := next(source, _END)) is not _END:
                    key, number = f"{name}-{run}-{number}", number + 1
                    flying[self._submit(_Respecting(task, self._cores), unit, key, resources)] = unit
                if not flying:
                    return
                ended = self._wait(flying)
                for future in ended:
                    yield self._finish(future, flying.pop(future))
                if self._events or not ended:  # workers that have come get units, while long ones run
                    self._look()
                    width = self._count_alone() if alone else self.width
        except CancelledError:
            raise self._lost() from None
        finally:
            if flying and self._client.status == "running":
                self._client.cancel(list(flying), force=True)

    def _submit(self, task: Any, unit: Any, key: str, resources: dict[str, int] | None) -> Any:
        try:
            return self._client.submit(task, unit, key=key, pure=False, resources=resources)
        except (OSError, RuntimeError, TypeError) as error:
            if self._client.status != "running":
                raise self._lost() from None
            raise error

    def _wait(self, flying: dict[Any, Any]) -> list[Any]:
        """Wait for a moment until some futures have ended."""
        wait = import_module("distributed").wait
        try:
            return list(wait(list(flying), timeout=_LOOK_S, return_when="FIRST_COMPLETED").done)
        except TimeoutError:
            if self._client.status != "running":
                raise self._lost() from None
            return []

    def _finish(self, future: Any, unit: Any) -> Outcome[Any, Any]:
        """Take the value of a future; its worker may be lost meanwhile, then it is computed again."""
        try:
            return Outcome(unit, future.result())
        except CancelledError:
            raise self._lost() from None
        except Exception as error:
            if type(error).__name__ == "KilledWorker":
                return Outcome(unit, problems=(_describe_deaths(error, unit),))
            return Outcome(unit, problems=find_problems(error, unit))

    def _look(self) -> None:
        """Take note of workers that have come and gone, check the new ones, and replace jobs that have ended."""
        events, self._events = self._events, []
        for event in events:
            if event.get("action") == "remove-worker" and not event.get("expected"):
                self._note_death(event)
        workers = self._list_workers()
        self._names |= {address: f"{each['name']} on {each['host']}" for address, each in workers.items()}
        if new := sorted(workers.keys() - self._checked):
            self._check(new)
        if self._jobs and self._cluster is not None:
            self._cluster.scale(jobs=self._jobs)  # those that are gone; Dask does not do it by itself
            self._note_refusals(bool(workers))
        self._require_workers(workers)

    def _list_workers(self) -> dict[str, Any]:
        found: dict[str, Any] = self._ask(partial(self._client.scheduler_info, n_workers=-1))["workers"]
        return found

    def _ask(self, question: Callable[[], Any]) -> Any:
        """Ask the scheduler, which may be gone."""
        try:
            return question()
        except (OSError, CancelledError):
            raise self._lost() from None

    def _note_death(self, event: dict[str, Any]) -> None:
        name = self._names.get(event["worker"], event["worker"])
        lost = len(event.get("processing-tasks", ()))
        again = f"; {lost} of its units {'are' if lost > 1 else 'is'} done again" if lost else ""
        self._progress.note(f"note: the worker {name} ({event['worker']}) was lost{again}")

    def _note_refusals(self, there: bool) -> None:
        """Say which jobs the batch system refuses; stop where it takes none, and no worker is there."""
        reasons, taken = list_refusals(self._cluster)
        if reasons and not (taken or there):
            expected, action = (
                "jobs that the batch system takes",
                "Correct the file; `dry_run=True` shows a job's script.",
            )
            raise UsageError("cluster", f"only refusals ({'; '.join(reasons)})", expected, action)
        for reason in sorted({*reasons} - self._refused):
            self._progress.note(f"note: the batch system refuses jobs ({reason}); the {taken} others do the work")
        self._refused |= {*reasons}

    def _check(self, workers: list[str]) -> None:
        """Compare the versions of new workers, and what they see of the files, with what is here."""
        versions = partial(
            import_module("distributed.versions").get_versions, ["unetpp", "torch", "numpy", "distributed"]
        )
        mine = read_versions(versions())
        for address, found in self._ask_each(versions, workers).items():
            if got := describe_difference(mine, read_versions(found)):
                where = f"worker {self._names[address]}"
                action = "Install the same versions there, for example with the same container."
                raise UsageError(where, got[0], f"{got[1]}, as here", action, setting="cluster")
        paths, out = self._paths
        with probe(out) as seen:
            unseen = self._ask_each(partial(list_unseen, [*paths, *seen]), workers)
        for address, missing in unseen.items():
            if missing:
                raise describe_unseen(self._names[address], missing[0], out)
        self._checked |= {*workers} - self._silent  # those that thaw later are checked then

    def _ask_each(self, question: Callable[[], Any], workers: Sequence[str]) -> dict[str, Any]:
        """Ask workers beside their tasks; one that does not answer, as it is frozen, is named and left out.

        Dask waits for the answers of all, and for that of a frozen one without end.
        """
        answers: dict[str, Any] = {}

        def ask(worker: str) -> None:
            with suppress(Exception):  # it is lost, or the scheduler is, which the next look finds
                answers.update(self._client.run(question, workers=[worker], on_error="ignore"))

        threads = [threading.Thread(target=ask, args=(worker,), daemon=True) for worker in workers]
        for thread in threads:
            thread.start()
        until = time.monotonic() + (ANSWER_S if {*workers} - self._silent else _LOOK_S)
        for worker, thread in zip(workers, threads, strict=True):
            thread.join(max(0.0, until - time.monotonic()))
            if not thread.is_alive():
                self._silent.discard(worker)
            elif worker not in self._silent:
                self._silent.add(worker)
                self._progress.note(f"note: the worker {self._names[worker]} ({worker}) does not answer")
        return dict(answers)

    def _count_alone(self) -> int:
        """Count the workers that have a device for a task that needs one for itself."""
        workers = self._list_workers().values()
        count = int(sum(each.get("resources", {}).get(DEVICE, 0) for each in workers))
        if workers and not count:
            got = f"workers without the resource {DEVICE}"
            action = f"Start each with `dask worker {self.address} --nthreads 1 --resources {DEVICE}=1`."
            raise UsageError("cluster", got, "one for each device, so that no two folds share one", action)
        return max(1, count)

    def _require_workers(self, workers: Mapping[str, Any]) -> None:
        """Stop where no worker is left that takes work for long: there is none, or Dask has paused all of them."""
        now, paused = time.monotonic(), [each for each in workers.values() if _is_paused(each)]
        if len(paused) < len(workers) or (self._jobs and not paused):
            self._empty_since, self._is_waiting = None, False
            return
        self._empty_since = self._empty_since or now
        got = "only workers that Dask has paused, as they hold too much of their memory," if paused else "no workers"
        if not self._is_waiting and now - self._empty_since > NOTED_S:
            self._is_waiting = True
            self._progress.note(f"note: {self.address} has {got}; waiting for some for {NO_WORKERS_S / 60:g} minutes")
        if now - self._empty_since > NO_WORKERS_S:
            text = f"{self.address} has had {got} for {NO_WORKERS_S / 60:g} minutes."
            raise Interrupted(
                f"{text} What is finished stays: start workers{' with more' * bool(paused)}, and {_AGAIN}"
            )

    def _lost(self) -> UnetppError:
        text = f"The scheduler at {self.address} is gone."
        return Interrupted(f"{text} What is finished stays: start it, and {_AGAIN}")


def _is_paused(worker: Mapping[str, Any]) -> bool:
    """Tell whether a worker takes no work, and does none that could free its memory."""
    return worker.get("status") == "paused" and not worker.get("metrics", {}).get("task_counts", {}).get("executing")


class _Respecting:
    """A task that first takes note of the memory and the cores of its worker."""

    def __init__(self, task: Callable[[Any], Any], cores: int) -> None:
        self._task, self._cores = task, cores

    def __call__(self, unit: Any) -> Any:
        respect_memory()
        use_cores(self._cores)
        return self._task(unit)


def _describe_deaths(error: Any, unit: Any) -> Problem:
    last = getattr(error.last_worker, "name", ""), getattr(error.last_worker, "address", "")
    got = f"{error.allowed_failures + 1} workers that died while they did it, the last one {last[0]} ({last[1]})"
    action = "They may have had too little memory: see their logs. Or leave it out."
    return Problem(name_unit(unit), got, "a worker that survives it", action)
