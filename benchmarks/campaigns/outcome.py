"""What a command line did in a process of its own, and whether that is what is promised."""

from __future__ import annotations

import atexit
import functools
import importlib
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

UNEXPECTED = ("Traceback", "nexpected error", "should not happen")
"""Words that no message may have."""
TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Options:
    """What the command line of the campaigns asks for."""

    seed: int = 0
    long: bool = False
    """Everything, instead of what a test suite has time for."""
    count: int | None = None
    """Number of inputs or injections of each kind; None: as the campaign has it."""
    word: str = ""
    """Only verbs or readers with this word in their name."""

    def choose(self, short: int, long: int) -> int:
        """Choose a number of injections."""
        return self.count if self.count is not None else long if self.long else short


@dataclass(frozen=True)
class Outcome:
    """How a process ended."""

    code: int
    """Exit code; of a signal, its negative number."""
    text: str
    """What it printed."""
    seconds: float
    timed_out: bool = False


@dataclass
class Tally:
    """Counts and faults of one campaign."""

    name: str
    keep: Path
    """Folder for the inputs of faults."""
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def count(self, target: str, *faults: str | None) -> None:
        """Count one injection or input, and what was wrong with it."""
        self.counts[target] += 1
        for fault in filter(None, faults):
            self.faults.append(f"{self.name}, {target}: {fault}")
            print(self.faults[-1], file=sys.stderr, flush=True)


_IMPORTS = (
    "torch._dynamo",
    "monai.losses",
    "monai.metrics",
    "monai.transforms",
    "scipy.stats",
    "matplotlib.pyplot",
    "jinja2",
    "nibabel",
    "tifffile",
    "unetpp.cli",
    "unetpp.verbs.fold",
    "unetpp.infer.predictor",
    "unetpp.deploy.prune",
    "unetpp.deploy.adapt",
    "unetpp.report.html",
)
"""What the verbs import when they need it; importing takes longer than most of them."""


def preload() -> None:
    """Import once what all children need; none of this may start a thread, as children are forked."""
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in _IMPORTS:
        importlib.import_module(name)
    fold = importlib.import_module("unetpp.verbs.fold")
    depth_table = importlib.import_module("unetpp.measure.depth_table")
    # without the measuring of memory, which starts processes of some seconds each
    fold.measure_depths = functools.partial(depth_table.measure_depths, memory=False)


@dataclass
class Child:
    """A command line in a forked process."""

    pid: int
    output: Path
    started: float

    def wait(self, timeout_s: float = TIMEOUT_S) -> Outcome:
        """Wait for the end; a process that takes longer is killed."""
        timed_out = False
        while not (found := os.waitpid(self.pid, os.WNOHANG))[0]:
            if time.monotonic() - self.started > timeout_s and not timed_out:
                os.kill(self.pid, signal.SIGKILL)
                timed_out = True
            time.sleep(0.005)
        text = self.output.read_text(encoding="utf-8", errors="replace")
        self.output.unlink()
        code = os.waitstatus_to_exitcode(found[1])
        return Outcome(code, text, time.monotonic() - self.started, timed_out)


def start(tokens: list[str], before: Callable[[], object] | None = None) -> Child:
    """Start a command line in a forked process.

    Args:
        tokens: words of the command line, without `unetpp`.
        before: called in the child first; it may damage the child's world.
    """
    output = Path(os.environ.get("TMPDIR", "/tmp")) / f"campaign-{os.getpid()}-{time.monotonic_ns()}.txt"
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _be_child(tokens, output, before)
    return Child(pid, output, time.monotonic())


def run(tokens: list[str], before: Callable[[], object] | None = None, timeout_s: float = TIMEOUT_S) -> Outcome:
    """Run a command line to its end; arguments as of `start`."""
    return start(tokens, before).wait(timeout_s)


def require(tokens: list[str]) -> Outcome:
    """Run a command line that has to work, to prepare a campaign."""
    outcome = run(tokens)
    if outcome.code:
        raise SystemExit(f"campaigns: unetpp {' '.join(tokens)} ended with {outcome.code}:\n{outcome.text}")
    return outcome


def judge(outcome: Outcome, codes: tuple[int, ...] = (0, 1, 2)) -> str | None:
    """Compare an outcome with what is promised: an exit code of ours, one message, nothing unexpected.

    Returns:
        What is wrong, or None.
    """
    last = " ".join(outcome.text.split())[-300:]
    if outcome.timed_out:
        return f"it took more than {outcome.seconds:.0f} s"
    if outcome.code < 0:
        return f"signal {signal.Signals(-outcome.code).name}: {last}"
    if outcome.code not in codes:
        return f"exit code {outcome.code}: {last}"
    if any(words in outcome.text for words in UNEXPECTED):
        return f"an unexpected error: {last}"
    messages = [line for line in outcome.text.splitlines() if line.startswith("unetpp: ")]
    is_list = " to fix." in outcome.text  # of `check`
    return f"{len(messages)} messages: {last}" if outcome.code == 2 and len(messages) + is_list != 1 else None


def _be_child(tokens: list[str], output: Path, before: Callable[[], object] | None) -> NoReturn:
    """Run a command line as the command `unetpp` does, and end the process whatever happens."""
    code = 70
    try:
        written = os.open(output, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(written, 1)
        os.dup2(written, 2)
        sys.argv = ["unetpp", *tokens]
        if before is not None:
            before()
        from unetpp.cli import main

        atexit._clear()  # what this process has to tidy up at its end is not the child's

        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 70
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
