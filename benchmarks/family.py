"""The family of networks in equal time of training: quality and costs of every size of every member.

python benchmarks/family.py DATA --out FOLDER [--minutes 6] [--seeds 0] [--members NAME ...] [--device cpu]
python benchmarks/family.py DATA --out FOLDER --table

Each member is trained for so many minutes of steps on fold 0, with the plan that `unetpp plan DATA` makes: its patches,
batches, augmentation, schedule and tiles are those of all members, and so is its largest depth. Scores are those of the
validation cases. Each training appends a line to FOLDER/results.jsonl, where a finished one is not repeated, so that a
run may be stopped at any time, and parts may run in turn; a FOLDER is for one device. --list names the members. Steps
and tiles are timed in turn with those of a fixed U-Net, for a ratio that another machine has too. On a CPU with one
thread (OMP_NUM_THREADS=1) all times are those of the processor, which other work on the machine hardly changes.

--table prints all that FOLDER has of DATA as a table, with 95 % bootstrap intervals over cases, and draws
FOLDER/DATA/family.svg and family.png: Dice over milliseconds of a tile.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from family_costs import measure_mb, measure_steps, measure_tiles
from family_members import Member, list_members
from family_picture import draw, make_table
from timed_training import Fold, append_row, read_fold, read_rows, score_sizes, train_phases

from unetpp import plan as make_plan
from unetpp.metrics.scores import CaseScore, mean_of
from unetpp.runtime.device import choose_device, keep_freed_memory

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--minutes", type=float, default=6, help="of steps, for each training")
    parser.add_argument("--plan-minutes", type=float, default=20, help="for which the plan is made")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--members", nargs="+", metavar="NAME", help="default: all")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--list", action="store_true", help="name the members")
    parser.add_argument("--table", action="store_true", help="print the table and draw the picture; train nothing")
    options = parser.parse_args(arguments)
    name, results = options.data.resolve().name, options.out / "results.jsonl"
    if options.table:
        rows = [row for row in read_rows(results) if (row["data"], row["minutes"]) == (name, options.minutes)]
        if not rows:
            parser.error(f"{results} has no training of {options.minutes:g} minutes on {name}")
        print(make_table(rows))
        draw(rows, options.out / name, f"{name}, {options.minutes:g} minutes of training each")
        return
    keep_freed_memory()
    fold = prepare(options.data, options.out / name, options.plan_minutes, options.device)
    members = list_members(fold.plan.model)
    if options.list:
        print("\n".join(members))
        return
    if unknown := set(options.members or ()) - set(members):
        parser.error(f"unknown members: {', '.join(sorted(unknown))}; known: {', '.join(members)}")
    for seed in options.seeds:
        for chosen in options.members or members:
            key = {"member": chosen, "data": name, "seed": seed, "minutes": options.minutes}
            if not any(key.items() <= row.items() for row in read_rows(results)):
                seeded = fold._replace(plan=fold.plan.changed({"train.seed": seed}))
                row = key | train(
                    members[chosen], seeded, options.out / name / "plan.json", options.minutes, options.device
                )
                append_row(results, row)
                print(summarize(row), flush=True)


def prepare(data: Path, folder: Path, minutes: float, device: str) -> Fold:
    """Make the plan of all members, unless it is there, and read it and the cases."""
    if not (folder / "splits.json").exists():
        make_plan(data, folder, minutes=minutes, device=device)
    return read_fold(data, folder, folder / "cache")


def train(member: Member, fold: Fold, plan_file: Path, minutes: float, device: str) -> Row:
    """Train and measure a member; returns its line without what identifies it."""
    plan = fold.plan.changed({"train.distillation": member.distillation})
    place, fold = choose_device(device), fold._replace(plan=plan)
    torch.manual_seed(plan.train.seed)
    phases = member.list_phases()
    network, steps = train_phases(fold, phases, 60 * minutes, place)
    scores = score_sizes(network, fold, place)
    tiles = measure_tiles(member, network, plan, place)
    times = measure_steps(member, plan, place)
    return {
        "title": member.title,
        "device": torch.cuda.get_device_name(place) if place.type == "cuda" else f"{torch.get_num_threads()} threads",
        "patch": plan.train.patch,
        "batch": plan.train.batch,
        "tile": plan.predict.tile,
        "precision": plan.train.precision,
        "phases": [
            {"steps": count, **each, "step_mb": measure_mb(plan_file, member.name, "step", number, place)}
            for number, (count, each) in enumerate(zip(steps, times, strict=True))
        ],
        "sizes": [
            {
                **member.describe_size(number),
                **summarize_scores(found),
                **tiles[number],
                "tile_mb": measure_mb(plan_file, member.name, "tile", number, place),
            }
            for number, found in scores.items()
        ],
    }


def summarize_scores(scores: Sequence[CaseScore]) -> Row:
    """Average over cases the means over foreground classes; with the Dice of every case."""
    means = {score.id: score.mean() for score in scores}
    cases = {name: None if found.dice is None else round(found.dice, 5) for name, found in means.items()}
    return {
        "dice": mean_of(found.dice for found in means.values()),
        "iou": mean_of(found.iou for found in means.values()),
        "cases": cases,
    }


def summarize(row: Row) -> str:
    sizes = ", ".join(
        f"depth {size['depth']} width {size['width']}: {size['dice'] or 0:.4f} in {size['torch_ms']:.1f} ms"
        for size in row["sizes"]
    )
    steps = " + ".join(str(phase["steps"]) for phase in row["phases"])
    return f"{row['data']}, {row['member']}, seed {row['seed']}: {steps} steps; {sizes}"


if __name__ == "__main__":
    main()
