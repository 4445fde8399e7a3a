"""What breaks: who is killed or frozen, which disk is full, how a store answers; and what has to follow."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil
from benchmarks.campaigns.outcome import UNEXPECTED, Child, Outcome, judge
from benchmarks.faults import bucket
from benchmarks.faults.crew import end
from benchmarks.faults.scenes import LIMIT_S, Stage

ON_A_CLUSTER = ("folds", "cases", "blocks")
STORED = ("blocks", "cases")
ATTEMPTS = 3
KILL, FREEZE, ASK, FILL = "killed", "frozen", "asked to stop (SIGTERM)", "full"
MOODS = {bucket.ERROR: "answers 500", bucket.SLOW: "answers slowly", bucket.CUT: "cuts connections"}


@dataclass(frozen=True)
class Fault:
    """One kind of fault in one scene."""

    scene: str
    name: str
    victims: tuple[str, ...] = ()
    """rank 0, rank 1, client, or a process of the crew."""
    action: str = KILL
    goes_on: bool = False
    """Whether the command has to end well by itself."""


@dataclass
class Row:
    """What one injection did."""

    scene: str
    fault: str
    moment_s: float = 0.0
    """Seconds after the start at which it came."""
    early: bool = True
    """Whether the command still ran."""
    code: int | None = None
    """How the command ended that was disturbed; None: it was killed."""
    said: str = ""
    seconds: float = 0.0
    """From the fault to the end of all that was left."""
    again: int | None = None
    again_s: float = 0.0
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return all of it in terms of JSON."""
        return asdict(self)


def list_faults() -> list[Fault]:
    """List the faults that need neither SLURM nor torchrun."""
    found = [Fault("training", f"rank {rank} {action}", (f"rank {rank}",), action) for rank in (0, 1)
             for action in (KILL, FREEZE)]  # fmt: skip
    every = ("rank 0", "rank 1")
    found += [Fault("training", f"all ranks {action}", every, action) for action in (KILL, ASK)]
    for scene in ON_A_CLUSTER:
        found += [
            Fault(scene, "worker killed", ("worker",), goes_on=True),
            Fault(scene, "worker under a nanny killed", ("nursed",), goes_on=True),
            Fault(scene, "nanny killed", ("nanny",), goes_on=True),
            Fault(scene, "scheduler killed", ("scheduler",)),
            Fault(scene, "client killed", ("client",)),
            Fault(scene, "worker frozen", ("worker",), FREEZE, goes_on=scene != "folds"),  # it holds its fold
            Fault(scene, "worker under a nanny frozen", ("nursed",), FREEZE, goes_on=True),
        ]
    found += [Fault(scene, "disk full", action=FILL) for scene in ("training", *ON_A_CLUSTER)]
    found += [
        # a write that was answered with 200 before the cut is not asked for again
        Fault("bucket", f"store {words}", action=mood, goes_on=mood != bucket.CUT)
        for mood, words in MOODS.items()
    ]
    return [
        *found,
        Fault("bucket", "worker killed", ("worker",), goes_on=True),
        Fault("bucket", "client killed", ("client",)),
    ]


