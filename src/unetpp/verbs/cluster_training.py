"""Folds side by side on a cluster: the plan is made on a worker, all of them prepare the cases, each trains a fold."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from unetpp.cluster.engine import Engine
from unetpp.cluster.opening import open_engine
from unetpp.cluster.worker import choose_device
from unetpp.data.folds import Split
from unetpp.data.store import store_cases
from unetpp.errors import DataError, Interrupted, Problem, UnetppError, UsageError, WriteError
from unetpp.files import hold_lock
from unetpp.layouts.dataset import Dataset
from unetpp.plan import Plan
from unetpp.planning.fingerprint import Fingerprint
from unetpp.planning.planner import Start
from unetpp.progress import SILENCE, Progress, Silence
from unetpp.results import Planned, Run, TrainedFold
from unetpp.run_folder import LOCK, FoldName, RunFolder
from unetpp.runtime.device import keep_freed_memory
from unetpp.train.listeners import Listeners
from unetpp.verbs import begun_folds, preparation
from unetpp.verbs.arguments import LogTo
from unetpp.verbs.first_stage import settle_first_plan
from unetpp.verbs.fold import read_fold, train_and_measure
from unetpp.verbs.fold_job import FoldJob
from unetpp.verbs.fold_time import Clock, load_libraries
from unetpp.verbs.plan_page import has_plan_page, make_plan_page
from unetpp.verbs.request import Request
from unetpp.verbs.splits import choose_split
from unetpp.verbs.trained_run import finish_run
from unetpp.verbs.training_request import TrainingRequest, find_folds

COMMAND_LOCK = ".cluster.lock"
SILENT_S = 1800.0
"""Seconds without a change in the folder of a fold after which whoever holds it is not waited for any longer."""
_LOOK_S = 2.0


class _Notes(Silence):
    """Progress that keeps the notes, for the process that asked."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Keep a note."""
        self.notes.append(text)


@dataclass(frozen=True)
class MadePlan:
    """What a worker planned."""

    plan: Plan
    first: Plan | None
    """That of the first stage of a cascade."""
    planned: Planned
    notes: tuple[str, ...]


@dataclass(frozen=True)
class PlanTask:
    """A task: the plan of a run, made or reused for the device of the worker."""

    data: Path
    run: RunFolder
    fingerprint: Fingerprint
    splits: Sequence[Split]
    request: Request
    device: str
    start: Start | None

    def __call__(self, folds: tuple[FoldName, ...]) -> MadePlan:
        keep_freed_memory()
        progress = _Notes()
        place, timed_on = preparation.choose_place(choose_device(self.device), self.request.vram_gb)
        if timed_on is None:
            raise UsageError("vram_gb", "no GPU at the worker", "one to train on", "Start workers that have it.")
        known = self.request, place, progress
        made = preparation.settle_plan(self.run, self.fingerprint, self.splits, *known, self.start, folds)
        first = settle_first_plan(self.run, made, self.fingerprint, *known)
        split = choose_split(self.splits, folds[0])
        planned = preparation.estimate_cost(
            self.data, self.run, made, split, folds=len(folds), device=place, first=first
        )
        return MadePlan(made, first, planned, tuple(progress.notes))


@dataclass(frozen=True)
class FoldTask:
    """A task: one fold, trained or continued and measured."""

    dataset: Dataset
    plan: Plan
    splits: Sequence[Split]
    run: RunFolder
    device: str
    log_to: LogTo | None
    allowance_s: float | None
    more: Request | None
    """Length that is added to finished folds."""

    def __call__(self, fold: FoldName) -> TrainedFold:
        try:
            return self._train(fold)
        except (DataError, Interrupted, WriteError):
            raise
        except UnetppError as error:  # such as a loss that is not finite: the other folds go on
            problem = Problem(f"fold {fold}", str(error), "a fold that can be trained", "")
            raise DataError(error.problems or [problem]) from None

    def _train(self, fold: FoldName) -> TrainedFold:
        load_libraries(SILENCE)
        keep_freed_memory()
        device = preparation.choose_place(choose_device(self.device), None).device
        listeners = Listeners(self.log_to, self.run.path, SILENCE.note)
        split = choose_split(self.splits, fold)
        job = FoldJob(self.dataset, self.plan, split, self.run, fold, device, SILENCE, listeners)
        with _hold_fold(self.run.fold(fold)):
            return train_and_measure(job, self.allowance_s, True, more=self.more)


@contextmanager
def _hold_fold(folder: Path) -> Iterator[None]:
    """Hold a fold; a worker whose client is gone may still train it, and is waited for as long as it writes.

    Raises:
        DataError: it is held by a process that has written nothing for `SILENT_S`, such as a worker that is frozen.
    """
    newest, since = 0.0, time.monotonic()
    while True:
        with hold_lock(folder / LOCK) as is_free:
            if is_free:
                yield
                return
        if (found := _find_newest(folder)) != newest:
            newest, since = found, time.monotonic()
        if time.monotonic() - since > SILENT_S:
            got = f"a process of another worker that holds it and has written nothing for {SILENT_S / 60:g} minutes"
            action = "End that process; then run the command again with `resume=True`."
            raise DataError(Problem(folder.name, got, "a fold that nobody trains", action))
        time.sleep(_LOOK_S)


def _find_newest(folder: Path) -> float:
    """Find the time of the last change of a folder's files."""
    times = [0.0]
    for path in folder.rglob("*"):
        with suppress(OSError):  # a temporary file that is gone
            times.append(path.stat().st_mtime)
    return max(times)


