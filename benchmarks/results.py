"""Results table of docs/benchmarks.md from finished runs, with the paired difference between topologies.

python benchmarks/results.py [RUN ...] [--kept benchmarks/results.json]

The scores of cases and the depth table of each run are added to the file --kept, where they replace an earlier run of
the same data, network and seed; the table shows all runs in that file. Runs that differ only in the seed are averaged:
scores of each depth over seeds, and for the deepest head the 95 % bootstrap interval over cases of each case's mean
over seeds. For a data set with runs of a U-Net and of a UNet++, the difference of each case is bootstrapped too.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

from unetpp.metrics.scores import bootstrap_interval
from unetpp.plan import read_plan

KEPT = Path(__file__).parent / "results.json"
COLUMNS = ("dice", "iou", "latency_ms", "peak_memory_mb", "parameters")
HEADINGS = ("data", "network", "seeds", "steps", "depth", "Dice", "IoU", "ms for a tile", "MB", "parameters")
Record = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--kept", type=Path, default=KEPT)
    options = parser.parse_args()
    found = json.loads(options.kept.read_text()) if options.kept.exists() else []
    kept = {make_key(record): record for record in [*found, *map(read_run, options.runs)]}
    records = sorted(
        kept.values(),
        key=lambda record: (record["data"], record["network"] != "unet++", record["widths"], record["seed"]),
    )
    options.kept.write_text("[\n" + ",\n".join(json.dumps(record) for record in records) + "\n]\n")
    groups: defaultdict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        groups[record["data"], make_title(record)].append(record)
    print("| " + " | ".join(HEADINGS) + " |\n" + "|---" * len(HEADINGS) + "|")
    for group in groups.values():
        print("\n".join(format_rows(group)))
    for data in dict.fromkeys(data for data, _ in groups):
        first, *others = [group for (other, _), group in groups.items() if other == data]
        for other in others:
            print(compare_topologies(first, other))


def read_run(run: Path) -> Record:
    """Read the scores and the depth table of a run."""
    plan, metrics = read_plan(run / "plan.json"), json.loads((run / "fold_0" / "metrics.json").read_text())
    steps = [json.loads(line) for line in (run / "fold_0" / "log.jsonl").read_text().splitlines()][-1]["step"]
    return {
        "data": plan.name,
        "network": plan.model.topology,
        "widths": f"{plan.model.widths[0]}..{plan.model.widths[-1]}",
        "seed": plan.train.seed,
        "minutes": plan.train.minutes,
        "steps": steps,
        "depths": {depth: {key: row[key] for key in COLUMNS} for depth, row in metrics["depths"].items()},
        "cases": {
            case["id"]: round(case["mean"]["dice"], 5) for case in metrics["cases"] if case["mean"]["dice"] is not None
        },
    }


def make_key(record: Record) -> tuple[Any, ...]:
    return tuple(record[key] for key in ("data", "network", "widths", "seed", "minutes"))


def make_title(record: Record) -> str:
    return f"{record['network']} {record['widths']}"


def format_rows(group: list[Record]) -> list[str]:
    first, lines = group[0], []
    depths = sorted(first["depths"], key=int)
    for depth in depths:
        values = {key: mean(record["depths"][depth][key] for record in group) for key in COLUMNS}
        dice = f"{values['dice']:.3f}"
        if depth == depths[-1]:
            low, high = bootstrap_interval(list(average_dice(group).values())) or (float("nan"),) * 2
            by_seed = ", ".join(f"{record['depths'][depth]['dice']:.3f}" for record in group)
            dice = f"**{dice}** [{low:.3f}, {high:.3f}]" + (f", by seed {by_seed}" if len(group) > 1 else "")
        seeds, steps = (
            ", ".join(str(record["seed"]) for record in group),
            f"{mean(record['steps'] for record in group):.0f}",
        )
        head = (
            f"{first['data']}, {len(first['cases'])} cases | {make_title(first)} | {seeds} | {steps}"
            if depth == depths[0]
            else " | | | "
        )
        costs = f"{values['latency_ms']:.1f} | {values['peak_memory_mb']:.0f} | {values['parameters']:,.0f}"
        lines.append(f"| {head} | {depth} | {dice} | {values['iou']:.3f} | {costs} |")
    return lines


def average_dice(group: list[Record]) -> dict[str, float]:
    """Average the Dice of each case over seeds."""
    return {
        case: mean(record["cases"][case] for record in group if case in record["cases"]) for case in group[0]["cases"]
    }


def compare_topologies(first: list[Record], second: list[Record]) -> str:
    """Compare case by case, over the seeds that both have."""
    common = sorted({record["seed"] for record in first} & {record["seed"] for record in second})
    mine, theirs = (average_dice([record for record in group if record["seed"] in common]) for group in (first, second))
    differences = [mine[case] - theirs[case] for case in mine if case in theirs]
    low, high = bootstrap_interval(differences) or (float("nan"),) * 2
    seeds = ", ".join(map(str, common))
    pair = f"{make_title(first[0])} minus {make_title(second[0])}"
    interval = f"{mean(differences):+.4f} [{low:+.4f}, {high:+.4f}]"
    return f"\n{first[0]['data']}: {pair}: {interval} over {len(differences)} cases, seeds {seeds} of both"


if __name__ == "__main__":
    main()
