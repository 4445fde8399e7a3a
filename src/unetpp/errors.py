"""All exceptions of the package, as one tree.

    UnetppError                 the root: catches all; the command line exits with 2
    ├── UsageError              an argument, or a combination of arguments, that cannot work
    │   └── PlanError           a plan with an unknown key or a value outside its range
    ├── DataError               one or more Problems with a data set or a file
    ├── ModelFileError          a model file or checkpoint that is truncated, foreign or of another version
    ├── MissingExtraError       an optional package is absent (also an ImportError); names the extra to install
    ├── WriteError              an output could not be written; an earlier file in its place is intact
    └── Interrupted             Ctrl-C, SIGTERM or a lost process of several; the work done so far was saved

Each message states what was found, what was expected and what to do.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from os import PathLike
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One problem with one file or setting.

    Texts name settings as in Python, in backquotes: `depth`, `tta=True`, `train.batch=1`. The command line shows them
    as flags.
    """

    where: str
    """The file, case or setting."""
    got: str
    expected: str
    action: str
    """What the user can do, in a sentence."""
    setting: str | None = None
    """The argument of a function, or the field of the plan, that has to change."""
    topic: str | None = None
    """Section of docs/errors.md that explains it; None: that of the error."""

    def __str__(self) -> str:
        return f"{self.where}: got {self.got}; expected {self.expected}. {self.action}".rstrip()

    def to_dict(self) -> dict[str, str | None]:
        """Return the fields in terms of JSON."""
        return asdict(self)


LOG = logging.getLogger("unetpp")
"""Tracebacks of what became a problem of one input, at the level DEBUG."""
_SETTING = re.compile(r"[a-z_]+(\.[a-z0-9_]+)*")


class UnetppError(Exception):
    """Root of all errors that this package raises on purpose.

    Attributes:
        problems: the problems, structured; empty if there is only a message.
    """

    topic = "other"
    """Section of docs/errors.md for errors of this class."""

    def __init__(self, message: str = "", problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = list(problems)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), str(self), self.problems)  # its own arguments are not kept

    def find_topic(self) -> str:
        """Find the section of docs/errors.md: that of the first problem that has one, else that of the class."""
        return next((problem.topic for problem in self.problems if problem.topic), self.topic)


def _restore(kind: type[UnetppError], message: str, problems: Sequence[Problem]) -> UnetppError:
    """Make an error that another process has raised."""
    error = kind.__new__(kind)
    UnetppError.__init__(error, message, problems)
    return error


class _OneProblemError(UnetppError):
    """An error with a single problem.

    Args:
        where: file or setting.
        got: what was found there.
        expected: what would work.
        action: what the user can do, in a sentence.
        setting: argument, or field of the plan, to change; by default `where`, if that is a setting.
    """

    def __init__(
        self, where: str | PathLike[str], got: str, expected: str, action: str = "", *, setting: str | None = None
    ) -> None:
        if setting is None and isinstance(where, str) and _SETTING.fullmatch(where):
            setting = where
        path = str(where)
        if path == setting and not isinstance(where, str):  # a folder named runs is not the argument `runs`
            path = os.path.join(os.curdir, path)
        problem = Problem(path, got, expected, action, setting)
        super().__init__(str(problem), [problem])


class UsageError(_OneProblemError):
    """An argument, or a combination of arguments, that cannot work."""

    topic = "usage"


class PlanError(UsageError):
    """A plan with an unknown key or with a value outside its range."""

    topic = "plan"

    @classmethod
    def of(cls, problems: Sequence[Problem], message: str) -> PlanError:
        """Make an error with several problems."""
        error = _restore(cls, message, problems)
        assert isinstance(error, PlanError)
        return error


class DataError(UnetppError):
    """One or more problems with the data, reported together.

    Attributes:
        problems: all problems, in file order.
    """

    topic = "data"

    def __init__(self, problems: Sequence[Problem] | Problem) -> None:
        problems = [problems] if isinstance(problems, Problem) else problems
        lines = list_problems(problems)
        title = f"{len(problems)} problems with the data:\n  " if len(lines) > 1 else ""
        super().__init__(title + "\n  ".join(lines), problems)


MAX_LINES = 200
"""Largest number of lines that list problems or files in a text; programs get all of them."""


def list_problems(problems: Iterable[Problem]) -> list[str]:
    """Write problems as lines: those that differ in the file alone as one, and no more lines than people read."""
    return shorten_lines([str(problem) for problem in merge_problems(problems)])


def shorten_lines(lines: Sequence[str]) -> list[str]:
    """Count the lines beyond the first `MAX_LINES`."""
    rest = len(lines) - MAX_LINES
    return [*lines[:MAX_LINES], *([f"and {rest:,} more lines; all of them with --json"] if rest > 0 else [])]


