"""Agreement between the planner's step time and the time of the trainer's steps, on three plans.

python benchmarks/step_agreement.py [--rounds 5] [--steps 15]

Each round times a step as the planner does, then trains on generated data for some steps with real batches, made in
another thread. Results are medians over the rounds; the first step of a training, which warms up, is excluded from
both.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unetpp.data.demo import write_demo_data
from unetpp.data.store import StoredCase, store_cases
from unetpp.metrics.scores import Validation
from unetpp.plan import Plan
from unetpp.planning.planner import make_plan
from unetpp.progress import Silence
from unetpp.runtime.device import keep_freed_memory
from unetpp.train.batches import Batch
from unetpp.train.speed import measure_step_seconds
from unetpp.train.trainer import FoldTraining
from unetpp.verbs.preparation import read_data

CPU = torch.device("cpu")
PLANS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "2D, UNet++ 16..256": (
        (256, 256),
        {"model.widths": [16, 32, 64, 128, 256], "train.patch": [256, 256], "train.batch": 2},
    ),
    "3D, UNet++ 16..128": (
        (32, 64, 64),
        {"model.widths": [16, 32, 64, 128], "train.patch": [16, 48, 48], "train.batch": 2},
    ),
    "2D, U-Net 32..512": (
        (256, 256),
        {
            "model.widths": [32, 64, 128, 256, 512],
            "model.topology": "unet",
            "train.patch": [192, 192],
            "train.batch": 2,
        },
    ),
}
"""Shape of the images and settings, by name."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=15)
    options = parser.parse_args()
    keep_freed_memory()  # as `unetpp train` does
    print("| plan | planner, s | trainer, s | planner / trainer |\n|---|---|---|---|")
    for name, (shape, settings) in PLANS.items():
        with tempfile.TemporaryDirectory() as folder:
            measured, trained = compare_times(Path(folder), shape, settings, options.rounds, options.steps)
        print(f"| {name} | {measured:.3f} | {trained:.3f} | {measured / trained:.2f} |", flush=True)


def compare_times(
    folder: Path, shape: tuple[int, ...], settings: dict[str, Any], rounds: int, steps: int
) -> tuple[float, float]:
    """Return the seconds of a step by the planner and in training."""
    data = write_demo_data(folder / "data", len(shape), cases=6, shape=shape)
    dataset, fingerprint, _ = read_data(data, {}, Silence())
    length = {"train.steps_per_epoch": steps + 1, "train.validations": 1, "train.checkpoint_minutes": 1000}
    plan = make_plan(fingerprint, epochs=1, settings=settings | length, step_seconds=lambda *_: 1.0)
    cases = store_cases(dataset.cases, plan.data, folder / "cache")
    measured, trained = [], []
    for number in range(rounds):
        measured.append(measure_step_seconds(plan.model, plan.train, CPU))
        trained.append(time_training(plan, cases, folder / f"fold_{number}"))
    return statistics.median(measured), statistics.median(trained)


def time_training(plan: Plan, cases: list[StoredCase], folder: Path) -> float:
    """Return the mean seconds of a step of a training, after the first."""
    training = FoldTraining(plan, cases, folder, device=CPU, validate=skip_scoring)
    marks: list[float] = []
    iterate = training.prefetcher.iterate

    def iterate_with_marks(step: int) -> Iterator[Batch]:
        for batch in iterate(step):
            marks.append(time.perf_counter())
            yield batch

    training.prefetcher.iterate = iterate_with_marks  # type: ignore[assignment, method-assign]
    training.run()
    return (marks[-1] - marks[1]) / (len(marks) - 2)


def skip_scoring(network: nn.Module) -> Validation:
    return Validation({1: 0.0})


if __name__ == "__main__":
    main()
