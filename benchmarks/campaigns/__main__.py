"""Campaigns that try to break the promises of docs/reliability.md; a table of counts, and every fault.

python -m benchmarks.campaigns [kill|writes|full|fuzz|soak|all]... --seed 0 [--long] [--count N] [--only WORD]

Everything happens in a temporary folder. Inputs of faults are copied to --keep. The exit code is 1 if there is a fault.
Linux only: processes are forked.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.campaigns import full, fuzz, kill, soak, writes
from benchmarks.campaigns.outcome import Options, Tally, preload
from benchmarks.campaigns.stage import Stage

CAMPAIGNS = {"kill": kill, "writes": writes, "full": full, "fuzz": fuzz, "soak": soak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaigns", choices=[*CAMPAIGNS, "all"], nargs="*", default=["all"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--long", action="store_true", help="every operation, many inputs: an hour or more")
    parser.add_argument("--count", type=int, help="number of inputs or injections of each kind")
    parser.add_argument("--only", default="", metavar="WORD", help="only verbs or readers with this word in their name")
    parser.add_argument("--keep", type=Path, default=Path("campaign-faults"), help="folder for inputs of faults")
    arguments = parser.parse_args()
    names = list(CAMPAIGNS) if "all" in arguments.campaigns else arguments.campaigns
    options = Options(arguments.seed, arguments.long, arguments.count, arguments.only)
    preload()
    print("| campaign | target | count |\n|---|---|---|", flush=True)
    faults = 0
    with tempfile.TemporaryDirectory(prefix="campaigns-") as folder:
        stage = Stage(Path(folder))
        for name in names:
            started = time.monotonic()
            tally = Tally(name, arguments.keep.absolute())
            CAMPAIGNS[name].try_all(stage, tally, options)
            print("".join(f"| {name} | {target} | {count:,} |\n" for target, count in tally.counts.items()), end="")
            print(f"| {name} | together | {tally.counts.total():,}, faults: {len(tally.faults)} |", flush=True)
            print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
            faults += len(tally.faults)
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
