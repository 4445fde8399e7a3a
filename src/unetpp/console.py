"""Progress on standard error: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from unetpp.progress import Stage

SECONDS_BETWEEN_LINES = 10.0


class Bars:
    """One live bar for each stage, for terminals."""

    def __init__(self) -> None:
        self._console = RichConsole(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
        )
        self._bars = RichProgress(*columns, console=self._console, refresh_per_second=4)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def stage(self, title: str) -> Stage:
        task = self._bars.add_task(title, total=None, note="")

        def show(done: int, total: int, note: str = "") -> None:
            self._bars.update(task, completed=done, total=total, note=note)

        return show

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class Lines:
    """A line at the end of each stage and now and then within it, for log files and pipes."""

    def __init__(self) -> None:
        self._last = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def stage(self, title: str) -> Stage:
        self._last = time.monotonic()
        ended = False

        def show(done: int, total: int, note: str = "") -> None:
            nonlocal ended
            if (done >= total and not ended) or time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
                self._last, ended = time.monotonic(), done >= total
                self.note(f"{title}: {done}/{total}" + (f", {note}" if note else ""))

        return show

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def open_console() -> Bars | Lines:
    """What fits standard error."""
    return Bars() if sys.stderr.isatty() else Lines()
