"""Fuzz: changed files of every kind; a reader gives a result or an error of ours, in bounded time and memory."""

from __future__ import annotations

import json
import os
import random
import resource
import select
import signal
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import psutil
from benchmarks.campaigns.corpus import Target, list_targets
from benchmarks.campaigns.mutations import mutate
from benchmarks.campaigns.outcome import Options, Tally
from benchmarks.campaigns.stage import Stage

ADDRESS_SPACE = 6 * 2**30
LARGEST_FILE = 2**30
"""Bytes that an input may take on the disk."""
LARGEST_GROWTH = 1.5e9
"""Bytes of memory that an input of some kilobytes may take."""
CPU_S, WALL_S = 20.0, 200.0
"""Time for one input: of the processor, and by the clock, as the machine may be loaded."""


def try_all(stage: Stage, tally: Tally, options: Options) -> None:
    """Run the campaign: 250 inputs for each target, or 10 in the short form."""
    for target in list_targets(stage, options.long):
        if options.word in target.name:
            count = options.choose(1, 60) if target.is_slow else options.choose(10, 250)
            _fuzz(target, tally, options.seed, count)


def make_input(target: Target, originals: dict[Path, bytes], seed: int, number: int) -> Path:
    """Write one changed file; everything else of the target is as it was."""
    generator = random.Random(f"{seed} {target.name} {number}")
    for path, content in originals.items():
        if path.read_bytes() != content:
            path.write_bytes(content)
    path = generator.choice(target.samples)
    path.write_bytes(mutate(originals[path], generator))
    return path


def _fuzz(target: Target, tally: Tally, seed: int, count: int) -> None:
    """Try a target in worker processes; a worker that dies or hangs is a fault of its input."""
    originals = {path: path.read_bytes() for path in target.samples}
    known: dict[str, int] = {}
    number = 0
    while number < count:
        for fault in _work(target, originals, seed, number, count):
            number += 1
            kind = fault.split(" | ")[0]
            known[kind] = known.get(kind, 0) + bool(fault)
            if fault and known[kind] == 1:
                path = make_input(target, originals, seed, number - 1)
                tally.keep.mkdir(parents=True, exist_ok=True)
                kept = tally.keep / f"{seed}-{number - 1}-{path.name}"
                kept.write_bytes(path.read_bytes())
                fault += f" | input {kept.name}"
            tally.count(target.name, fault if fault and known[kind] == 1 else None)
    for path, content in originals.items():
        path.write_bytes(content)
    for kind, times in known.items():
        if times > 1:
            tally.faults.append(f"{tally.name}, {target.name}: {times} inputs of the kind: {kind}")


def _work(target: Target, originals: dict[Path, bytes], seed: int, first: int, count: int) -> Iterator[str]:
    """Yield what is wrong with each input from `first` on, until a worker ends."""
    source, sink = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(source)
        _be_worker(target, originals, seed, range(first, count), sink)
    os.close(sink)
    done = first
    with os.fdopen(source) as lines:
        while done < count:
            hang = _wait(pid, lines)
            line = "" if hang else lines.readline()
            if not line:
                break
            done += 1
            yield json.loads(line)
    if hang:
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if done < count and code != _TOO_LARGE:
        yield hang or f"the process ended with {signal.Signals(-code).name if code < 0 else code}"


def _wait(pid: int, lines: Any) -> str:
    """Wait for the next line of a worker; say so if it takes too long."""
    started, process = time.monotonic(), psutil.Process(pid)
    cpu = sum(process.cpu_times()[:2])
    while not select.select([lines], [], [], 1.0)[0]:
        if time.monotonic() - started > WALL_S or sum(process.cpu_times()[:2]) - cpu > CPU_S:
            return f"more than {CPU_S:.0f} s"
    return ""


_TOO_LARGE = 3
"""Exit code of a worker that has become too large to measure the next input."""


def _be_worker(target: Target, originals: dict[Path, bytes], seed: int, numbers: range, sink: int) -> NoReturn:
    """Try inputs, and write a line of JSON about each: empty, or what was wrong."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        warnings.simplefilter("ignore")
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, LARGEST_FILE))
        target.read(make_sound(target, originals))  # what is imported and cached is not memory of an input
        largest = _peak_bytes()
        for number in numbers:
            path = make_input(target, originals, seed, number)
            fault = _try(target, path)
            grown, largest = _peak_bytes() - largest, max(largest, _peak_bytes())
            if not fault and grown > LARGEST_GROWTH:
                fault = f"memory | grew by {grown / 1e9:.1f} GB"
            os.write(sink, (json.dumps(fault) + "\n").encode())
            if grown > LARGEST_GROWTH:
                os._exit(_TOO_LARGE)
    except BaseException:
        os.write(sink, (json.dumps(f"the worker | {traceback.format_exc()[-500:]}") + "\n").encode())
    os._exit(0)


def make_sound(target: Target, originals: dict[Path, bytes]) -> Path:
    """Write the files of a target as they were, and return the first."""
    for path, content in originals.items():
        path.write_bytes(content)
    return target.samples[0]


def _try(target: Target, path: Path) -> str:
    """Read one input; returns what is wrong, or an empty text."""
    from unetpp.errors import UnetppError

    try:
        target.read(path)
    except UnetppError as error:
        text = str(error)
        return f"takes the disk | {text[:200]}" if os.strerror(27) in text else _find_unexpected(text)
    except BaseException as error:
        where = next(
            (
                f"{frame.filename.split('unetpp/')[-1]}:{frame.name}"
                for frame in reversed(traceback.extract_tb(error.__traceback__))
                if "/unetpp/" in frame.filename
            ),
            "",
        )
        return f"{type(error).__name__} in {where} | {str(error)[:200]}"
    return ""


def _find_unexpected(text: str) -> str:
    return f"unexpected | {text[:300]}" if "nexpected error" in text else ""


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
