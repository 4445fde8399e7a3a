"""One fold of a run: train it, then measure every depth of the best weights on all validation cases."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch

from unetpp.errors import UsageError
from unetpp.files import write_json
from unetpp.infer.prediction import MEAN
from unetpp.infer.predictor import load_predictor
from unetpp.layouts.dataset import Case
from unetpp.measure.choose_depth import make_row, recommend_depth
from unetpp.measure.depth_table import measure_depths
from unetpp.measure.pace import SHARE_AFTER
from unetpp.measure.quality import add_depths, evaluate_cases
from unetpp.measure.verdict import judge_fold
from unetpp.measured import DepthTable
from unetpp.model.file import load_model, save_model
from unetpp.model.header import read_header
from unetpp.model_notes import Metrics, Notes, Training, count_surfaces, read_metrics
from unetpp.plan import Plan
from unetpp.planning.stages import FIRST_SHARE
from unetpp.progress import Progress
from unetpp.report import ViewFolder
from unetpp.results import TrainedFold
from unetpp.run_folder import CHECKPOINT, METRICS_FILE, MODEL, VIEWS, FoldName, RunFolder
from unetpp.train.checkpoint import read_training_state
from unetpp.train.trainer import Extension
from unetpp.verbs.first_stage import add_first_stage
from unetpp.verbs.fold_job import FoldJob, make_training
from unetpp.verbs.followers import train_together
from unetpp.verbs.request import Request
from unetpp.version import __version__

SHARE_FOR_SCORES = 0.75
"""Fraction of the time after training, at most, for scores and pictures; the rest is for costs."""
NO_MEMORY = "memory not measured"
NO_TIMES = "times not measured"
TIME, MEMORY = "latency_ms", "peak_memory_mb"
COMPLETE = (TIME, MEMORY)
"""Costs of a depth that take time to measure."""
COSTS = frozenset({NO_MEMORY, NO_TIMES})
"""What may be left when all cases are scored, in words."""


def train_and_measure(
    job: FoldJob, allowance_s: float | None, resume: bool, later: int = 0, more: Request | None = None
) -> TrainedFold:
    """Train or continue one fold, and write its model, metrics and log.

    Args:
        job: the fold.
        allowance_s: seconds for training and measurement; None: as long as the epochs of the plan take.
        resume: continue from `last.ckpt` if there is one; a finished fold is left alone.
        later: number of folds that the command trains after this one.
        more: length by which a finished fold is trained longer, in `allowance_s`.

    Returns:
        How training went (seconds), and the metrics of metrics.json.

    Raises:
        UsageError: the fold is trained but not measured, and its checkpoint is lost.
    """
    run, fold, plan = job.run, job.fold, job.plan
    until = math.inf if allowance_s is None else time.monotonic() + allowance_s
    done = read_fold(run, fold) if resume else None
    if done and not more:
        return done
    begun = read_training_state(run.fold(fold) / CHECKPOINT) if resume else None
    if done and not begun:
        got, expected = f"a fold without {CHECKPOINT}", "the checkpoint to continue from"
        raise UsageError(run.fold(fold), got, expected, "Restore it.")
    if more and not done:
        job.progress.note(f"note: fold {fold} had not ended: it goes on to its end; repeat the command to add to it")
    cases = job.store_cases()
    if plan.data.resolution == "cascade":
        cases = add_first_stage(job, *cases, None if allowance_s is None else FIRST_SHARE * allowance_s)
    training, budget_s, after = make_training(job, cases, allowance_s, until, begun, later, done)
    job.listeners.begin(fold, plan)
    if done:
        run.metrics_file(fold).replace(run.earlier_metrics_file(fold))  # they are those of the weights so far
    result = train_together(training, resume, Extension(budget_s, more.epochs) if more and done else None)
    if begun and not done and plan.train.minutes:
        until = time.monotonic() + SHARE_AFTER * 60 * plan.train.minutes
    earlier = read_metrics(run.earlier_metrics_file(fold))
    if earlier and read_header(run.fold(fold) / MODEL).notes.training:  # no better weights were found since
        metrics = write_metrics(run, fold, plan, result, earlier)
    else:
        held_out, until = job.find_held_out(), max(until - after.report_s, time.monotonic() + after.granted_s)
        metrics = measure(run, fold, held_out, plan, result, job.device, job.progress, until)
    scores = {depth: row.dice for depth, row in metrics.depths.items()}
    job.listeners(kind="measured", step=result.steps, depths=scores)
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


def measure(
    run: RunFolder,
    fold: FoldName,
    cases: Sequence[Case],
    plan: Plan,
    result: Training,
    device: torch.device,
    progress: Progress,
    until: float = math.inf,
) -> Metrics:
    """Score the best weights at every depth, measure the costs, write metrics.json and the notes of the model file.

    What does not fit the time is left out: distances between surfaces first, then cases with their pictures; memory.

    Args:
        run: run folder.
        fold: number of the fold.
        cases: validation cases.
        plan: plan of the run.
        result: outcome of the training.
        device: where to predict.
        progress: display.
        until: time of `time.monotonic` at which measuring ends.

    Returns:
        The content of metrics.json.
    """
    model, where = run.fold(fold) / MODEL, str(device)
    predictor = load_predictor(model, device=where, backend="torch")  # scores do not depend on installed extras
    deepest = chosen = Metrics()
    quality: dict[int, Metrics] = {}
    started, known = time.monotonic(), read_costs(run, fold)
    if cases:
        views = ViewFolder(run.fold(fold) / VIEWS, plan)
        scored_by = until if known or until == math.inf else until - (1 - SHARE_FOR_SCORES) * (until - started)
        noun = "depth" if len(plan.model.shells) == 1 else "size"
        quality = evaluate_cases(
            predictor,
            cases,
            mean=True,
            progress=progress.stage(f"Fold {fold}: scoring every {noun}", "cases"),
            until=scored_by,
            look=views.add,
        )
        deepest, chosen = quality[max(quality)], quality[plan.predict.depth]
        views.keep(chosen.cases)
    rows = {depth: make_row(scores, deepest) for depth, scores in sorted(quality.items())}
    mean_of_heads = rows.pop(MEAN, None)
    scoring_s, left_s = time.monotonic() - started, until - time.monotonic()
    wanted = COMPLETE if left_s == math.inf else COMPLETE[:1] if left_s > 0 else ()
    costs = (
        known
        or read_costs(run, fold, wanted)
        or measure_depths(model, batch=1, device=where, progress=progress, until=until)
    )
    unfinished = () if until == math.inf else list_unfinished(deepest, len(cases), costs)
    table = DepthTable(depths=rows, mean_of_heads=mean_of_heads).with_costs(costs)
    near = count_surfaces(deepest.cases)
    table = table.merge(DepthTable(scored=(len(deepest.cases), len(cases)), surfaces_scored=(near, len(cases))))
    about = Metrics(cases=add_depths(chosen, quality), scoring_s=scoring_s, unfinished=unfinished)
    scores = chosen.merge(about).merge(table)
    return write_metrics(run, fold, plan, result, scores)


def write_metrics(run: RunFolder, fold: FoldName, plan: Plan, result: Training, measured: Metrics) -> Metrics:
    """Judge a training, and write metrics.json and the notes of the model file.

    Args:
        run: run folder.
        fold: number of the fold.
        plan: plan of the run.
        result: outcome of the training.
        measured: scores and costs of its best weights.

    Returns:
        The content of metrics.json.
    """
    model, verdict = run.fold(fold) / MODEL, judge_fold(run, fold, measured)
    found = read_header(model).notes  # with the rules of `adapt`, if the fold was measured before
    notes = Notes(
        verdict=verdict,
        unetpp=__version__,
        fold=fold,
        seed=plan.train.seed,
        training=result,
        mean=measured.mean,
        distance_unit=measured.distance_unit,
    )
    table = measured.as_table().model_dump(exclude={"recommended", "distance_unit"}, exclude_unset=True)
    notes = (found if found.training else Notes()).merge(notes).merge(DepthTable(**table))
    run.earlier_metrics_file(fold).unlink(missing_ok=True)  # first: they may be those of other weights
    save_model(model, load_model(model)[0].state_dict(), plan, notes)
    recommended = recommend_depth(measured) if verdict is None or verdict.learned else None
    metrics = measured.merge(Metrics(recommended=recommended, verdict=verdict))
    write_json(run.metrics_file(fold), metrics.to_dict())  # last: its presence marks the fold as finished
    return metrics


def list_unfinished(scores: Metrics, count: int, costs: DepthTable) -> tuple[str, ...]:
    """List in words what a limited time left unmeasured.

    Args:
        scores: scores at one depth.
        count: number of cases.
        costs: costs of the depths.
    """
    scored, near = len(scores.cases), count_surfaces(scores.cases)
    texts = []
    if scored < count:
        texts.append(f"{scored} of {count} validation cases scored")
    if near < scored:
        texts.append(f"{near} of {count} validation cases scored with surface distances")
    texts += [text for text, field in ((NO_TIMES, TIME), (NO_MEMORY, MEMORY)) if not _has(costs, field)]
    return tuple(texts)


def _has(costs: DepthTable, field: str) -> bool:
    return all(getattr(row, field) is not None for row in costs.rows.values())


def read_costs(run: RunFolder, fold: FoldName, wanted: Sequence[str] = COMPLETE) -> DepthTable | None:
    """Read costs: those of the fold, else of another one, whose network differs in its weights only.

    Args:
        run: run folder.
        fold: number of the fold.
        wanted: costs that every row must have; fewer where there is no time to measure them.
    """
    others = (run.metrics(other) for other in run.started_folds() if other != fold)
    for found in (run.metrics(fold), read_metrics(run.earlier_metrics_file(fold)), *others):
        if found and found.conditions and all(_has(found, field) for field in wanted):
            depths = {depth: row.costs() for depth, row in found.depths.items()}
            mean = found.mean_of_heads and found.mean_of_heads.costs()
            return DepthTable(depths=depths, mean_of_heads=mean, conditions=found.conditions, machine=found.machine)
    return None
