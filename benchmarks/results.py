"""The results table of the README from finished runs, and the paired difference between topologies.

python benchmarks/results.py RUN [RUN ...]

Runs of one data set and one topology that differ in their seed are averaged: scores of each depth over seeds, and for the deepest head the 95 % bootstrap
interval over cases of each case's mean over seeds. Where a data set has runs of a U-Net and of a UNet++, the difference of each case is bootstrapped too.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

from unetpp.metrics.scores import bootstrap_interval
from unetpp.plan import Plan, read_plan

Group = dict[int, dict[str, Any]]
"""Metrics by seed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    groups: defaultdict[tuple[str, str], Group] = defaultdict(dict)
    for run in parser.parse_args().runs:
        plan = read_plan(run / "plan.json")
        groups[plan.name, title(plan)][plan.train.seed] = json.loads((run / "fold_0" / "metrics.json").read_text())
    print("| data | network | seeds | depth | Dice | IoU | ms for a tile | MB | parameters |\n|---|---|---|---|---|---|---|---|---|")
    for (name, network), seeds in groups.items():
        for line in rows(name, network, seeds):
            print(line)
    for name in dict.fromkeys(name for name, _ in groups):
        networks = [network for other, network in groups if other == name]
        for network in networks[1:]:
            print(difference(name, networks[0], network, groups[name, networks[0]], groups[name, network]))


def title(plan: Plan) -> str:
    return f"{plan.model.topology} {plan.model.widths[0]}..{plan.model.widths[-1]}"


def rows(name: str, network: str, seeds: Group) -> list[str]:
    found = list(seeds.values())
    depths = sorted(found[0]["depths"], key=int)
    lines = []
    for depth in depths:
        values = {key: mean(metrics["depths"][depth][key] for metrics in found) for key in ("dice", "iou", "latency_ms", "peak_memory_mb", "parameters")}
        dice = f"{values['dice']:.4f}"
        if depth == depths[-1]:
            low, high = bootstrap_interval(list(case_dice(seeds).values())) or (float("nan"),) * 2
            by_seed = ", ".join(f"{metrics['depths'][depth]['dice']:.4f}" for metrics in found)
            dice = f"**{dice}** [{low:.3f}, {high:.3f}]" + (f", by seed {by_seed}" if len(found) > 1 else "")
        first = f"{name}, {len(found[0]['cases'])} cases | {network} | {', '.join(map(str, sorted(seeds)))}" if depth == depths[0] else " | | "
        lines.append(f"| {first} | {depth} | {dice} | {values['iou']:.4f} | {values['latency_ms']:.1f} | {values['peak_memory_mb']:.0f} | {values['parameters']:,.0f} |")
    return lines


def case_dice(seeds: Group) -> dict[str, float]:
    """Of each case, the mean over seeds of the mean over its classes."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for metrics in seeds.values():
        for case in metrics["cases"]:
            if case["mean"]["dice"] is not None:
                found[case["id"]].append(case["mean"]["dice"])
    return {case: mean(values) for case, values in found.items()}


def difference(name: str, first: str, second: str, seeds: Group, others: Group) -> str:
    mine, theirs = case_dice(seeds), case_dice(others)
    apart = [mine[case] - theirs[case] for case in mine if case in theirs]
    low, high = bootstrap_interval(apart) or (float("nan"),) * 2
    return f"\n{name}: {first} less {second}: {mean(apart):+.4f} [{low:+.4f}, {high:+.4f}] over {len(apart)} cases, {len(seeds)} and {len(others)} seeds"


if __name__ == "__main__":
    main()
