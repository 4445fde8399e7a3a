"""Content of a run folder as the report needs it; files that do not exist yet are left out."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from unetpp.dial import add_sizes
from unetpp.errors import ModelFileError, UsageError
from unetpp.measure.pooled import pool_folds
from unetpp.measure.verdict import judge_fold, judge_run
from unetpp.measured import Recommendation, ScoredCase
from unetpp.model.header import ModelHeader, read_header
from unetpp.model_notes import KINDS, Metrics, Verdict
from unetpp.plan import Plan, read_plan
from unetpp.report.views import find_unreadable, name_view_file, rank_key
from unetpp.run_folder import LOG, METRICS_FILE, MODEL, VIEWS, FoldName, RunFolder
from unetpp.train.log import LogLine, read_log
from unetpp.words import write_command


@dataclass(frozen=True)
class FoldRecord:
    """One fold of a run."""

    number: FoldName
    log: tuple[LogLine, ...]
    """Lines of log.jsonl."""
    metrics: Metrics
    """Empty before the fold is measured."""
    views: dict[str, Path]
    """File of the view of each case."""
    left_out: tuple[str, ...] = ()
    """Files, and parts of them, that cannot be read."""
    verdict: Verdict | None = None
    """How its training stands."""

    def lines(self, kind: str) -> list[LogLine]:
        """Lines of one kind: start, train, validation, end."""
        return [line for line in self.log if line.get("kind") == kind]


@dataclass(frozen=True)
class RunRecord:
    """A run folder."""

    path: Path
    """Its folder, as it may be shown: without the folders above, unless they were named relatively."""
    plan: Plan
    folds: tuple[FoldRecord, ...]
    verdict: Verdict | None = None
    """How the training stands, of the fold that most needs something done."""
    parameters: int | None = None
    """Number of parameters of the whole network; None: there is no model yet."""
    state: str = ""
    """How far a training got of which there is no verdict yet."""
    resume: str = ""
    """The command that continues it."""
    cascade: Path | None = None
    """Folder of the run that has this one as the first stage of a fold, as it may be shown; None: there is none."""

    @property
    def left_out(self) -> tuple[str, ...]:
        """Files, and parts of them, that cannot be read."""
        return tuple(text for fold in self.folds for text in fold.left_out)

    @property
    def cases(self) -> list[tuple[FoldName, ScoredCase]]:
        """Scores of all cases, each with its fold."""
        return [(fold.number, case) for fold in self.folds for case in fold.metrics.cases]

    @cached_property
    def ranked(self) -> list[tuple[FoldName, ScoredCase]]:
        """The cases, the worst first, each with its fold."""
        return sorted(self.cases, key=lambda entry: rank_key(entry[1]))

    @cached_property
    def verdicts(self) -> list[tuple[FoldName, Verdict]]:
        """How the training of each fold stands, the worst first, each with its fold."""
        found = [(fold.number, fold.verdict) for fold in self.folds if fold.verdict]
        return sorted(found, key=lambda entry: KINDS.index(entry[1].kind))

    @cached_property
    def pooled(self) -> Metrics:
        """Scores and costs over the cases of all measured folds; empty without one."""
        found = pool_folds([fold.metrics for fold in self.folds if fold.metrics.model_fields_set] or [Metrics()])
        return add_sizes(found, self.plan.model)

    @property
    def recommended(self) -> Recommendation | None:
        """The depth that is recommended; None for a network that has not learned."""
        return self.pooled.recommended if all(verdict.learned for _, verdict in self.verdicts) else None


def read_run(folder: Path) -> RunRecord:
    """Read a run folder.

    Raises:
        UsageError: not a run folder, or no fold has started.
        PlanError: its plan cannot be used.
    """
    run, action = RunFolder(folder), "Name the folder that `unetpp train` wrote (the line `Run folder`, or its `out`)."
    if not run.plan.is_file():
        got = f"{'a folder' if folder.is_dir() else 'a path'} without {run.plan.name}"
        raise UsageError(folder, got, "a run folder", action)
    folds = [_read_fold(run, name) for name in run.folds()]
    started = tuple(fold for fold in folds if fold.log or fold.left_out or fold.metrics.model_fields_set)
    if not started:
        begin = write_command("train", run.recall_data(), "--out", folder, *(["--resume"] if run.folds() else []))
        raise UsageError(folder, "a run of which no fold has started", "one with a log", f"Train it: `{begin}`.")
    numbers = [fold.number for fold in started]
    plan, header = read_plan(run.plan), _read_header(run, numbers)
    if header:  # plan.json may have been edited since
        plan = plan.model_copy(update={"predict": header.plan.predict})
    verdict, parameters = judge_run(run, numbers), header.parameters if header else None
    cascade = _shorten(run.cascade.path, folder) if run.cascade else None
    known = RunRecord(_shorten(folder, folder), plan, started, verdict, parameters, cascade=cascade)
    stopped = [number for number in numbers if not run.metrics_file(number).exists()]
    if verdict or not stopped:
        return known
    trained, fold = run.find_trained(stopped[0])
    resume = RunFolder(_shorten(trained.path, folder)).write_resume(fold, "DATA")
    return replace(known, state=run.describe_state(stopped[0]), resume=resume)


def _shorten(path: Path, folder: Path) -> Path:
    """Return a path as it may be shown: without the folders above, unless `folder` was named relatively."""
    return Path(path.resolve().name) if folder.is_absolute() else path


def _read_header(run: RunFolder, numbers: Iterable[FoldName]) -> ModelHeader | None:
    """Read the header of a model of the run; None: there is no model that can be read."""
    for number in numbers:
        with suppress(ModelFileError):
            return read_header(run.fold(number) / MODEL)
    return None


def _read_fold(run: RunFolder, number: FoldName) -> FoldRecord:
    folder, left_out = run.fold(number), []
    found = run.model_metrics(number)
    if found is None and (folder / METRICS_FILE).exists():
        left_out.append(f"{folder.name}/{METRICS_FILE}")
    metrics = found or Metrics()
    files = {case.id: name_view_file(folder / VIEWS, case.id) for case in metrics.cases}
    drawn = {*(folder / VIEWS).glob("*.npz")}
    views = {name: path for name, path in files.items() if path in drawn}
    strange = find_unreadable(drawn - {*views.values()})  # those of cases are found when they are drawn
    left_out += [f"{folder.name}/{VIEWS}/{path.name}" for path in strange]
    lines, bad = read_log(folder / LOG)
    left_out += [f"{bad} of {folder.name}/{LOG}"] if bad else []
    verdict = judge_fold(run, number)
    return FoldRecord(number, tuple(lines), metrics, views, tuple(left_out), verdict)


def minutes_of(line: LogLine) -> float:
    """Minutes of training at which a log line was written."""
    return float(line.get("elapsed_s") or 0.0) / 60
