"""Share of a training's time in which the network waits for data, and what data costs the network by sharing its processor.

python benchmarks/data_wait.py DATA [--steps 30]

Trains the plan that `unetpp plan DATA` would make, once with real batches and once with one batch repeated, alternating.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from unetpp.data.patches import PatchSampler
from unetpp.data.store import store_cases
from unetpp.model.build import from_plan
from unetpp.plan import Plan
from unetpp.planning.planner import make_plan
from unetpp.progress import Silence
from unetpp.train.augment import Augmentation
from unetpp.train.batches import Batch, BatchMaker, Prefetcher
from unetpp.train.speed import HALFWAY
from unetpp.train.step import TrainingStep
from unetpp.verbs.preparation import read_source


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=30)
    arguments = parser.parse_args()
    source = read_source(arguments.data, Silence())
    plan = make_plan(source.fingerprint, minutes=20)
    with tempfile.TemporaryDirectory() as folder:
        cases = store_cases(source.dataset.cases, plan.data, Path(folder))
        train = plan.train
        sampler = PatchSampler(cases, train.patch, train.batch, train.foreground_fraction, train.seed)
        make = BatchMaker(sampler, Augmentation(train.augment, train.patch, plan.data.voxel_mm))
        started = time.perf_counter()
        for step in range(5):
            make(step)
        print(f"one batch alone: {(time.perf_counter() - started) / 5 * 1000:.0f} ms")
        compare(plan, make, arguments.steps)


def compare(plan: Plan, make: BatchMaker, steps: int) -> None:
    torch.manual_seed(0)
    step = TrainingStep(from_plan(plan.model), plan.model, plan.train, torch.device("cpu"))
    step(make(0), 0, HALFWAY)
    prefetcher = Prefetcher(make)
    real = prefetcher.iterate(0)
    same = make(0)
    seconds: dict[str, list[float]] = {"real batches": [], "one batch repeated": []}
    waited = 0.0
    for _ in range(steps):
        before = prefetcher.waited_s
        seconds["real batches"].append(timed(step, real))
        waited += prefetcher.waited_s - before
    real.close()
    for _ in range(steps):
        seconds["one batch repeated"].append(timed(step, iter([same])))
    for name, values in seconds.items():
        print(f"{name}: median {statistics.median(values):.3f} s for a step")
    print(f"share of the time waiting for data: {waited / sum(seconds['real batches']):.2%}")


def timed(step: TrainingStep, batches: Iterator[Batch]) -> float:
    started = time.perf_counter()
    step(next(batches), 0, HALFWAY)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
