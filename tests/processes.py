"""Processes of their own, forked from one that has imported what a training needs: a new interpreter takes seconds.

Where the start of the interpreter is what is tested, as by imports that must not happen, tests start one.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

import pytest

from tests.quick import make_quick
from tests.tiny import Answer
from unetpp.cli import main

SERVER = multiprocessing.get_context("forkserver")
IMPORTED = [
    "pytest",
    "torch._dynamo",
    "unetpp.cli",
    "unetpp.report.plan_plots",
    "unetpp.verbs.first_stage",
    "unetpp.verbs.fold",
    "unetpp.verbs.predict",
    "unetpp.verbs.train",
]
SERVER.set_forkserver_preload(IMPORTED)
TIMEOUT_S = 300


def start(work: Callable[..., Any], count: int, *arguments: Any) -> None:
    """Call `work(number, *arguments)` in each of `count` processes, to their end; raise what one raises."""
    from torch.multiprocessing import start_processes

    start_processes(work, arguments, nprocs=count, start_method="forkserver")


class Command:
    """A command line in a process of its own, of whose streams and end one learns as of a `subprocess.Popen`.

    Args:
        tokens: the command line behind `unetpp`.
        environment: all of its environment; None: that of this process.
        before: called with nothing in the process before the command runs, of a module that can be imported.
    """

    def __init__(
        self, *tokens: object, environment: Mapping[str, str] | None = None, before: Callable[[], Any] | None = None
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._streams = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        for path in self._streams:
            path.touch()
        words, variables = [str(token) for token in tokens], dict(os.environ if environment is None else environment)
        self._process = SERVER.Process(target=_run, args=(words, variables, os.getcwd(), self._streams, before))
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def communicate(self, timeout: float = TIMEOUT_S) -> tuple[str, str]:
        """Wait for the end; what was written to the standard output and to the standard error.

        Raises:
            TimeoutExpired: it was killed after the timeout.
        """
        self._process.join(timeout)
        is_late = self._process.exitcode is None
        if is_late:
            self._process.kill()
            self._process.join()
        out, err = (path.read_text(encoding="utf-8", errors="replace") for path in self._streams)
        self._folder.cleanup()
        if is_late:
            raise TimeoutExpired("unetpp", timeout, out, err)
        return out, err


def run_command(*tokens: object, **options: Any) -> Answer:
    """Run a command line in a process of its own to its end; options as of `Command`."""
    command = Command(*tokens, **options)
    out, err = command.communicate()
    assert command.returncode is not None
    return Answer(command.returncode, out, err)


def _run(
    tokens: list[str],
    environment: dict[str, str],
    folder: str,
    streams: list[Path],
    before: Callable[[], Any] | None,
) -> None:
    for number, path in enumerate(streams, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    make_quick(pytest.MonkeyPatch())
    if before:
        before()
    sys.argv = ["unetpp", *tokens]
    main()
