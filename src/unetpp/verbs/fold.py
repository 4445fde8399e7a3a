"""One fold of a run: train, then measure every depth of the best weights on all validation cases."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import torch

from unetpp.data.dataset import Case, Dataset
from unetpp.data.folds import Split
from unetpp.data.store import StoredCase, store_cases
from unetpp.deploy.prune import choose_depth
from unetpp.errors import UsageError
from unetpp.files import write_json
from unetpp.infer.prediction import MEAN
from unetpp.infer.predictor import load_predictor
from unetpp.measure.depth_table import measure_depths
from unetpp.measure.quality import evaluate_cases
from unetpp.measure.validation import DepthValidation, chosen_evenly, count_tiles
from unetpp.measured import DepthRow, DepthTable, Metrics, Notes, Recommendation, Scores, Training
from unetpp.metrics.scores import dice_lost
from unetpp.model.build import from_plan
from unetpp.model.file import load_model, save_model
from unetpp.model.header import read_header
from unetpp.plan import Plan
from unetpp.progress import Progress, Stage
from unetpp.report import write_views
from unetpp.results import TrainedFold
from unetpp.run_folder import CHECKPOINT, METRICS_FILE, MODEL, RunFolder
from unetpp.train.checkpoint import read_progress
from unetpp.train.trainer import FoldTraining, Status
from unetpp.version import __version__

SHARE_FOR_TRAINING = 0.6
"""At least this much of the time is for training, however long measuring will take."""
SHARE_FOR_VALIDATION = 0.15
"""At most this much of the time is for validations during training."""
VIEWS = 3
"""Cases that are predicted once more for the pictures of the report."""
SECONDS_PER_DEPTH = 4.0
"""To measure the costs of one depth in processes of their own."""
SECONDS_FOR_REPORT = 8.0
RECOMMENDED_LOSS = 0.5
"""Points (hundredths) of Dice that the recommended depth may lose against the deepest, by the upper end of the interval over cases."""
SURFACE_FACTOR = 2.0
"""Scoring a case with distances between surfaces takes this many times as long as predicting it."""


class Clock:
    """How much of the user's time is left."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    def share(self, minutes: float | None, number: int, parts: int) -> float | None:
        """Seconds for part `number` of `parts`, where each part has so many minutes and earlier ones may have taken more; None without a limit.

        No part has less than half of its minutes, even if all of them together take longer: a network that was hardly trained is worse than none.
        """
        if minutes is None:
            return None
        left = (60 * minutes * parts - self.seconds()) / (parts - number)
        return min(60 * minutes, max(30 * minutes, left))


def train_and_measure(
    dataset: Dataset,
    plan: Plan,
    split: Split,
    run: RunFolder,
    fold: int,
    device: torch.device,
    allowance_s: float | None,
    resume: bool,
    progress: Progress,
) -> TrainedFold:
    """Train one fold, or go on with it, and write its model, metrics and log.

    Args:
        allowance_s: seconds for all of this; None: as long as the plan's epochs take.
        resume: go on from `last.ckpt` where there is one; a fold that is finished and measured is left alone.

    Raises:
        UsageError: a fold that is trained, not measured, and has lost its checkpoint.
    """
    clock = Clock()
    if resume and (done := measured_before(run, fold)):
        return done
    begun = read_progress(run.fold(fold) / CHECKPOINT) if resume else None
    cases = {case.id: case for case in dataset.cases}
    everyone = store_cases(
        [cases[i] for i in (*split.train, *split.validation)],
        plan.data,
        run.cache,
        progress.stage(f"Fold {fold}: preparing cases"),
    )
    stored = {case.id: case for case in everyone}
    validation = DepthValidation(
        [stored[i] for i in chosen_evenly(split.validation, plan.train.validation_cases)], plan, device
    )
    budget_s = None
    if begun and begun.validation_cases:
        validation.keep(begun.validation_cases)
    elif allowance_s is not None and not begun:
        budget_s = training_seconds(clock, allowance_s, validation, [stored[i] for i in split.validation])
    training = FoldTraining(
        plan,
        [stored[i] for i in split.train],
        run.fold(fold),
        device=device,
        validate=validation,
        budget_s=budget_s,
        validation_cases=len(validation.cases),
        show=shown_on(progress.stage(f"Fold {fold}: training")),
    )
    result = training.run(resume)
    metrics = measure(run, fold, [cases[i] for i in split.validation], plan, result, device, progress)
    return _trained(fold, result, metrics)


def measured_before(run: RunFolder, fold: int) -> TrainedFold | None:
    """What an earlier command made of a fold, where it finished it."""
    folder, metrics = run.fold(fold), run.metrics(fold)
    if not (folder / MODEL).exists():
        return None
    training = read_header(folder / MODEL).notes.training if metrics else None
    if metrics is None or training is None:
        if (folder / CHECKPOINT).exists():
            return None
        got, action = (
            f"a model without {CHECKPOINT} and metrics.json",
            "Restore it, or delete the folder to train anew.",
        )
        raise UsageError(folder, got, "the checkpoint to resume from", action)
    return _trained(fold, training, metrics)


