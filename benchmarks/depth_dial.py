"""Quality and costs of every depth, and of early exit (a depth for each tile), for trained runs.

python benchmarks/depth_dial.py --out FILE.json DATA RUN [DATA RUN ...]

Scores and costs are measured again on the validation cases of fold 0, as at the end of `unetpp train`. Rules for
`--depth auto` are fitted on one half of these cases and evaluated on the other, and vice versa, in tiles of the plan.
The models are not changed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unetpp.data.folds import read_splits
from unetpp.data.store import StoredCase
from unetpp.deploy.adapt import fit_rules, score_cases
from unetpp.infer.early_exit import EarlyExit, choose_rule
from unetpp.infer.prediction import MEAN
from unetpp.infer.predictor import Predictor, load_predictor
from unetpp.layouts.cases import find_cases
from unetpp.measure.choose_depth import make_row, recommend_depth
from unetpp.measure.depth_table import measure_depths
from unetpp.measure.quality import evaluate_cases
from unetpp.measure.stored_cases import find_stored_split
from unetpp.measure.validation import count_tiles
from unetpp.measured import DepthTable
from unetpp.metrics.scores import bootstrap_interval, compute_dice_losses, mean_of
from unetpp.model_notes import Rule
from unetpp.run_folder import MODEL, RunFolder
from unetpp.runtime.runner import Runner

MAX_DROPS = (0.1, 0.3, 0.5, 1.0)
LARGE = 4
"""Smallest number of tiles of a large image."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", type=Path, metavar="DATA RUN")
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--backend",
        default="torch",
        choices=["torch", "openvino"],
        help="for --depth auto and the deepest head that it is compared with",
    )
    options = parser.parse_args()
    found = []
    for data, run in zip(options.pairs[::2], options.pairs[1::2], strict=True):
        found.append({"data": data.name, **measure_run(data, RunFolder(run), options.backend)})
        if options.out:
            options.out.write_text(json.dumps(found, indent=1))
        print(to_markdown(found[-1]), flush=True)


def measure_run(data: Path, run: RunFolder, backend: str) -> dict[str, Any]:
    model = run.fold(0) / MODEL
    predictor = load_predictor(model, "cpu", "torch")
    cases = {case.id: case for case in find_cases(data).cases}
    quality = evaluate_cases(predictor, [cases[i] for i in read_splits(run.splits)[0].validation], mean=True)
    costs = measure_depths(model, batch=1)
    rows = {depth: make_row(scores, quality[max(quality)]) for depth, scores in sorted(quality.items())}
    table = DepthTable(depths=rows, mean_of_heads=rows.pop(MEAN)).with_costs(costs)
    table = table.merge(DepthTable(recommended=recommend_depth(table)))
    _, held_out = find_stored_split(model, predictor.plan.data)
    adaptive = load_predictor(model, "cpu", backend)
    auto = evaluate_rules(adaptive, held_out)
    return {
        **table.to_dict(),
        "backend": backend,
        "auto": auto,
    }


def evaluate_rules(predictor: Predictor, cases: Sequence[StoredCase]) -> list[dict[str, Any]]:
    """Make a row for each tolerance, for all images and for the large ones; rules are fitted on the other half."""
    halves = cases[::2], cases[1::2]
    fitted = [fit_rules(predictor, half).rules for half in halves[::-1]]
    large = [[case for case in half if count_tiles([case], predictor.plan.predict) >= LARGE] for half in halves]
    groups = (
        [("all", halves), (f"{LARGE} tiles and more", large)]
        if 0 < sum(map(len, large)) < len(cases)
        else [("all", halves)]
    )
    return [
        {"images": name, "max_drop": max_drop, **evaluate_early_exit(predictor, fitted, group, max_drop)}
        for name, group in groups
        for max_drop in MAX_DROPS
    ]


def time_scores(predictor: Predictor, runner: Runner, cases: Sequence[StoredCase]) -> tuple[list[float | None], float]:
    """Score cases after a warm-up, and return the seconds that this took."""
    score_cases(predictor, runner, cases[:1])
    if isinstance(runner, EarlyExit):
        runner.images.clear()
    started = time.perf_counter()
    return score_cases(predictor, runner, cases), time.perf_counter() - started


def evaluate_early_exit(
    predictor: Predictor,
    fitted: Sequence[Sequence[Rule]],
    halves: Sequence[Sequence[StoredCase]],
    max_drop: float,
) -> dict[str, Any]:
    """Measure loss and time of the rule chosen for each half of the cases, against the deepest head."""
    before: list[float | None] = []
    after: list[float | None] = []
    seconds = full_seconds = 0.0
    tiles: Counter[int] = Counter()
    for rules, cases in zip(fitted, halves, strict=True):
        adaptive = EarlyExit(
            predictor.runners[0],
            predictor.depths,
            choose_rule(rules, max_drop, "the model", predictor.sizes).doubts,
            predictor.coding,
        )
        full, full_s = time_scores(predictor, predictor.runners[0], cases)
        dice, adaptive_s = time_scores(predictor, adaptive, cases)
        before, after = [*before, *full], [*after, *dice]
        seconds, full_seconds = seconds + adaptive_s, full_seconds + full_s
        tiles += adaptive.images
    lost = compute_dice_losses(before, after)
    shares = {str(depth): tiles[depth] / tiles.total() for depth in predictor.depths}
    return {
        "cases": len(lost),
        "dice_lost": mean_of(lost),
        "dice_lost_interval": bootstrap_interval(lost),
        "time": seconds / full_seconds,
        "tiles": shares,
    }


def to_markdown(found: Mapping[str, Any]) -> str:
    deepest = list(found["depths"].values())[-1]
    lines = [f"**{found['data']}** ({found['conditions']})", ""]
    lines += [
        "| depth | Dice | points lost | time for a tile | memory, MB | parameters | file, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for depth, row in [*found["depths"].items(), ("mean of all", found["mean_of_heads"])]:
        low, high = row["dice_interval"]
        lost = [100 * value for value in (row["dice_lost"], *row["dice_lost_interval"])]
        name = (
            f"**{depth}** (recommended)"
            if found["recommended"] and depth == str(found["recommended"]["depth"])
            else depth
        )
        times = f"{row['latency_ms']:.1f} ms, {row['latency_ms'] / deepest['latency_ms']:.0%}"
        cells = (
            f"{row['dice']:.3f} [{low:.3f}, {high:.3f}]",
            f"{lost[0]:.2f} [{lost[1]:.2f}, {lost[2]:.2f}]",
            times,
            f"{row['peak_memory_mb']:.0f}",
        )
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {row['parameters']:,} | {row['file_mb']:.1f} |")
    for row in found["auto"]:
        lost = [100 * value for value in (row["dice_lost"], *row["dice_lost_interval"])]
        shares = " / ".join(f"{share:.0%}" for share in row["tiles"].values())
        name = f"auto, `--max-drop {row['max_drop']:g}`, {row['images']} ({row['cases']})"
        points = f"{lost[0]:.2f} [{lost[1]:.2f}, {lost[2]:.2f}]"
        lines.append(f"| {name} | | {points} | {row['time']:.0%}; tiles at each depth {shares} | | | |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
