"""Comparison of settings in equal training time: the same cases, the same minutes of steps, several seeds, alternating.

python benchmarks/equal_time.py DATA --out FOLDER --minutes 4 --seeds 0 1 2 \
    --variant plain model.block=plain --variant projected model.block=projected \
    --variant grown model.shells=[8,16] train.growth=[0.5]

Only steps are timed: planning and scoring are the same for all. Every variant starts from the plan for
`--plan-minutes`. The final weights are scored on the validation cases of fold 0, at every depth, with shells at every
size. Each training appends a line to FOLDER/results.jsonl; trainings found there are skipped.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from timed_training import append_row, read_fold, read_rows

from unetpp import plan as make_plan
from unetpp.measure.validation import DepthValidation
from unetpp.metrics.scores import Validation
from unetpp.plan import Plan
from unetpp.train.trainer import FoldTraining


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=4, help="of steps, for each training")
    parser.add_argument("--plan-minutes", type=float, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--variant",
        nargs="+",
        action="append",
        required=True,
        metavar="NAME SETTING",
        help="a name, then section.key=value ...",
    )
    arguments = parser.parse_args()
    results = arguments.out / "results.jsonl"
    done = {(row["variant"], row["seed"]) for row in read_rows(results)}
    for seed in arguments.seeds:
        for name, *settings in arguments.variant:
            if (name, seed) not in done:
                row = train(
                    arguments.data,
                    arguments.out,
                    dict(text.split("=", 1) for text in settings),
                    seed,
                    arguments.minutes,
                    arguments.plan_minutes,
                )
                append_row(results, {"variant": name, "settings": settings, "seed": seed, **row})
                print(name, seed, row, flush=True)
    print(make_table(list(read_rows(results))))


def train(
    data: Path, out: Path, settings: dict[str, str], seed: int, minutes: float, plan_minutes: float
) -> dict[str, Any]:
    folder = out / ("_".join(f"{key}-{value}" for key, value in settings.items()).replace("/", "-")[:100] or "plain")
    make_plan(data, folder, minutes=plan_minutes, set=settings)
    planned, training_cases, validation_cases = read_fold(data, folder, out / "cache")
    plan = planned.changed({"train.seed": seed, "train.validations": 1, "train.checkpoint_minutes": 1000})
    validation = DepthValidation(validation_cases, plan, torch.device("cpu"))
    training = FoldTraining(
        plan,
        training_cases,
        folder / f"seed_{seed}",
        device=torch.device("cpu"),
        validate=lambda network: skip_scoring(plan),
        budget_s=60 * minutes,
    )
    steps = training.run().steps
    return {
        "steps": steps,
        "dice": {str(depth): round(dice, 4) for depth, dice in validation(training.step.average).depths.items()},
    }


def skip_scoring(plan: Plan) -> Validation:
    """Stand in for the trainer's validation, which takes no time here."""
    return Validation({plan.predict.depth: 0.0})


def make_table(found: list[dict[str, Any]]) -> str:
    lines = [
        "| variant | seeds | steps | Dice at each depth, mean and standard deviation over seeds |",
        "|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["variant"] for row in found):
        mine = [row for row in found if row["variant"] == name]
        scores = [[row["dice"][depth] for row in mine] for depth in mine[0]["dice"]]
        text = " / ".join(
            f"{mean(values):.4f}" + (f" ± {stdev(values):.4f}" if len(values) > 1 else "") for values in scores
        )
        lines.append(f"| {name} | {len(mine)} | {mean(row['steps'] for row in mine):.0f} | {text} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