def _trained(fold: int, training: Training, metrics: Metrics) -> TrainedFold:
    return TrainedFold(fold, training.reason, training.steps, training.seconds, training.data_wait, metrics)


def training_seconds(
    clock: Clock, allowance_s: float, validation: DepthValidation, cases: Sequence[StoredCase]
) -> float:
    """What is left for training when the last validation, the final measurement and the report have got their time.

    Shortens the validation where it would take more than its share.
    """
    plan = validation.plan
    network = from_plan(plan.model).to(validation.device).eval()
    per_tile = validation.seconds_per_tile(network)
    left = allowance_s - clock.seconds()
    validation.shorten(SHARE_FOR_VALIDATION * left / plan.train.validations / per_tile)
    final = count_tiles(cases, plan.predict)
    views = VIEWS * final / len(cases)
    tiles = validation.tiles(validation.cases) + (1 + SURFACE_FACTOR) * final + views
    reserve = per_tile * tiles + SECONDS_PER_DEPTH * len(network.head_depths) + SECONDS_FOR_REPORT
    return max(left - reserve, SHARE_FOR_TRAINING * left, 1.0)


def measure(
    run: RunFolder,
    fold: int,
    cases: Sequence[Case],
    plan: Plan,
    result: Training,
    device: torch.device,
    progress: Progress,
) -> Metrics:
    """Score the best weights at every depth, measure the costs, write metrics.json and the notes of the model file."""
    model = run.fold(fold) / MODEL
    predictor = load_predictor(
        model, device=str(device), backend="torch"
    )  # what is measured does not depend on what else is installed
    quality = evaluate_cases(predictor, cases, mean=True, progress=progress.stage(f"Fold {fold}: scoring every depth"))
    write_views(predictor, cases, quality[max(quality)], run.fold(fold) / "views")
    rows = {depth: quality_row(scores, quality[max(quality)]) for depth, scores in sorted(quality.items())}
    mean_of_heads = rows.pop(MEAN, None)
    costs = costs_of_other_folds(run, fold) or measure_depths(
        model, batch=1, device=str(device), progress=progress.stage(f"Fold {fold}: measuring every depth")
    )
    table = DepthTable(depths=rows, mean_of_heads=mean_of_heads).with_costs(costs)
    chosen = quality[plan.predict.depth]
    network, _ = load_model(model)
    notes = Notes(
        unetpp=__version__,
        fold=fold,
        seed=plan.train.seed,
        training=result,
        mean=chosen.mean,
        distance_unit=chosen.distance_unit,
    ).merge(table)
    save_model(model, network.state_dict(), plan, notes)
    metrics = chosen.merge(table).merge(Metrics(recommended=recommended_depth(table.depths)))
    write_json(run.fold(fold) / METRICS_FILE, metrics.to_dict())  # last: where it is, the fold is done
    return metrics


def quality_row(scores: Metrics, deepest: Metrics) -> DepthRow:
    """Of the depth table: the mean scores, what is lost against the deepest head, and the Dice of each class where there are several."""
    lost, interval = dice_lost(scores, deepest)
    row = DepthRow(dice_lost=lost, dice_lost_interval=interval).merge(scores.mean)
    if len(scores.classes) == 1:
        return row
    classes = {
        name: Scores(dice=found.dice, dice_interval=found.dice_interval) for name, found in scores.classes.items()
    }
    return row.merge(DepthRow(classes=classes))


def recommended_depth(rows: Mapping[int, DepthRow]) -> Recommendation | None:
    """The smallest depth that loses little, and in words what it loses and saves; None where there is no choice or no score."""
    if len(rows) < 2 or any(row.dice is None or row.latency_ms is None for row in rows.values()):
        return None
    depth, reason = choose_depth(rows, RECOMMENDED_LOSS)
    share = (rows[depth].latency_ms or 0.0) / (rows[max(rows)].latency_ms or 1.0)
    return Recommendation(depth=depth, reason=f"{reason}; it takes {share:.0%} of the time of depth {max(rows)}")


def costs_of_other_folds(run: RunFolder, fold: int) -> DepthTable | None:
    """What another fold of the run has measured: the networks are the same, only their weights differ."""
    for other in run.started_folds():
        found = run.metrics(other) if other != fold else None
        if found and found.conditions:
            depths = {depth: row.costs() for depth, row in found.depths.items()}
            mean = found.mean_of_heads and found.mean_of_heads.costs()
            return DepthTable(depths=depths, mean_of_heads=mean, conditions=found.conditions, machine=found.machine)
    return None


def shown_on(stage: Stage) -> Callable[[Status], None]:
    """What shows the status of a training on a stage of the progress display."""

    def show(status: Status) -> None:
        total = round(status.step / status.fraction) if status.fraction > 0 else 0
        parts = [f"loss {status.loss:.3f}", f"{status.images_per_second:.1f} images/s"]
        parts += [f"Dice {status.best_dice:.4f}"] if status.best_dice is not None else []
        parts += [f"{_clock_time(status.seconds_left)} left"] if status.seconds_left is not None else []
        stage(
            status.step, max(total, status.step), "validating" if status.activity == "validating" else ", ".join(parts)
        )

    return show


def _clock_time(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
