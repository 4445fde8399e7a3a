"""Writes: of every verb, each file operation fails once with EIO and EACCES, and from it on with ENOSPC."""

from __future__ import annotations

import random
import shutil

from benchmarks.campaigns.injector import Injector
from benchmarks.campaigns.kill import count_operations
from benchmarks.campaigns.outcome import Options, Tally, judge, run
from benchmarks.campaigns.stage import VERBS, Stage, compare_trainings, find_damage

ERRORS = ("ENOSPC", "EIO", "EACCES")


def try_all(stage: Stage, tally: Tally, options: Options) -> None:
    """Run the campaign: every operation of every verb, or some; in the short form one error and no training."""
    generator = random.Random(f"writes {options.seed}")
    is_short = not options.long and options.count is None
    verbs = [verb for verb in (*VERBS, *(["export"] if options.long else [])) if options.word in verb]
    for verb in (verb for verb in verbs if not (is_short and verb == "train")):
        for error in [generator.choice(ERRORS)] if is_short else ERRORS:
            numbers = list(range(1, count_operations(stage, verb, error) + 1))
            most = options.choose(1, len(numbers))
            for at in sorted(generator.sample(numbers, min(most, len(numbers)))):
                _fail(stage, tally, verb, error, at)


def _fail(stage: Stage, tally: Tally, verb: str, error: str, at: int) -> None:
    folder = stage.copy()
    outcome = run(stage.command(verb, folder), Injector(folder, error, at).install)
    faults = [judge(outcome), *find_damage(folder, stage.original)]
    remains = list(folder.rglob(".unetpp-*"))
    if remains and error != "EACCES":  # a file that may not be removed stays
        faults.append(f"remains: {[path.name for path in remains]}")
    if verb == "train" and outcome.code:
        resumed = run(stage.command(verb, folder))
        faults.append(judge(resumed, (0,)) or compare_trainings(folder / "planned", stage.original / "run"))
    tally.count(verb, *(f"{error} at operation {at}: {fault}" for fault in faults if fault))
    shutil.rmtree(folder)
