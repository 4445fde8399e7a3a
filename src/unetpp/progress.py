"""Progress of long-running work: the command line shows it, the library is silent by default."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Stage(Protocol):
    """Receives the progress of one stage, repeatedly."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Report progress.

        Args:
            done: units of work done.
            total: units of work in all.
            note: a remark to show next to them.
        """


class Progress(Protocol):
    """Receives the stages and notes of a verb while it runs."""

    def stage(self, title: str) -> Stage:
        """Begin a stage; the previous one has ended."""

    def note(self, text: str) -> None:
        """Show one line of information."""


class Silence:
    """Progress that is not shown."""

    def stage(self, title: str) -> Stage:
        """Begin a stage that is not shown."""
        return _ignore

    def note(self, text: str) -> None:
        """Drop the note."""


@contextmanager
def mute_warnings(logger: str) -> Iterator[None]:
    """Suppress the log records of another library below errors; its level is restored afterwards."""
    found = logging.getLogger(logger)
    level = found.level
    found.setLevel(logging.ERROR)
    try:
        yield
    finally:
        found.setLevel(level)


def _ignore(done: int, total: int, note: str = "") -> None:
    pass
