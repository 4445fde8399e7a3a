"""Progress of long-running work: what a verb tells of itself while it runs; `console.py` shows it."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import Literal, Protocol


class Stage(Protocol):
    """Receives the progress of one stage, repeatedly."""

    def __call__(self, done: float, total: int, note: str = "") -> None:
        """Report progress.

        Args:
            done: units of work done, with a fraction of the current one if that takes long.
            total: units of work in all; 0 while it is not known.
            note: remarks to show next to them, the most important first, with commas between them.
        """


class Progress(Protocol):
    """Receives the stages and notes of a verb while it runs."""

    def stage(self, title: str, unit: str = "") -> Stage:
        """Begin a stage; the previous one has ended.

        Args:
            title: what is done, as in "Scoring every depth".
            unit: what is counted, as in "cases"; empty for work that is not counted, which only shows its time.
        """

    def note(self, text: str) -> None:
        """Show one line of information."""

    def detail(self, text: str) -> None:
        """Show what only some want to read: every choice with its reason."""


ShowProgress = Progress | Literal[False] | None
"""Argument of the verbs: None shows progress on a terminal, in a notebook or as lines; False does not."""


class Silence:
    """Progress that is not shown."""

    def stage(self, title: str, unit: str = "") -> Stage:
        """Begin a stage that is not shown."""
        return _ignore

    def note(self, text: str) -> None:
        """Drop the note."""

    def detail(self, text: str) -> None:
        """Drop the detail."""


SILENCE = Silence()


@contextmanager
def mute_libraries(*loggers: str) -> Iterator[None]:
    """Suppress what other libraries print on standard output, and their log records below errors."""
    with ExitStack() as stack, redirect_stdout(io.StringIO()):
        for logger in loggers:
            stack.enter_context(mute_warnings(logger))
        yield


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


def _ignore(done: float, total: int, note: str = "") -> None:
    pass
