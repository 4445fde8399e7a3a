"""Time for which the network waits for data in training, and the slowdown from sharing the processor with the data.

python benchmarks/data_wait.py DATA [--steps 30]

Train the plan that `unetpp plan DATA` makes, with all default variations: with real batches and then with one batch
repeated. Before that, the time of one core for a batch: read and varied, as for a CPU, and only read, as for a GPU,
which varies patches itself. `--steps 0` measures no more.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from unetpp import plan as make_plan
from unetpp.data.patches import PatchSampler
from unetpp.data.store import store_cases
from unetpp.layouts.cases import find_cases
from unetpp.model.build import build_from_plan
from unetpp.plan import AugmentPlan, Plan, read_plan
from unetpp.train.augment import Augmentation
from unetpp.train.batches import Batch, BatchMaker, prefetch
from unetpp.train.speed import HALFWAY
from unetpp.train.step import TrainingStep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--steps", type=int, default=30)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_plan(arguments.data, folder, minutes=20)
        plan = read_plan(folder / "plan.json")
        cases = store_cases(find_cases(arguments.data).cases, plan.data, folder / "cache")
        train = plan.train
        sampler = PatchSampler(cases, train.patch, train.batch, train.foreground_fraction, train.seed)
        # a plan of few passes over the data varies little: what takes longest is measured
        varied = AugmentPlan(mirror=train.augment.mirror, quarter_turns=train.augment.quarter_turns)
        make = BatchMaker(sampler, Augmentation(varied, train.patch, plan.data.voxel_mm))
        for name, work in (("read and varied", make), ("read", make.read)):
            seconds = measure_core_seconds(work)
            rate = train.batch / seconds
            print(
                f"{train.batch} patches {train.patch} {name}: {seconds * 1000:.1f} ms of one core, {rate:.0f} patches/s"
            )
        if arguments.steps:
            compare_batches(plan, make, arguments.steps)


def measure_core_seconds(work: Callable[[int], object], batches: int = 20) -> float:
    """Measure the mean time of all cores together for a batch: it counts nothing that other programs do."""
    work(0)
    started = time.process_time()
    for step in range(1, batches + 1):
        work(step)
    return (time.process_time() - started) / batches


def compare_batches(plan: Plan, make: BatchMaker, steps: int) -> None:
    torch.manual_seed(0)
    step = TrainingStep(build_from_plan(plan.model), plan.model, plan.train, torch.device("cpu"))
    step(make(0), 0, HALFWAY)
    prefetcher = prefetch(make)
    real = prefetcher.iterate(0)
    same = make(0)
    seconds: dict[str, list[float]] = {"real batches": [], "one batch repeated": []}
    waited = 0.0
    for _ in range(steps):
        before = prefetcher.waited_s
        seconds["real batches"].append(time_step(step, real))
        waited += prefetcher.waited_s - before
    real.close()
    for _ in range(steps):
        seconds["one batch repeated"].append(time_step(step, iter([same])))
    for name, values in seconds.items():
        print(f"{name}: median {statistics.median(values):.3f} s per step")
    print(f"fraction of the time spent waiting for data: {waited / sum(seconds['real batches']):.2%}")


def time_step(step: TrainingStep, batches: Iterator[Batch]) -> float:
    started = time.perf_counter()
    step(next(batches), 0, HALFWAY)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
