"""Trainings in a given time of steps, and their scores: what benchmarks that compare trainings share."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from unetpp.data.folds import read_splits
from unetpp.data.patches import PatchSampler
from unetpp.data.store import StoredCase, store_cases
from unetpp.infer.sliding import predict_tiles
from unetpp.labels import find_ignored_index
from unetpp.layouts.cases import find_cases
from unetpp.measure.stored_cases import StoredImage
from unetpp.measure.validation import VALIDATION_OVERLAP
from unetpp.metrics.scores import CaseScore, score_case
from unetpp.plan import ModelPlan, Plan, read_plan
from unetpp.train.augment import Augmentation
from unetpp.train.batches import BatchMaker, prefetch
from unetpp.train.step import TrainingStep


class Fold(NamedTuple):
    """Plan and cases of fold 0."""

    plan: Plan
    training: list[StoredCase]
    validation: list[StoredCase]


def read_fold(data: Path, folder: Path, cache: Path) -> Fold:
    """Read the plan and the splits in `folder`, and prepare the cases of fold 0."""
    plan, split = read_plan(folder / "plan.json"), read_splits(folder / "splits.json")[0]
    cases = {case.id: case for case in store_cases(find_cases(data).cases, plan.data, cache)}
    return Fold(plan, [cases[i] for i in split.train], [cases[i] for i in split.validation])


@dataclass(frozen=True)
class Phase:
    """Part of a training in which one network is trained."""

    end: float
    """Fraction of the time at which the phase ends, 0 to 1."""
    model: ModelPlan
    make: Callable[[Any], nn.Module]
    """Makes the network, given that of the phase before: None in the first phase."""


class Trained(NamedTuple):
    network: nn.Module
    """Moving average of the weights, in evaluation mode."""
    steps: list[int]
    """Number of steps of each phase."""


def choose_clock(device: torch.device) -> Callable[[], float]:
    """Choose what counts as time: of one thread that of the processor, which other work hardly changes."""
    return time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter


def train_phases(fold: Fold, phases: Sequence[Phase], seconds: float, device: torch.device) -> Trained:
    """Train for so many seconds of steps with the trainer's batches and step, one schedule over all phases.

    Every phase begins a new optimizer and a new moving average, and makes at least one step.
    """
    plan, ignored, clock = fold.plan.train, find_ignored_index(fold.plan.data), choose_clock(device)
    sampler = PatchSampler(fold.training, plan.patch, plan.batch, plan.foreground_fraction, plan.seed)
    make = BatchMaker(sampler, Augmentation(plan.augment, plan.patch, fold.plan.data.voxel_mm), device)
    torch.manual_seed(plan.seed)
    network, spent, counts = None, 0.0, []
    with contextlib.closing(prefetch(make).iterate(0)) as batches:
        for phase in phases:
            network = phase.make(network)
            step, count, started = (
                TrainingStep(network, phase.model, plan, device, ignored=ignored),
                0,
                clock(),
            )
            while (fraction := (spent + clock() - started) / seconds) < phase.end or not count:
                step(next(batches), count, min(1.0, fraction))
                count += 1
            spent += clock() - started
            counts.append(count)
    return Trained(step.average, counts)


def score_sizes(network: Any, fold: Fold, device: torch.device) -> dict[int, list[CaseScore]]:
    """Score the validation cases at every head of a network, with the tiles of validations during training."""
    overlap = min(fold.plan.predict.overlap, VALIDATION_OVERLAP)
    options, classes = fold.plan.predict.model_copy(update={"overlap": overlap}), fold.plan.data.num_classes
    scores: dict[int, list[CaseScore]] = {number: [] for number in network.head_depths}
    for case in fold.validation:
        found, label = (
            predict_tiles([network], StoredImage(case.image()), options, network.head_depths, device),
            case.label(),
        )
        for number, segmentation in found.items():
            scores[number].append(score_case(case.id, segmentation, label, classes, surface_metrics=False))
    return scores


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Read lines of JSON; one that a killed process left incomplete is skipped."""
    for line in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(json.JSONDecodeError):
            yield json.loads(line)


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Append a line of JSON, also behind an incomplete one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torn = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    with path.open("a") as file:
        file.write("\n" * torn + json.dumps(row) + "\n")
