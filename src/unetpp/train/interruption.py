"""Deferred handling of Ctrl-C and SIGTERM: the step in flight is completed first, a validation is broken off."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self


class Interruption:
    """Context in which the first Ctrl-C or SIGTERM only sets `requested`; a second Ctrl-C stops at once.

    Attributes:
        requested: name of the signal; empty if none has arrived.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.requested = ""
        self._at_once = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # no other thread can set handlers
            self._before = {number: signal.signal(number, self._remember) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise KeyboardInterrupt at the first signal within a block, which may take minutes."""
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        again = bool(self.requested) and number == signal.SIGINT
        self.requested = self.requested or signal.Signals(number).name
        if again or self._at_once:
            raise KeyboardInterrupt
