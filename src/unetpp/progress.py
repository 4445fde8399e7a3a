"""How a long piece of work says where it stands; the command line shows it, the library keeps silent until asked."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Stage(Protocol):
    """Called again and again while a stage runs."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


class Progress(Protocol):
    """Receives what a verb has to say while it works."""

    def stage(self, title: str) -> Stage:
        """Begin a stage; the one before has ended."""

    def note(self, text: str) -> None:
        """One line worth reading."""


class Silence:
    """Progress that nobody asked for."""

    def stage(self, title: str) -> Stage:
        return _ignore

    def note(self, text: str) -> None:
        pass


@contextmanager
def mute_warnings(logger: str) -> Iterator[None]:
    """Keep the remarks of another library to itself, but for its errors; its logger is then as it was."""
    found = logging.getLogger(logger)
    level = found.level
    found.setLevel(logging.ERROR)
    try:
        yield
    finally:
        found.setLevel(level)


def _ignore(done: int, total: int, note: str = "") -> None:
    pass
