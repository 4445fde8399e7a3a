"""One fold of a run: train it, then measure every depth of the best weights on all validation cases."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import torch

from unetpp.data.folds import Split
from unetpp.data.store import StoredCase, store_cases
from unetpp.deploy.prune import choose_depth
from unetpp.errors import UsageError
from unetpp.files import write_json
from unetpp.infer.prediction import MEAN
from unetpp.infer.predictor import load_predictor
from unetpp.layouts.dataset import Case, Dataset
from unetpp.measure.depth_table import measure_depths
from unetpp.measure.quality import evaluate_cases
from unetpp.measure.validation import DepthValidation, choose_evenly, count_tiles
from unetpp.measured import DepthRow, DepthTable, Metrics, Notes, Recommendation, Scores, Training
from unetpp.metrics.scores import compare_dice
from unetpp.model.build import build_from_plan
from unetpp.model.file import load_model, save_model
from unetpp.model.header import read_header
from unetpp.plan import Plan
from unetpp.progress import Progress, Stage
from unetpp.report import write_views
from unetpp.results import TrainedFold
from unetpp.run_folder import CHECKPOINT, METRICS_FILE, MODEL, FoldName, RunFolder
from unetpp.train.checkpoint import read_training_state
from unetpp.train.trainer import Extension, FoldTraining, Status
from unetpp.verbs.request import Request
from unetpp.verbs.start import recall_start
from unetpp.version import __version__

SHARE_FOR_TRAINING = 0.6
"""Smallest fraction of the time for training, however long the measurement takes."""
SHARE_FOR_VALIDATION = 0.15
"""Largest fraction of the time for validations during training."""
VIEWS = 3
"""Number of cases that are predicted once more for the pictures of the report."""
SECONDS_PER_DEPTH = 4.0
"""Time to measure the costs of one depth, in processes of their own."""
SECONDS_FOR_REPORT = 8.0
"""Time to write the report."""
RECOMMENDED_LOSS = 0.5
"""Points (hundredths) of Dice that the recommended depth may lose against the deepest, by the upper end of the interval
over cases."""
SURFACE_FACTOR = 2.0
"""Time to score a case with distances between surfaces, as a multiple of the time to predict it."""


class Clock:
    """Time that is left to a command."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def seconds(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._started

    def share(self, minutes: float | None, number: int, parts: int) -> float | None:
        """Compute the time for one of several parts; earlier ones may have taken longer than planned.

        No part gets less than half of its minutes, even if all of them together take longer: a network that was hardly
        trained is worse than none.

        Args:
            minutes: time for each part; None: no limit.
            number: index of the part.
            parts: number of parts.

        Returns:
            Seconds; None without a limit.
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
    fold: FoldName,
    device: torch.device,
    allowance_s: float | None,
    resume: bool,
    progress: Progress,
    more: Request | None = None,
) -> TrainedFold:
    """Train or continue one fold, and write its model, metrics and log.

    Args:
        dataset: all cases.
        plan: plan of the run.
        split: cases of the fold.
        run: run folder.
        fold: number of the fold.
        device: where to train.
        allowance_s: seconds for training and measurement; None: as long as the epochs of the plan take.
        resume: continue from `last.ckpt` if there is one; a finished fold is left alone.
        progress: display.
        more: length by which a finished fold is trained longer, in `allowance_s`.

    Returns:
        How training went (seconds), and the metrics of metrics.json.

    Raises:
        UsageError: the fold is trained but not measured, and its checkpoint is lost.
    """
    clock = Clock()
    done = read_fold(run, fold) if resume else None
    if done and not more:
        return done
    begun = read_training_state(run.fold(fold) / CHECKPOINT) if resume else None
    if done and not begun:
        raise UsageError(
            run.fold(fold), f"a fold without {CHECKPOINT}", "the checkpoint to continue from", "Restore it."
        )
    if more and not done:
        progress.note(f"note: fold {fold} had not ended: it goes on to its end; repeat the command to add to it")
    cases = {case.id: case for case in dataset.cases}
    used = [cases[name] for name in (*split.train, *split.validation)]
    stored = store_cases(used, plan.data, run.cache, progress.stage(f"Fold {fold}: preparing cases"))
    training_cases, held_out = stored[: len(split.train)], stored[len(split.train) :]
    validation, budget_s = None, None
    if held_out:
        validation = DepthValidation(choose_evenly(held_out, plan.train.validation_cases), plan, device)
    if allowance_s is not None and (done or not begun):
        budget_s = training_seconds(clock, allowance_s, plan, validation, held_out)
    if validation and begun and begun.validation_cases:
        validation.keep(begun.validation_cases)
    training = FoldTraining(
        plan,
        training_cases,
        run.fold(fold),
        device=device,
        validate=validation,
        budget_s=budget_s,
        validation_cases=len(validation.cases) if validation else None,
        weights=None if begun else recall_start(run, plan),
        show=show_status(progress.stage(f"Fold {fold}: training")),
    )
    if done:
        run.metrics_file(fold).unlink()  # they are those of the weights so far
    result = training.run(resume, Extension(budget_s, more.epochs) if more and done else None)
    metrics = measure(run, fold, [cases[name] for name in split.validation], plan, result, device, progress)
    return _as_result(fold, result, metrics)


def read_fold(run: RunFolder, fold: FoldName) -> TrainedFold | None:
    """Read the result of a fold that an earlier command finished; None if it is not finished.

    Raises:
        UsageError: the fold is trained but not measured, and its checkpoint is lost.
    """
    folder, metrics = run.fold(fold), run.metrics(fold)
    if not (folder / MODEL).exists():
        return None
    training = read_header(folder / MODEL).notes.training if metrics else None
    if metrics and training:
        return _as_result(fold, training, metrics)
    if not (folder / CHECKPOINT).exists():
        got, action = f"a model without {CHECKPOINT} and {METRICS_FILE}", "Restore it, or delete the folder."
        raise UsageError(folder, got, "the checkpoint to resume from", action)
    return None


def _as_result(fold: FoldName, training: Training, metrics: Metrics) -> TrainedFold:
    return TrainedFold(fold, training.reason, training.steps, training.seconds, training.data_wait, metrics)


def training_seconds(
    clock: Clock, allowance_s: float, plan: Plan, validation: DepthValidation | None, cases: Sequence[StoredCase]
) -> float:
    """Compute the time left for training, after the last validation, the final measurement and the report.

    Shortens the validation if it would take more than its share.

    Args:
        clock: time since the fold started.
        allowance_s: seconds for all of the fold.
        plan: plan of the run.
        validation: validation during training, if any.
        cases: all validation cases.

    Returns:
        Seconds.
    """
    left = allowance_s - clock.seconds()
    if validation is None:
        return max(left - SECONDS_PER_DEPTH * plan.model.depth - SECONDS_FOR_REPORT, SHARE_FOR_TRAINING * left, 1.0)
    network = build_from_plan(plan.model).to(validation.device).eval()
    per_tile = validation.seconds_per_tile(network)
    left = allowance_s - clock.seconds()
    validation.shorten(SHARE_FOR_VALIDATION * left / plan.train.validations / per_tile)
    final = count_tiles(cases, plan.predict)
    views = VIEWS * final / len(cases)
    tiles = validation.count_tiles() + (1 + SURFACE_FACTOR) * final + views
    reserve = per_tile * tiles + SECONDS_PER_DEPTH * len(network.head_depths) + SECONDS_FOR_REPORT
    return max(left - reserve, SHARE_FOR_TRAINING * left, 1.0)


def measure(
    run: RunFolder,
    fold: FoldName,
    cases: Sequence[Case],
    plan: Plan,
    result: Training,
    device: torch.device,
    progress: Progress,
) -> Metrics:
    """Score the best weights at every depth, measure the costs, write metrics.json and the notes of the model file.

    Args:
        run: run folder.
        fold: number of the fold.
        cases: validation cases.
        plan: plan of the run.
        result: outcome of the training.
        device: where to predict.
        progress: display.

    Returns:
        The content of metrics.json.
    """
    model, where = run.fold(fold) / MODEL, str(device)
    predictor = load_predictor(model, device=where, backend="torch")  # scores do not depend on installed extras
    deepest = chosen = Metrics()
    quality = {}
    if cases:
        stage = progress.stage(f"Fold {fold}: scoring every depth")
        quality = evaluate_cases(predictor, cases, mean=True, progress=stage)
        deepest, chosen = quality[max(quality)], quality[plan.predict.depth]
        write_views(predictor, cases, deepest, run.fold(fold) / "views")
    rows = {depth: make_row(scores, deepest) for depth, scores in sorted(quality.items())}
    mean_of_heads = rows.pop(MEAN, None)
    costs = read_costs(run, fold) or measure_depths(
        model, batch=1, device=where, progress=progress.stage(f"Fold {fold}: measuring every depth")
    )
    table = DepthTable(depths=rows, mean_of_heads=mean_of_heads).with_costs(costs)
    notes = Notes(
        unetpp=__version__,
        fold=fold,
        seed=plan.train.seed,
        training=result,
        mean=chosen.mean,
        distance_unit=chosen.distance_unit,
    ).merge(table)
    save_model(model, load_model(model)[0].state_dict(), plan, notes)
    metrics = chosen.merge(table).merge(Metrics(recommended=recommend_depth(table.depths)))
    write_json(run.metrics_file(fold), metrics.to_dict())  # last: its presence marks the fold as finished
    return metrics


def make_row(scores: Metrics, deepest: Metrics) -> DepthRow:
    """Make a row of the depth table: mean scores, loss against the deepest head, Dice of each of several classes.

    Args:
        scores: scores at one depth.
        deepest: scores of the deepest head, on the same cases.
    """
    lost, interval = compare_dice(scores, deepest)
    row = DepthRow(dice_lost=lost, dice_lost_interval=interval).merge(scores.mean)
    if len(scores.classes) == 1:
        return row
    classes = {
        name: Scores(dice=found.dice, dice_interval=found.dice_interval) for name, found in scores.classes.items()
    }
    return row.merge(DepthRow(classes=classes))


def recommend_depth(rows: Mapping[int, DepthRow]) -> Recommendation | None:
    """Find the smallest depth that loses little, and state the time it saves; None without a choice or scores."""
    if len(rows) < 2 or any(row.dice is None or row.latency_ms is None for row in rows.values()):
        return None
    depth, reason = choose_depth(rows, RECOMMENDED_LOSS)
    share = (rows[depth].latency_ms or 0.0) / (rows[max(rows)].latency_ms or 1.0)
    return Recommendation(depth=depth, reason=f"{reason}; it takes {share:.0%} of the time of depth {max(rows)}")


def read_costs(run: RunFolder, fold: FoldName) -> DepthTable | None:
    """Read the costs that another fold of the run has measured: the networks are equal, only their weights differ."""
    for other in run.started_folds():
        found = run.metrics(other) if other != fold else None
        if found and found.conditions:
            depths = {depth: row.costs() for depth, row in found.depths.items()}
            mean = found.mean_of_heads and found.mean_of_heads.costs()
            return DepthTable(depths=depths, mean_of_heads=mean, conditions=found.conditions, machine=found.machine)
    return None


def show_status(stage: Stage) -> Callable[[Status], None]:
    """Return a function that shows the status of a training on a stage of the progress display."""

    def show(status: Status) -> None:
        total = round(status.step / status.fraction) if status.fraction > 0 else 0
        parts = [f"loss {status.loss:.3f}", f"{status.images_per_second:.1f} images/s"]
        parts += [f"Dice {status.best_dice:.4f}"] if status.best_dice is not None else []
        parts += [f"{_format_time(status.seconds_left)} left"] if status.seconds_left is not None else []
        text = ", ".join(parts) if status.activity == "training" else status.activity
        stage(status.step, max(total, status.step), text)

    return show


def _format_time(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