@dataclass(frozen=True)
class ClusterTraining:
    """Folds of a run that are trained on a cluster."""

    engine: Engine
    run: RunFolder
    dataset: Dataset
    splits: Sequence[Split]
    folds: Sequence[FoldName]
    device: str
    progress: Progress

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the run against other commands of this kind; its workers hold their folds.

        Raises:
            UsageError: another one trains it.
        """
        with hold_lock(self.run.path / COMMAND_LOCK) as is_free:
            if not is_free:
                action = "Wait until it has ended, or choose another `out`."
                got = "a run that another command trains on a cluster"
                raise UsageError(self.run.path, got, "one at rest", action, setting="out")
            yield

    def count_rounds(self) -> int:
        """Count how many folds each device trains, one after the other."""
        return math.ceil(len(self.folds) / self.engine.count_devices())

    def make_plan(self, data: Path, fingerprint: Fingerprint, request: Request, start: Start | None) -> MadePlan:
        """Have a worker make or reuse the plan."""
        self.progress.stage("Planning on a worker")
        run = RunFolder(self.run.path.absolute())
        run.path.mkdir(parents=True, exist_ok=True)
        self.engine.require_shared(_list_folders(self.dataset), run.path)
        task = PlanTask(data, run, fingerprint, self.splits, request, self.device, start)
        (outcome,) = self.engine.run(task, [tuple(self.folds)], name="plan", alone=True)
        made = outcome.value
        for note in made.notes:
            self.progress.note(note)
        if (minutes := made.planned.train_minutes) is None:
            return made
        ends = minutes * self.count_rounds() / len(self.folds)  # folds are side by side
        return replace(made, planned=replace(made.planned, train_minutes=ends))

    def prepare(self, plan: Plan) -> None:
        """Have the workers prepare the cases of all folds that are not finished."""
        todo = [fold for fold in self.folds if not self.run.metrics_file(fold).exists()]
        splits = [choose_split(self.splits, fold) for fold in todo]
        used = dict.fromkeys(case for split in splits for case in (*split.train, *split.validation))
        cases = {case.id: case for case in self.dataset.cases}
        stage = self.progress.stage("Preparing cases", "cases")
        store_cases([cases[name] for name in used], plan.data, self.run.cache, stage, self.engine)

    def train(
        self, plan: Plan, clock: Clock, rounds: int, log_to: LogTo | None, more: Request | None
    ) -> list[TrainedFold]:
        """Train the folds, each on a device of its own; finished ones are left alone.

        Raises:
            Interrupted: a fold could not be trained; all others are, as far as they can.
            WriteError: a disk is full.
        """
        dataset = replace(self.dataset, cases=tuple(case.absolute() for case in self.dataset.cases))
        minutes = more.minutes if more else plan.train.minutes
        allowance_s = clock.share(minutes, number=0, parts=rounds)
        run = RunFolder(self.run.path.absolute())
        task = FoldTask(dataset, plan, self.splits, run, self.device, log_to, allowance_s, more)
        finished = {} if more else {fold: done for fold in self.folds if (done := read_fold(self.run, fold))}
        todo = [fold for fold in self.folds if fold not in finished]
        show = self.progress.stage("Training folds side by side", "folds")
        show(len(finished), len(self.folds), "fold_*/log.jsonl in the run folder tell how they stand")
        problems = []
        for outcome in self.engine.run(task, todo, name="fold", alone=True):
            problems += [replace(problem, where=f"fold {outcome.unit}") for problem in outcome.problems]
            finished |= {} if outcome.problems else {outcome.unit: outcome.value}
            show(len(finished), len(self.folds))
        if problems:
            others = f"{len(finished)} of {len(self.folds)} folds are trained"
            raise Interrupted(f"{' '.join(map(str, problems))} {others}.")
        return [finished[fold] for fold in self.folds]


def train_on_cluster(cluster: str, training: TrainingRequest) -> Run:
    """Train folds on the workers of a cluster.

    Args:
        cluster: the scheduler: local:N, tcp://HOST:PORT, or a file.
        training: what the user asked for.

    Returns:
        The trained run.

    Raises:
        DataError: all problems with the data, before anything is trained.
        UsageError: no such cluster, or a fold that cannot be trained so.
        Interrupted: Ctrl-C or SIGTERM, or folds that could not be trained; the work done so far is saved.
    """
    run, progress = training.run, training.progress
    with training.explain_stop(), open_engine(cluster, progress) as engine:
        folds = find_folds(training, engine)
        found = folds.found
        side_by_side = ClusterTraining(
            engine, run, found.dataset, folds.splits, folds.numbers, training.device, progress
        )
        rounds = side_by_side.count_rounds()
        training = training.share_minutes(rounds, what="rounds of folds side by side")
        with side_by_side.hold():
            begun_folds.require_unstarted(run, folds.numbers, training.resume, training.fold)
            made = side_by_side.make_plan(training.data, found.fingerprint, training.request, training.start)
            run.note_data(training.data)
            found.known.write(run.known_cases)
            progress.note(made.planned.summarize(None))
            if not run.started_folds() and not has_plan_page(run, made.plan):
                make_plan_page(run, found, folds.splits, made.planned, progress)
            training.note_start(made.plan, folds.list_held_out())
            side_by_side.prepare(made.plan)
            trained = side_by_side.train(made.plan, Clock(training.started), rounds, training.log_to, training.addition)
    return finish_run(training, trained)


def _list_folders(dataset: Dataset) -> list[Path]:
    paths = (path for case in dataset.cases for path in (*case.images, *case.labels))
    return list({path.absolute().parent for path in paths})
