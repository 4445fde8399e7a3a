"""Engines: they call one task with many units, in this process or elsewhere, and survive what fails."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, final

from unetpp.errors import DataError, Problem, UnetppError, describe_failure

Unit = TypeVar("Unit")
Value = TypeVar("Value")


@dataclass(frozen=True, eq=False)
class Outcome(Generic[Unit, Value]):
    """What a task made of one unit: a value, or problems."""

    unit: Unit
    result: Value | None = None
    problems: tuple[Problem, ...] = ()
    """Why there is no value: that of the unit, or that several workers died of it."""

    @property
    def value(self) -> Value:
        """The value of a unit without problems.

        Raises:
            DataError: it has problems.
        """
        if self.problems:
            raise DataError(self.problems)
        return self.result  # type: ignore[return-value]  # None is a value where the task returns it

    @property
    def problem(self) -> Problem | None:
        """The first problem, if any."""
        return self.problems[0] if self.problems else None


class Engine(ABC):
    """Calls tasks. A task is a picklable function of one picklable unit, and may be called twice with one.

    Attributes:
        is_remote: whether other processes do the work: then paths are to be absolute, and files on shared disks.
        width: number of tasks that run at once, at the moment.
        memory: bytes that a worker may take, the least of those that are there; None: nobody has set a limit.
    """

    is_remote: bool = False
    width: int = 1
    memory: int | None = None

    @abstractmethod
    def run(
        self, task: Callable[[Unit], Value], units: Iterable[Unit], *, name: str, alone: bool = False
    ) -> Iterator[Outcome[Unit, Value]]:
        """Call a task with each unit; only a few units are taken from their source ahead of the work.

        Args:
            task: the task.
            units: the units, which may be generated.
            name: what is done, in a word, for the displays of the engine.
            alone: give each task a device for itself.

        Yields:
            Outcomes, in the order in which the work ends. An error of one unit is its problem.

        Raises:
            UnetppError: an error that concerns all units, such as a full disk.
            Interrupted: the engine was lost.
        """

    @abstractmethod
    def count_devices(self) -> int:
        """Count the devices that tasks can have for themselves, also of workers that are still to start.

        Raises:
            UsageError: workers that do not say what they have.
        """

    @abstractmethod
    def require_shared(self, paths: Sequence[Path], out: Path | None = None) -> None:
        """Check that every worker sees some paths.

        Args:
            paths: files and folders that the tasks read.
            out: folder into which they write, which is there.

        Raises:
            UsageError: a worker that does not, by its name.
        """


@final
class HereEngine(Engine):
    """Does the work in this process, one unit after the other."""

    def run(
        self, task: Callable[[Unit], Value], units: Iterable[Unit], *, name: str, alone: bool = False
    ) -> Iterator[Outcome[Unit, Value]]:
        """Call a task with each unit, in their order; see `Engine.run`."""
        for unit in units:
            try:
                result = task(unit)
            except Exception as error:
                yield Outcome(unit, problems=find_problems(error, unit))
            else:
                yield Outcome(unit, result)

    def count_devices(self) -> int:
        """Return 1: one task runs at a time."""
        return 1

    def require_shared(self, paths: Sequence[Path], out: Path | None = None) -> None:
        """Check nothing: what this process does not see is a problem of its own."""


HERE = HereEngine()
"""The engine of a command without a cluster."""


def find_problems(error: Exception, unit: Any) -> tuple[Problem, ...]:
    """Find the problems of one unit in what its task raised; an error that concerns all units is raised again."""
    if isinstance(error, DataError):
        return tuple(error.problems)
    if isinstance(error, UnetppError):
        raise error
    return (describe_failure(error, name_unit(unit)),)


def name_unit(unit: Any) -> str:
    """Name a unit: by its id, as of a case."""
    return str(getattr(unit, "id", unit))
