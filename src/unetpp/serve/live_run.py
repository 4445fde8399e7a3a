"""A training while it runs: what its log says, as curves and numbers."""

from __future__ import annotations

import time
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel

from unetpp.dial import add_sizes, name_row
from unetpp.errors import PlanError
from unetpp.measured import DepthRow, DepthTable
from unetpp.plan import Plan, read_plan
from unetpp.run_folder import RunFolder
from unetpp.serve.run_pictures import GrowingCase, list_growing
from unetpp.train.log import LogLine, read_log

MOST_POINTS = 600
"""Points of a curve."""
SILENT_S = 300.0
"""Seconds without a line after which a training is not called running."""


class LivePoint(BaseModel):
    """A validation."""

    step: int
    dice: float | None = None
    train_dice: float | None = None
    sizes: dict[str, float | None] = {}


class LiveFold(BaseModel):
    """How far the training of a fold is."""

    fold: str
    state: str
    """waiting, running, finished, stopped or silent."""
    step: int = 0
    losses: list[tuple[int, float]] = []
    validations: list[LivePoint] = []
    images_per_second: float | None = None
    elapsed_s: float = 0.0
    seconds_left: float | None = None
    best_dice: float | None = None
    growing: list[GrowingCase] = []
    """Validation cases with pictures of their segmentations: /v1/run/growing/FOLD/NUMBER_STEP.png."""


class LiveRun(BaseModel):
    """A training that is followed."""

    name: str
    folds: list[LiveFold]
    problem: str = ""
    """Why nothing can be shown yet; empty: nothing is wrong."""


def read_live_run(path: Path) -> LiveRun:
    """Read the logs of a run folder, whatever state it is in."""
    run = RunFolder(path)
    try:
        plan: Plan | None = read_plan(run.plan)
    except PlanError:
        plan = None
    folds = [_read_fold(run, str(name), plan) for name in run.folds()]
    problem = "" if folds else "the training has not begun: there is no fold yet"
    return LiveRun(name=path.absolute().name, folds=folds, problem=problem)


def _read_fold(run: RunFolder, name: str, plan: Plan | None) -> LiveFold:
    path = run.fold(name) / "log.jsonl"
    lines = _read_lines(path)
    trained = [line for line in lines if line["kind"] == "train"]
    ends = [line for line in lines if line["kind"] == "end"]
    validations = [_read_validation(line, plan) for line in lines if line["kind"] == "validation"]
    last: LogLine = trained[-1] if trained else {}
    elapsed = float(last.get("elapsed_s") or 0.0)
    state = _find_state(path, bool(trained), ends)
    return LiveFold(
        fold=name,
        state=state,
        step=max((int(line.get("step", 0)) for line in lines), default=0),
        losses=_thin([(line["step"], line["loss"]) for line in trained if line.get("loss") is not None]),
        validations=validations[-MOST_POINTS:],
        images_per_second=last.get("images_per_second"),
        elapsed_s=elapsed,
        seconds_left=_estimate_left(plan, last, elapsed) if state == "running" else None,
        best_dice=max((each.dice for each in validations if each.dice is not None), default=None),
        growing=list_growing(run.fold(name)),
    )


def _read_lines(path: Path) -> tuple[LogLine, ...]:
    """Read a log, once for each state of the file: viewers ask several times a second."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return _parse_lines(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=16)
def _parse_lines(path: Path, changed_ns: int, size: int) -> tuple[LogLine, ...]:
    return tuple(read_log(path)[0])


def _find_state(path: Path, has_begun: bool, ends: list[LogLine]) -> str:
    if ends:
        return "stopped" if ends[-1].get("reason") == "interrupted" else "finished"
    if not has_begun:
        return "waiting"
    try:
        return "running" if time.time() - path.stat().st_mtime < SILENT_S else "silent"
    except OSError:
        return "silent"


def _read_validation(line: LogLine, plan: Plan | None) -> LivePoint:
    found = {int(number): dice for number, dice in (line.get("depths") or {}).items() if str(number).isdecimal()}
    table = DepthTable(depths={number: DepthRow() for number in found})
    table = add_sizes(table, plan.model) if plan else table
    sizes = {name_row(table, number): dice for number, dice in found.items()}
    return LivePoint(step=line.get("step", 0), dice=line.get("dice"), train_dice=line.get("train_dice"), sizes=sizes)


def _estimate_left(plan: Plan | None, last: LogLine, elapsed: float) -> float | None:
    if plan is None or not last:
        return None
    if plan.train.minutes is not None:
        return max(0.0, 60 * plan.train.minutes - elapsed)
    total, step = plan.train.epochs * plan.train.steps_per_epoch, int(last.get("step", 0))
    return elapsed * max(0, total - step) / step if step else None


def _thin(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Keep so many points as a curve can show, always the last."""
    every = -(-len(points) // MOST_POINTS) or 1
    return [*points[::every], *(points[-1:] if (len(points) - 1) % every else [])]
