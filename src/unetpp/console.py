"""Progress on standard error: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from unetpp.progress import Progress, Stage

SECONDS_BETWEEN_LINES = 10.0


class Bars:
    """One live bar for each stage.

    Args:
        display: the bars of rich.
    """

    def __init__(self, display: RichProgress) -> None:
        self._display = display

    def stage(self, title: str) -> Stage:
        """Add a bar."""
        task = self._display.add_task(title, total=None, note="")

        def show(done: int, total: int, note: str = "") -> None:
            self._display.update(task, completed=done, total=total, note=note)

        return show

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        self._display.console.print(text, markup=False, highlight=False, soft_wrap=True)


class Lines:
    """A line at the end of each stage, and one every few seconds within it."""

    def __init__(self) -> None:
        self._last = 0.0

    def stage(self, title: str) -> Stage:
        """Start the clock of a stage."""
        self._last = time.monotonic()
        ended = False

        def show(done: int, total: int, note: str = "") -> None:
            nonlocal ended
            if (done >= total and not ended) or time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
                self._last, ended = time.monotonic(), done >= total
                self.note(f"{title}: {done}/{total}" + (f", {note}" if note else ""))

        return show

    def note(self, text: str) -> None:
        """Print a line; a standard error that is closed or full stops no work."""
        with suppress(OSError, ValueError):
            print(text, file=sys.stderr, flush=True)


@contextmanager
def open_console() -> Iterator[Progress]:
    """Show progress with live bars if standard error is a terminal, otherwise with lines."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    with RichProgress(*columns, console=RichConsole(stderr=True), refresh_per_second=4) as display:
        yield Bars(display)
