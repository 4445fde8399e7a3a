"""Progress for people: live bars on a terminal and in a notebook, plain lines elsewhere."""

from __future__ import annotations

import functools
import inspect
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any, ParamSpec, TypeVar

from rich.cells import cell_len, set_cell_size
from rich.console import Console as RichConsole
from rich.progress import Progress as RichProgress
from rich.progress import ProgressColumn, Task, TaskID
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from unetpp.errors import UsageError, naming_missing
from unetpp.plan import Plan
from unetpp.progress import Progress, Stage
from unetpp.settings import dotted_names, find_own_name
from unetpp.words import format_time, wrap

SECONDS_BETWEEN_LINES = 10.0
BAR_WIDTHS = (24, 12, 5, 0)
"""Widths of a bar, in cells: the widest is taken that leaves room for the words."""

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class Bars:
    """One live bar for each stage.

    Args:
        display: the bars of rich.
        verbose: show details.
        translate: how notes name settings.
    """

    def __init__(self, display: RichProgress, verbose: bool, translate: Callable[[str], str] = str) -> None:
        self._display, self._verbose, self._translate = display, verbose, translate
        self._current: TaskID | None = None
        self._loading: TaskID | None = display.add_task("Loading", total=None, unit="", note="", counted=False)

    def stage(self, title: str, unit: str = "") -> Stage:
        """Add a bar."""
        self.end_stage()
        task = self._current = self._display.add_task(title, total=None, unit=unit, note="", counted=False)

        def show(done: float, total: int, note: str = "") -> None:
            self._display.update(task, completed=done, total=total or None, note=note, counted=total > 0)

        return show

    def end_stage(self) -> None:
        """Stop the clock of the current bar; one without a count is full now. What loads torch first leaves no bar."""
        if self._loading is not None:
            self._display.remove_task(self._loading)
            self._loading = None
        if self._current is not None:
            (task,) = (each for each in self._display.tasks if each.id == self._current)
            if not task.fields["counted"]:
                self._display.update(self._current, completed=1, total=1)
            self._display.stop_task(self._current)

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        console = self._display.console
        console.print(wrap(self._translate(text), console.width), markup=False, highlight=False, soft_wrap=True)

    def detail(self, text: str) -> None:
        """Print a detail above the bars."""
        if self._verbose:
            self.note(text)


class FittedLine(ProgressColumn):
    """One bar with its words, never wider than the terminal: the count and the clock are always whole.

    The bar gives way to the remarks, then the last remarks to the others, then the end of the title to the count.

    Args:
        console: the terminal.
    """

    def __init__(self, console: RichConsole) -> None:
        super().__init__()
        self._console = console

    def render(self, task: Task) -> Table:
        """Lay out one stage."""
        counted, unit = task.fields["counted"], task.fields["unit"]
        count = f"{int(task.completed):,}/{task.total or 0:,.0f} {unit}".rstrip() if counted else ""
        clock = format_time(task.finished_time or task.elapsed or 0.0)
        width = self._console.width - 1  # some terminals begin a new line after the last cell
        title = task.description
        least = _measure(count, clock)
        if _measure(title, count, clock) > width:
            title = set_cell_size(title, max(4, width - least - 2)).rstrip() + "…"
        note = _fit_note(task.fields["note"], width - _measure(title, count, clock) - 1)
        left = width - _measure(title, count, clock, note)
        bar = next(size for size in BAR_WIDTHS if size == 0 or size < left)
        line = Table.grid(padding=(0, 1, 0, 0))
        cells: list[Any] = [title]
        cells += [ProgressBar(task.total, task.completed, bar, pulse=task.total is None)] if bar else []
        cells += [Text(each, style, no_wrap=True) for each, style in ((count, ""), (clock, ""), (note, "dim")) if each]
        line.add_row(*cells)
        return line


def _measure(*parts: str) -> int:
    """Width of the parts that are not empty, with a space between them, in cells."""
    return sum(cell_len(part) + 1 for part in parts if part) - 1


def _fit_note(note: str, width: int) -> str:
    """Drop the last remarks until the others fit."""
    parts = note.split(", ")
    while parts and cell_len(", ".join(parts)) > width:
        parts.pop()
    return ", ".join(parts)


class Lines:
    """A line for each stage, and one every few seconds within it.

    Args:
        verbose: show details.
        on_stdout: print on standard output, as in a notebook, where standard error is red.
        translate: how notes name settings.
    """

    def __init__(self, verbose: bool = False, on_stdout: bool = False, translate: Callable[[str], str] = str) -> None:
        self._verbose, self._on_stdout, self._translate, self._last = verbose, on_stdout, translate, 0.0

    def stage(self, title: str, unit: str = "") -> Stage:
        """Start the clock of a stage."""
        self._last = time.monotonic()
        ended = False
        if not unit:
            self.note(f"{title} ...")

        def show(done: float, total: int, note: str = "") -> None:
            nonlocal ended
            if (done >= total > 0 and not ended) or time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
                self._last, ended = time.monotonic(), done >= total > 0
                count = f"{int(done):,}/{total:,} {unit}".rstrip() if total else ""
                self.note(f"{title}: " + ", ".join(filter(None, (count, note))))

        return show

    def note(self, text: str) -> None:
        """Print a line; a standard error that is closed or full stops no work."""
        with suppress(OSError, ValueError):
            print(self._translate(text), file=sys.stdout if self._on_stdout else sys.stderr, flush=True)

    def detail(self, text: str) -> None:
        """Print a detail."""
        if self._verbose:
            self.note(text)


@contextmanager
def open_console(verbose: bool = False, translate: Callable[[str], str] = str) -> Iterator[Progress]:
    """Show progress with live bars on a terminal or in a notebook, otherwise with lines.

    Args:
        verbose: show details.
        translate: how notes name settings: as in Python, or as flags.
    """
    console = RichConsole(stderr=True)
    if not (find_spec("ipywidgets") if console.is_jupyter else _is_terminal(console)):
        yield Lines(verbose, console.is_jupyter, translate)
        return
    with RichProgress(FittedLine(console), console=console, refresh_per_second=4) as display:
        bars = Bars(display, verbose, translate)
        yield bars
        bars.end_stage()


def _is_terminal(console: RichConsole) -> bool:
    """Tell whether standard error is a terminal on which lines can be written anew."""
    with suppress(ValueError, AttributeError):  # closed, or absent
        return sys.stderr.isatty() and not console.is_dumb_terminal
    return False


def _require_arguments(unknown: Iterable[str]) -> None:
    """Refuse an argument that is a setting, here or in other libraries; Python refuses all others."""
    for name in unknown:
        if own := find_own_name(name, dotted_names(Plan)):
            raise UsageError(name, "an argument", "a setting", f'Write it as set={{"{own}": ...}}.')


def shows_progress(verb: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Make a verb show its progress, unless its argument `progress` is False or an object that receives it."""

    known = inspect.signature(verb).parameters

    @functools.wraps(verb)
    def call(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> _Result:
        if "set" in known:
            _require_arguments(options.keys() - known)
        shown = options.get("progress")
        if shown not in (None, True, False):  # as the command line does, which names what is missing itself
            return verb(*arguments, **options)
        with naming_missing(f"unetpp.{verb.__name__}"):
            if shown is False:
                return verb(*arguments, **options)
            with open_console() as progress:
                options["progress"] = progress
                return verb(*arguments, **options)

    return call