class Injection:
    """One fault at a random moment, and all that follows.

    Args:
        stage: the scenes.
        fault: the fault.
        disk: mounted file system that may be filled; None: there is none.
        generator: chooses the moment.
    """

    def __init__(self, stage: Stage, fault: Fault, disk: Path | None, generator: random.Random) -> None:
        self._stage, self._fault, self._disk, self._generator = stage, fault, disk, generator

    def run(self, out: Path) -> Row:
        """Disturb a command, do it again with --resume, and compare what it made; again if it had ended before."""
        for _ in range(ATTEMPTS):
            row = self._run(out)
            if row.early or row.problem:
                break
            self._stage.seconds[row.scene] = row.moment_s  # the machine is faster now
        return row

    def _run(self, out: Path) -> Row:
        stage, fault = self._stage, self._fault
        self._row = row = Row(fault.scene, fault.name)
        stage.prepare(fault.scene, out)
        children = stage.start(fault.scene, out)
        began = children[0].started
        self._wait(children, self._generator.uniform(0.05, 0.95 * stage.seconds[fault.scene]))
        row.early = any(is_running(child) for child in children)
        row.moment_s = round(time.monotonic() - began, 2)
        broke = time.monotonic()
        targets = self._break(children)
        outcomes = self._finish(children, targets)
        row.seconds = round(time.monotonic() - broke, 1)
        self._mend(targets)
        self._judge(outcomes)
        finish(stage, row, out)
        return row

    def _wait(self, children: Sequence[Child], delay: float) -> None:
        until = time.monotonic() + delay
        while time.monotonic() < until and any(is_running(child) for child in children):
            time.sleep(0.01)

    def _break(self, children: Sequence[Child]) -> list[int]:
        """Do it, and return the processes that it was done to."""
        fault = self._fault
        number = {KILL: signal.SIGKILL, FREEZE: signal.SIGSTOP, ASK: signal.SIGTERM}.get(fault.action)
        if number is None and fault.action == FILL:
            assert self._disk is not None
            fill(self._disk)
        elif number is None:
            bucket.set_mood(self._stage.bucket, fault.action)
            time.sleep(self._generator.uniform(1, 8))
            bucket.set_mood(self._stage.bucket, bucket.WELL)
        targets = []
        for victim in fault.victims if number else ():
            kind, _, index = victim.partition(" ")
            is_child = kind in ("client", "rank")
            pid = children[int(index or 0)].pid if is_child else self._stage.crew.find(victim)
            targets.append(pid)
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return targets

    def _finish(self, children: Sequence[Child], targets: Sequence[int]) -> list[Outcome]:
        """Wait for the processes that have to end by themselves; return how they did."""
        frozen = [child for child in children if child.pid in targets and self._fault.action == FREEZE]
        killed = [child for child in children if child.pid in targets and self._fault.action == KILL]
        outcomes = [child.wait(LIMIT_S) for child in children if child not in frozen + killed]
        for child in frozen + killed:
            with suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
            child.wait(LIMIT_S)
        return outcomes

    def _mend(self, targets: Sequence[int]) -> None:
        """Leave the world as it was: space on the disk, no process that is frozen."""
        if self._fault.action == FILL and self._disk is not None:
            (self._disk / "ballast").unlink()
        if self._fault.action == FREEZE and self._fault.victims[0] in ("worker", "nursed"):
            for pid in targets:
                with suppress(psutil.Error):
                    if psutil.Process(pid).status() == psutil.STATUS_STOPPED:
                        end(pid) if self._fault.victims[0] == "worker" else os.kill(pid, signal.SIGKILL)

    def _judge(self, outcomes: Sequence[Outcome]) -> None:
        row, fault = self._row, self._fault
        row.code = outcomes[0].code if outcomes else None
        text = "\n".join(outcome.text for outcome in outcomes)
        row.said = take_message(text)
        # of ranks the first one speaks for all
        found = [find_fault(replace(outcome, text=text)) for outcome in outcomes]
        if row.early and fault.goes_on and row.code:
            found.append(f"it did not go on: {row.code}")
        if fault.scene == "training" and row.early and any(outcome.code for outcome in outcomes):
            named = {KILL: "Lost rank", FREEZE: "Lost rank", FILL: "space"}.get(fault.action, "")
            found.append(None if named in text else f"nothing is said of it: {text[-300:]}")
        if fault.action == FILL and row.code and "space" not in text:
            found.append(f"the message says nothing of space: {text[-300:]}")
        row.problem = next((each for each in found if each), None)


def finish(stage: Stage, row: Row, out: Path) -> None:
    """Run the command again with --resume, and compare its results."""
    outcome = stage.run(row.scene, out, resume=True)
    row.again, row.again_s = outcome.code, round(outcome.seconds, 1)
    fault = find_fault(outcome) or (f"again: exit code {outcome.code}: {outcome.text[-300:]}" if outcome.code else None)
    try:
        row.problem = row.problem or fault or stage.compare(row.scene, out)
    except OSError as error:
        row.problem = f"something is missing: {error}"


def find_fault(outcome: Outcome) -> str | None:
    """Find what is wrong with a process that was not killed: a hang, a traceback, a signal."""
    if outcome.timed_out or outcome.code in (0, 1, 2):
        return judge(outcome)
    is_unexpected = any(words in outcome.text for words in UNEXPECTED)
    asked = outcome.code in (-signal.SIGTERM, -signal.SIGINT, 128 + signal.SIGTERM)
    return None if asked and not is_unexpected else judge(outcome)


def take_message(text: str) -> str:
    """Take the last line that a command said to the user."""
    lines = [line for line in text.splitlines() if line.startswith(("unetpp: ", "note: the worker"))]
    return " ".join(lines[-1].split())[:300] if lines else ""


def is_running(child: Child) -> bool:
    """Tell whether a child runs, without taking its end away from those who wait for it."""
    return not has_ended(child.pid)


def has_ended(pid: int) -> bool:
    """Tell whether a process has ended, though nobody may have waited for it yet."""
    with suppress(psutil.Error):
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    return True


def fill(disk: Path) -> None:
    """Fill a file system to the last byte."""
    with (disk / "ballast").open("wb", buffering=0) as file, suppress(OSError):
        for size in (1 << 16, 1 << 12, 1):
            with suppress(OSError):
                while file.write(b"\0" * size):
                    pass
