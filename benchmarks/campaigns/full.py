"""Full: every verb writes to a file system that is really full; then there is space, and the command works."""

from __future__ import annotations

import ctypes
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from benchmarks.campaigns.outcome import Options, Tally, judge, run
from benchmarks.campaigns.stage import Stage, compare_trainings, find_damage

KILOBYTES = (0, 4, 16, 32, 64, 100, 150, 200, 400, 800)
"""Space that is left when the inputs are there."""
_NEW_MOUNTS = 0x00020000


def try_all(stage: Stage, tally: Tally, options: Options) -> None:
    """Run the campaign, on a tmpfs where this process may mount one, else with a limit on the size of files."""
    place = stage.folder / "small"
    place.mkdir()
    is_mounted = may_mount()
    verbs = ("predict", "prune", "report", "plan", "train", "export")[
        : 6 if options.long else 5 if options.count else 3
    ]
    sizes = options.choose(1, len(KILOBYTES))
    for kilobytes in KILOBYTES if options.long else KILOBYTES[2 :: max(1, len(KILOBYTES) // sizes)][:sizes]:
        for verb in (verb for verb in verbs if options.word in verb):
            if is_mounted:
                mount(place)
            _fill(stage, tally, verb, place, kilobytes, is_mounted)
            if is_mounted:
                subprocess.run(["umount", place], check=True)


def _fill(stage: Stage, tally: Tally, verb: str, place: Path, kilobytes: int, is_mounted: bool) -> None:
    """Run a verb whose results go to the small file system, then again with space."""
    folder = place / "copy"
    for name in ("data", "planned", "run", "predictions"):
        shutil.copytree(stage.original / name, folder / name)
    if is_mounted:
        used = shutil.disk_usage(place).used
        subprocess.run(["mount", "-o", f"remount,size={used + kilobytes * 1024}", place], check=True)
    before: Callable[[], object] | None = None if is_mounted else lambda: _limit(kilobytes)
    outcome = run(stage.command(verb, folder), before)
    fault = judge(outcome)
    if outcome.code and not any(words in outcome.text for words in ("No space", "space", "too large")):
        fault = fault or f"the message says nothing of space: {outcome.text[-300:]}"
    faults = [fault, *find_damage(folder)]
    if is_mounted:
        subprocess.run(["mount", "-o", "remount,size=1g", place], check=True)
    again = run(stage.command(verb, folder))
    faults.append(judge(again, (0,)))
    if verb == "train" and again.code == 0:
        faults.append(compare_trainings(folder / "planned", stage.original / "run"))
    faults += [f"with space: {damage}" for damage in find_damage(folder)]
    kind = "tmpfs" if is_mounted else "limit on files"
    tally.count(f"{verb}, {kind}", *(f"{kilobytes} kB: {fault}" for fault in faults if fault))
    if not is_mounted:
        shutil.rmtree(folder)


def may_mount() -> bool:
    """Take a mount namespace of our own, which nobody else sees; False if we may not."""
    if ctypes.CDLL(None).unshare(_NEW_MOUNTS) != 0:
        return False
    return subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, check=False).returncode == 0


def mount(place: Path, size: str = "1g") -> None:
    """Mount an empty file system of some size, in memory."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=True)


def _limit(kilobytes: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024,) * 2)
