"""Faults at random moments of work that several processes share; after each the same command goes on with --resume.

python -m benchmarks.faults --injections 200 --seed 1 [--scenes SCENE...] [--only WORD] [--to faults.jsonl]
python -m benchmarks.faults --table faults.jsonl...

Each injection is a line of JSON; those that are in the file already are not done again. The outputs have to equal those
of a command that nobody disturbed: all bytes of predictions, of trainings weights, scores and validations. The exit
code is 1 if something was lost, different, or hung. Linux only: processes are forked. Full disks need the right to
mount, SLURM needs root, slurm-wlm and munge; without them these faults are left out, which is said.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.campaigns.full import may_mount, mount
from benchmarks.campaigns.outcome import preload
from benchmarks.faults.injections import FILL, STORED, Injection, Row, list_faults
from benchmarks.faults.launched import Launched
from benchmarks.faults.scenes import SCENES, Stage, make_stage
from tests.services.slurm import find_reason_without, run_slurm

Entry = tuple[str, str, Callable[[random.Random], Callable[[Path], Row]]]
"""Scene, fault, and what does it."""


def main() -> None:
    """Run the campaign, or print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--injections", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scenes", choices=SCENES, nargs="+", default=SCENES)
    parser.add_argument("--only", default="", metavar="WORD", help="only faults with this word")
    parser.add_argument("--to", type=Path, default=Path("faults.jsonl"), help="file of the results")
    parser.add_argument("--table", type=Path, nargs="+", help="print the table of such files")
    arguments = parser.parse_args()
    if arguments.table:
        print_table([row for path in arguments.table for row in read_rows(path)])
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # with all that it has started
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    done = {row["number"] for row in read_rows(arguments.to) if row["seed"] == arguments.seed}
    with open_stage(arguments.scenes) as (stage, disk, slurm):
        for number in range(arguments.injections):
            if number in done:
                continue
            generator = random.Random(f"{arguments.seed} {number}")
            wanted = [entry for entry in list_entries(stage, disk, slurm) if entry[0] in arguments.scenes]
            _, name, make = choose(wanted, arguments.seed, number, arguments.only)
            place = (disk if name.startswith("disk") and disk else stage.folder) / "work" / f"n{number}"
            found = make(generator)(place).to_dict()
            row = {"seed": arguments.seed, "number": number, **found}
            with arguments.to.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    sys.exit(any(row["problem"] for row in read_rows(arguments.to)))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the injections that a file has; half a line of a campaign that was killed is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


@contextmanager
def open_stage(scenes: Sequence[str]) -> Iterator[tuple[Stage, Path | None, Mapping[str, str] | None]]:
    """Make all that the campaign needs, and end it afterwards."""
    os.environ["OMP_NUM_THREADS"] = "1"
    may = may_mount()
    preload()
    __import__("distributed")
    reason = find_reason_without()
    with tempfile.TemporaryDirectory(prefix="faults-") as name, ExitStack() as exits:
        disk = Path(name) / "disk" if may else None
        if disk:
            disk.mkdir()
            mount(disk, "48m")
            exits.callback(subprocess.run, ["umount", "--lazy", str(disk)], check=False)
        slurm = None if reason else exits.enter_context(run_slurm())
        for missing in (None if may else "full disks: no right to mount", reason and f"SLURM: {reason}"):
            print(f"left out: {missing}" if missing else "", file=sys.stderr)
        stage = make_stage(Path(name), scenes)
        exits.callback(stage.end)
        yield stage, disk, slurm


def list_entries(stage: Stage, disk: Path | None, slurm: Mapping[str, str] | None) -> list[Entry]:
    """List all faults that are possible here."""
    found: list[Entry] = [
        (fault.scene, fault.name, lambda generator, fault=fault: Injection(stage, fault, disk, generator).run)  # type: ignore[misc]
        for fault in list_faults()
        if disk is not None or fault.action != FILL
    ]

    def add(scene: str, name: str, method: str, needs_slurm: bool = False) -> None:
        if slurm is not None or not needs_slurm:
            environment = slurm if needs_slurm else None
            found.append((scene, name, lambda each: getattr(Launched(stage, scene, name, each, environment), method)))

    add("training", "rank killed, torchrun --max-restarts", "kill_rank_of_torchrun")
    for scene in STORED:
        add(scene, "part killed, sent again", "kill_part")
        add(scene, "walltime of a SLURM job ends", "end_walltime", True)
    add("cases", "requeued by SLURM", "requeue", True)  # a job's blocks are not as small as those of forked processes
    add("cases", "client of local workers killed", "kill_client_of_local_workers")
    add("training", "requeued by SLURM", "requeue", True)
    return found


def choose(entries: list[Entry], seed: int, number: int, word: str) -> Entry:
    """Choose the fault of an injection: all of them come equally often, in an order that the seed shuffles."""
    wanted = [entry for entry in entries if word in entry[1]]
    if not wanted:
        raise SystemExit(f"faults: no fault has {word!r} in its name")
    turn, place = divmod(number, len(wanted))
    return random.Random(f"{seed} turn {turn}").sample(wanted, len(wanted))[place]


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print a line for each scene and fault."""
    print("| work | fault | injections | went on | stopped, resumed | done before it | longest, s | problems |")
    print("|---|---|---|---|---|---|---|---|")
    for scene, fault in sorted({(row["scene"], row["fault"]) for row in rows}):
        own = [row for row in rows if (row["scene"], row["fault"]) == (scene, fault)]
        early = [row for row in own if row["early"]]
        went_on = sum(row["code"] == 0 for row in early)
        problems = sum(bool(row["problem"]) for row in own)
        counts = f"{len(own)} | {went_on} | {len(early) - went_on} | {len(own) - len(early)}"
        print(f"| {scene} | {fault} | {counts} | {max(row['seconds'] for row in own):.0f} | {problems} |")
    middle = statistics.median(row["seconds"] for row in rows)
    print(f"\n{len(rows)} injections, {sum(bool(row['problem']) for row in rows)} problems; median {middle:.1f} s")


if __name__ == "__main__":
    main()
