"""Kill: a training is killed at random times and resumed; every verb is killed at random times and at every write."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.campaigns.injector import Injector
from benchmarks.campaigns.outcome import Child, Options, Outcome, Tally, judge, require, run, start
from benchmarks.campaigns.stage import Stage, compare_trainings, describe, find_damage, list_remains

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
ENDS = (0, 1, -signal.SIGTERM, -signal.SIGINT)
"""Ends of a process that was asked to stop; a signal as long as Python has not started."""


VERBS = ("predict", "prune", "evaluate", "report", "export")


def try_all(stage: Stage, tally: Tally, options: Options) -> None:
    """Run the campaign: chains of trainings, then the other verbs."""
    generator = random.Random(f"kill {options.seed}")
    for chain in range(options.choose(1, 14) if options.word in "train" else 0):
        _kill_training(stage, tally, generator, kills=options.choose(2, 6), number=chain)
    for verb in (verb for verb in VERBS[: 5 if options.long else 2] if options.word in verb):
        seconds = require(stage.command(verb, stage.copy())).seconds
        for _ in range(options.choose(1, 12)):
            _kill_verb(stage, tally, verb, generator.uniform(0.02, seconds))
        most = None if options.long else options.choose(1, 1)
        _kill_at_writes(stage, tally, verb, generator, most)


def _kill_training(stage: Stage, tally: Tally, generator: random.Random, kills: int, number: int) -> None:
    """Kill one training several times, resume it until done, and compare it with one that was left alone."""
    folder = stage.copy()
    tokens = stage.command("train", folder)
    for _ in range(kills):
        child = start(tokens)
        delay = generator.uniform(0.1, stage.training.seconds)
        stopped = generator.choice(SIGNALS if number % 2 else SIGNALS[:1])
        outcome = _stop(child, delay, stopped)
        fault = None if stopped == signal.SIGKILL else judge_stopped(outcome)
        list_remains(folder)
        tally.count("train", fault, *find_damage_but_log(folder))
        if outcome.code == 0:
            break
    outcome = run(tokens)
    fault = judge(outcome, (0,)) or compare_trainings(folder / "planned", stage.original / "run")
    remains = [path.name for path in folder.rglob(".unetpp-*")]
    tally.count("train resumed", fault, f"remains: {remains}" if remains else None)
    shutil.rmtree(folder)


def _kill_verb(stage: Stage, tally: Tally, verb: str, delay: float) -> None:
    folder = stage.copy()
    _stop(start(stage.command(verb, folder)), delay, signal.SIGKILL)
    tally.count(verb, *_look(stage, folder, verb))
    shutil.rmtree(folder)


def _kill_at_writes(stage: Stage, tally: Tally, verb: str, generator: random.Random, most: int | None) -> None:
    """Kill a verb at every writing operation, or at some of them."""
    total = count_operations(stage, verb, "SIGKILL")
    numbers = list(range(1, total + 1))
    for at in numbers if most is None else sorted(generator.sample(numbers, min(most, total))):
        folder = stage.copy()
        outcome = run(stage.command(verb, folder), Injector(folder, "SIGKILL", at).install)
        fault = None if outcome.code == -signal.SIGKILL else f"it was not killed: {describe(outcome)}"
        tally.count(f"{verb}, each operation", fault, *_look(stage, folder, verb))
        shutil.rmtree(folder)


def count_operations(stage: Stage, verb: str, error: str) -> int:
    """Count the operations of a verb in which an error can come."""
    folder = stage.copy()
    count = stage.folder / "count.txt"
    count.write_text("0")
    run(stage.command(verb, folder), Injector(folder, error, count=count).install)
    shutil.rmtree(folder)
    return int(count.read_text())


def judge_stopped(outcome: Outcome) -> str | None:
    """Judge a process that SIGTERM or SIGINT stopped."""
    return None if outcome.code in ENDS and "Traceback" not in outcome.text else judge(outcome, ENDS)


def find_damage_but_log(folder: Path) -> list[str]:
    return [damage for damage in find_damage(folder) if "log.jsonl" not in damage]


def _look(stage: Stage, folder: Path, verb: str) -> list[str | None]:
    """Look at what a killed verb left: no half file, nothing lost; the next one works and removes remains."""
    found: list[str | None] = [*find_damage(folder, stage.original)]
    list_remains(folder)
    outcome = run(stage.command(verb, folder))
    found.append(judge(outcome, (0,)))
    found += [f"after the next command: {damage}" for damage in find_damage(folder, stage.original)]
    remains = [path.relative_to(folder).as_posix() for path in folder.rglob(".unetpp-*")]
    return [*found, f"remains: {remains}" if remains else None]


def _stop(child: Child, delay: float, number: int) -> Outcome:
    time.sleep(delay)
    with suppress(ProcessLookupError):
        os.kill(child.pid, number)
    return child.wait()