def merge_problems(problems: Iterable[Problem]) -> list[Problem]:
    """Join problems that differ in the file alone: one line names the first file and counts the others."""
    alike: dict[tuple[str | None, ...], list[Problem]] = {}
    for problem in problems:
        alike.setdefault((problem.got, problem.expected, problem.action, problem.setting), []).append(problem)
    return [
        found[0] if len(found) == 1 else replace(found[0], where=f"{found[0].where} and {len(found) - 1:,} more")
        for found in alike.values()
    ]


class ModelFileError(_OneProblemError):
    """A model file or checkpoint that is truncated, foreign or of another version."""

    topic = "model-file"


class MissingExtraError(UnetppError, ImportError):
    """An optional package is absent, or a dependency where unetpp was installed without them.

    Args:
        package: name of the package.
        extra: extra of unetpp that installs it; None: it is a dependency.
        purpose: what needs it.
    """

    topic = "missing-extra"

    def __init__(self, package: str, extra: str | None, purpose: str) -> None:
        needed = _list_missing(extra)
        alone = extra is None or importlib.util.find_spec("torch") is None  # the extra would bring torch with it
        command = " ".join(needed or [package]) if alone else f'"unetpp[{extra}]"'
        super().__init__(f"{purpose} needs the package {package}, which is not installed. Run: pip install {command}")


_MODULES = {"pillow": "PIL"}
"""Distribution -> its module, for those of other names."""


def _list_missing(extra: str | None = None) -> list[str]:
    """List the dependencies of unetpp, or of an extra, that are not installed."""
    try:
        required = importlib.metadata.requires("unetpp") or []
    except importlib.metadata.PackageNotFoundError:  # run from its source
        return []
    found = [re.fullmatch(r"([\w.-]+)[^;]*(?:;.*extra == ['\"]([\w-]+)['\"].*)?", each) for each in required]
    names = [each[1] for each in found if each and each[2] == extra]
    return [name for name in names if importlib.util.find_spec(_MODULES.get(name, name.replace("-", "_"))) is None]


def find_missing(error: BaseException, purpose: str) -> MissingExtraError | None:
    """Recognize that a dependency is absent, where unetpp was installed without them (docs/export.md).

    Args:
        error: any exception.
        purpose: what needs it.
    """
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return None
    module = error.name.partition(".")[0]
    package = {name: distribution for distribution, name in _MODULES.items()}.get(module, module)
    return MissingExtraError(package, None, purpose) if package in _list_missing() else None


@contextmanager
def naming_missing(purpose: str) -> Iterator[None]:
    """Turn the absence of a dependency into a MissingExtraError, which says how to install it.

    Args:
        purpose: what needs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if missing := find_missing(error, purpose):
            raise missing from error
        raise


class WriteError(_OneProblemError):
    """An output could not be written. An earlier file in its place is intact."""

    topic = "write"


class Interrupted(UnetppError):
    """Ctrl-C, SIGTERM or a lost process of several that train together. The work done so far was saved."""

    topic = "interrupted"


def is_out_of_memory(error: BaseException) -> bool:
    """Recognize an out-of-memory error of Python, of a GPU, of torch or of the operating system."""
    words = ("not enough memory", "can't allocate memory", "Cannot allocate memory", "can't start new thread")
    of_kind = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return of_kind or any(text in str(error) for text in words)


def describe_failure(error: Exception, where: str) -> Problem:
    """Describe any exception that one input caused, as a problem of that input; `--debug` shows its traceback.

    Args:
        error: the exception.
        where: the input.
    """
    LOG.debug("%s", where, exc_info=error)
    text = " ".join(str(error).split())[:200]
    if is_out_of_memory(error):
        action = "Check that the file is whole; if it is, use a machine with more memory."
        reason = f" ({text})" if isinstance(error, MemoryError) and text else ""
        return Problem(where, f"out of memory{reason}", "an image that fits", action)
    got = f"an unexpected error ({type(error).__name__}{f': {text}' if text else ''})"
    action = "Check that the file is whole; if it is, open an issue with it, or leave it out."
    return Problem(where, got, "a file that can be used", action)


@contextmanager
def failures_of(where: str) -> Iterator[None]:
    """Turn any exception into a DataError about one input; errors of this package pass.

    Args:
        where: the input.

    Raises:
        DataError: instead of what is not an `UnetppError`.
    """
    try:
        yield
    except UnetppError:
        raise
    except Exception as error:  # decoders and damaged files raise anything, also long after a file was opened
        raise DataError(describe_failure(error, where)) from error


@contextmanager
def optional_package(package: str, extra: str, purpose: str) -> Iterator[None]:
    """Turn an ImportError into a MissingExtraError.

    Args:
        package: name of the package.
        extra: extra of unetpp that installs it.
        purpose: what needs it.

    Raises:
        MissingExtraError: the package is absent.
    """
    try:
        yield
    except MissingExtraError:
        raise
    except ImportError as error:
        raise MissingExtraError(package, extra, purpose) from error
