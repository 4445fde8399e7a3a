"""Everything that can go wrong, as one tree.

    UnetppError                 the root: catch this to catch all; the command line exits 2
    ├── UsageError              an argument or a combination of arguments that cannot work
    │   └── PlanError           a plan with an unknown key or a value outside its range
    ├── DataError               one or more Problems found in a data set or a file
    ├── ModelFileError          a model file or checkpoint that is truncated, foreign or of another version
    ├── MissingExtraError       an optional package is absent (an ImportError too): the message names the extra to install
    ├── WriteError              an output could not be written; what was there before is intact
    └── Interrupted             Ctrl-C or SIGTERM arrived; the work done so far was saved

A message always says what was got, what was expected and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from os import PathLike


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with one file or setting, in the words a user needs.

    Texts name settings as Python has them, in backquotes: `depth`, `tta=True`, `train.batch=1`. The command line shows
    them as its flags.
    """

    where: str
    """The file, case or setting."""
    got: str
    expected: str
    action: str
    """What the user can do about it."""
    setting: str | None = None
    """The argument of a function, or the field of the plan, that has to change."""

    def __str__(self) -> str:
        return f"{self.where}: got {self.got}; expected {self.expected}. {self.action}".rstrip()

    def to_dict(self) -> dict[str, str | None]:
        return asdict(self)


_SETTING = re.compile(r"[a-z_]+(\.[a-z0-9_]+)*")


class UnetppError(Exception):
    """Root of all errors that this package raises on purpose.

    Attributes:
        problems: what is wrong, structured; empty where a message says it all.
    """

    def __init__(self, message: str = "", problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.problems = list(problems)


class _OneProblemError(UnetppError):
    """An error with a single problem.

    Args:
        where: the file or setting.
        got: what was found there.
        expected: what would work.
        action: what to do about it, a sentence.
        setting: the argument, or the field of the plan, that has to change; by default `where`, if that is a name.
    """

    def __init__(
        self,
        where: str | PathLike[str],
        got: str = "",
        expected: str = "",
        action: str = "",
        *,
        setting: str | None = None,
    ) -> None:
        if setting is None and isinstance(where, str) and _SETTING.fullmatch(where):
            setting = where
        problem = Problem(str(where), got, expected, action, setting)
        super().__init__(str(problem) if got else str(where), [problem] if got else [])


class UsageError(_OneProblemError):
    """An argument, or a combination of arguments, that cannot work."""


class PlanError(UsageError):
    """A plan with an unknown key or with a value outside its range."""

    @classmethod
    def of(cls, problems: Sequence[Problem], message: str) -> PlanError:
        """Make an error of several problems."""
        error = cls(message)
        error.problems = list(problems)
        return error


class DataError(UnetppError):
    """One or more problems in the data, all of them at once.

    Attributes:
        problems: every problem that was found, in file order.
    """

    def __init__(self, problems: Sequence[Problem] | Problem) -> None:
        problems = [problems] if isinstance(problems, Problem) else problems
        title = f"{len(problems)} problems with the data:\n  " if len(problems) > 1 else ""
        super().__init__(title + "\n  ".join(map(str, problems)), problems)


class ModelFileError(_OneProblemError):
    """A model file or checkpoint that is truncated, foreign or of another version."""


class MissingExtraError(UnetppError, ImportError):
    """An optional package is absent."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package}, which is not installed. Run: pip install 'unetpp[{extra}]'"
        )


class WriteError(_OneProblemError):
    """An output could not be written. What was there before is intact."""


class Interrupted(UnetppError):
    """Ctrl-C or SIGTERM arrived. The work done so far was saved."""


def is_out_of_memory(error: BaseException) -> bool:
    """Of Python, of the accelerator, of torch on Windows, or of torch and the system elsewhere."""
    words = ("not enough memory", "can't allocate memory", "Cannot allocate memory")
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or any(text in str(error) for text in words)
    )


@contextmanager
def optional_package(package: str, extra: str, purpose: str) -> Iterator[None]:
    """Turn the ImportError of an optional package into a message that names the extra to install."""
    try:
        yield
    except MissingExtraError:
        raise
    except ImportError as error:
        raise MissingExtraError(package, extra, purpose) from error
