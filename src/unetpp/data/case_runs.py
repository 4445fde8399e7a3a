"""A task for each of several cases on an engine: in order, with paths and problems as the user names the files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, Self, TypeVar

from unetpp.cluster.engine import Engine, Outcome
from unetpp.errors import Problem


class HasFiles(Protocol):
    """A case, or a pair of files."""

    @property
    def id(self) -> str: ...

    def absolute(self) -> Self:
        """Return it with absolute paths."""

    def name_as_given(self, problem: Problem) -> Problem:
        """Name its files in a problem as the user does."""


_Case = TypeVar("_Case", bound=HasFiles)
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class _Place(Generic[_Case]):
    """A case, and its place in the list."""

    number: int
    case: _Case

    @property
    def id(self) -> str:
        return self.case.id


@dataclass(frozen=True)
class _OfPlace(Generic[_Case, _Value]):
    """The task, for a case with its place."""

    task: Callable[[_Case], _Value]

    def __call__(self, unit: _Place[_Case]) -> _Value:
        return self.task(unit.case)


def run_cases(
    engine: Engine,
    task: Callable[[_Case], _Value],
    cases: Sequence[_Case],
    *,
    name: str,
    progress: Callable[[int, int], object] | None = None,
    ended: Callable[[int, Outcome[Any, _Value]], object] | None = None,
) -> Iterator[Outcome[_Case, _Value]]:
    """Call a task with each case.

    Args:
        engine: where.
        task: a picklable function.
        cases: the cases; other processes get them with absolute paths.
        name: what is done, in a word.
        progress: called with (cases done, cases in all).
        ended: called with the place of a case in the list and its outcome, at once when its work ends.

    Yields:
        Outcomes in the order of the cases.
    """
    units = (_Place(number, case.absolute() if engine.is_remote else case) for number, case in enumerate(cases))
    waiting: dict[int, Outcome[Any, _Value]] = {}
    first = 0
    for done, outcome in enumerate(engine.run(_OfPlace(task), units, name=name), start=1):
        if progress:
            progress(done, len(cases))
        if ended:
            ended(outcome.unit.number, outcome)
        waiting[outcome.unit.number] = outcome
        while first in waiting:
            found, case = waiting.pop(first), cases[first]
            problems = tuple(map(case.name_as_given, found.problems))
            yield replace(found, unit=case, problems=problems)
            first += 1
