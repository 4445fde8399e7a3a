"""Cases prepared by other processes: one that is killed for lack of memory costs its case alone.

Each runs `unetpp.data.case_worker`, gets cases as lines of JSON and answers each with one. Unlike the processes of
`multiprocessing` it needs no guard in the user's script, and works in notebooks.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from unetpp.data.case_files import name_files
from unetpp.errors import DataError, Problem, WriteError
from unetpp.free_memory import measure_free_bytes
from unetpp.layouts.dataset import Case
from unetpp.plan import DataPlan

_LARGE = 2**28
"""Bytes of the files of all cases from which on they are worth the start of a process."""
_MEMORY = 2**28
"""Bytes that one case takes, besides arrays as large as its files."""


def needs_processes(cases: Sequence[Case]) -> bool:
    """Tell whether cases are large; parts of one file are not, as they share what is read of it."""
    if not sys.executable or any(case.is_part for case in cases):
        return False
    return sum(_measure_files(case) for case in cases) >= _LARGE


def count_at_once(cases: Sequence[Case], most: int) -> int:
    """Choose how many cases are prepared at once, at most `most`, so that half of the free memory suffices for them.

    Formats that are unpacked in memory are allowed for.
    """
    needed = _MEMORY + 8 * max(map(_measure_files, cases), default=0)
    fitting = measure_free_bytes() // (2 * needed)
    return int(max(1, min(most, len(cases), fitting)))


def _measure_files(case: Case) -> int:
    return sum(path.stat().st_size for path in (*case.images, *case.labels) if path.is_file())


class WorkerProcesses:
    """Processes that prepare cases, one for each thread that asks.

    Args:
        plan: the data section of the plan.
    """

    def __init__(self, plan: DataPlan) -> None:
        self._plan = plan.model_dump_json()
        self._own = threading.local()
        self._all: list[subprocess.Popen[str]] = []
        self._is_closed = False
        self._starting = threading.Lock()

    def prepare(self, case: Case, stem: Path) -> None:
        """Have a case prepared.

        Args:
            case: the case.
            stem: path of its arrays in the store, without their endings.

        Raises:
            DataError: problems of the case, or its process was killed; the next case gets another.
            WriteError: the store could not be written.
        """
        process = getattr(self._own, "process", None) or self._start()
        assert process.stdin is not None and process.stdout is not None
        try:
            task = {"case": asdict(case), "stem": stem.absolute()}
            process.stdin.write(f"{json.dumps(task, default=os.fspath)}\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except OSError:  # it has ended before
            answer = ""
        if not answer:
            self._own.process = None
            raise DataError(_describe_end(case, process.wait()))
        found: dict[str, Any] = json.loads(answer)
        if "write" in found:
            problem = Problem(**found["write"])
            raise WriteError(problem.where, problem.got, problem.expected, problem.action)
        if problems := [Problem(**each) for each in found["problems"]]:
            raise DataError(problems)

    def close(self) -> None:
        """End the processes; what they were writing is not there."""
        with self._starting:
            self._is_closed = True
        for process in self._all:
            with suppress(OSError):
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                with suppress(OSError):
                    if stream:
                        stream.close()

    def _start(self) -> subprocess.Popen[str]:
        paths = os.pathsep.join(path or os.curdir for path in sys.path)
        with self._starting:
            if self._is_closed:
                raise DataError(Problem("preparing", "an end before this case", "its turn", "Run it again."))
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "unetpp.data.case_worker", self._plan],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="ascii",
                env={**os.environ, "PYTHONPATH": paths},
            )
            self._all.append(process)
        self._own.process = process
        return process


def _describe_end(case: Case, code: int) -> Problem:
    with suppress(ValueError):
        name = f" by {signal.Signals(-code).name}" if code < 0 else f" with exit code {code}"
        got = f"a process that ended{name} while it prepared this case"
        action = "Run the command again with more free memory: what is prepared stays. Or leave the case out."
        return Problem(name_files(case.images), got, "a prepared case", action)
    return Problem(name_files(case.images), f"a process that ended ({code})", "a prepared case", "Run it again.")
