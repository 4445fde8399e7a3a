"""Content of a run folder as the report needs it; files that do not exist yet are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat

from unetpp.errors import UsageError
from unetpp.json_files import parse_json
from unetpp.measured import DepthRow, MeanScores, Metrics, ScoredCase, read_metrics
from unetpp.metrics.scores import METRICS, bootstrap_interval, mean_of
from unetpp.plan import Plan, read_plan
from unetpp.report.views import RANKS, View, read_views
from unetpp.run_folder import LOG, METRICS_FILE, FoldName, RunFolder
from unetpp.words import count_noun

LogLine = dict[str, Any]


class _Line(BaseModel):
    """What the report reads of a line of the log."""

    model_config = ConfigDict(extra="allow")

    kind: str
    step: int = 0
    elapsed_s: FiniteFloat | None = None
    loss: float | None = None
    dice: float | None = None
    depths: dict[str, float | None] | None = None
    learning_rate: float | None = None
    images_per_second: float | None = None
    data_wait: FiniteFloat | None = None


@dataclass(frozen=True)
class FoldRecord:
    """One fold of a run."""

    number: FoldName
    log: tuple[LogLine, ...]
    """Lines of log.jsonl."""
    metrics: Metrics
    """Empty before the fold is measured."""
    views: tuple[View, ...]
    left_out: tuple[str, ...] = ()
    """Files, and parts of them, that cannot be read."""

    def lines(self, kind: str) -> list[LogLine]:
        """Lines of one kind: start, train, validation, end."""
        return [line for line in self.log if line.get("kind") == kind]


@dataclass(frozen=True)
class RunRecord:
    """A run folder."""

    name: str
    plan: Plan
    folds: tuple[FoldRecord, ...]

    @property
    def left_out(self) -> tuple[str, ...]:
        """Files, and parts of them, that cannot be read."""
        return tuple(text for fold in self.folds for text in fold.left_out)

    @property
    def cases(self) -> list[tuple[FoldName, ScoredCase]]:
        """Scores of all cases, each with its fold."""
        return [(fold.number, case) for fold in self.folds for case in fold.metrics.cases]

    @property
    def measured(self) -> Metrics:
        """Metrics of the first measured fold; empty without one."""
        return next((fold.metrics for fold in self.folds if fold.metrics.model_fields_set), Metrics())

    def mean(self) -> MeanScores:
        """Mean over the cases of all folds."""
        means = [case.mean for _, case in self.cases]
        dice = [mean.dice for mean in means if mean.dice is not None]
        values = {metric: mean_of(getattr(mean, metric) for mean in means) for metric in METRICS}
        return MeanScores(**values, dice_interval=bootstrap_interval(dice))

    def table(self) -> dict[str, DepthRow]:
        """Depth table: scores as the mean over folds, weighted by their numbers of cases; costs of the first fold."""
        tables = [(fold.metrics.rows, len(fold.metrics.cases)) for fold in self.folds if fold.metrics.depths]
        if len(tables) < 2:
            return dict(tables[0][0]) if tables else {}
        return {
            depth: row.costs().merge(_average([(rows.get(depth, DepthRow()), cases) for rows, cases in tables]))
            for depth, row in tables[0][0].items()
        }

    def views(self) -> list[tuple[View, FoldName]]:
        """Choose the worst, the median and the best view of all folds, each with its fold."""
        found = sorted(
            ((view, fold.number) for fold in self.folds for view in fold.views), key=lambda each: each[0].dice
        )
        by_rank = [[entry for entry in found if entry[0].rank == rank] for rank in RANKS]
        return [
            entries[round(place * (len(entries) - 1))]
            for place, entries in zip((0, 0.5, 1), by_rank, strict=True)
            if entries
        ]


def read_run(folder: Path) -> RunRecord:
    """Read a run folder.

    Raises:
        UsageError: not a run folder, or no fold has started.
        PlanError: its plan cannot be used.
    """
    run, action = RunFolder(folder), f"Make one with `unetpp train DATA --out {folder}`."
    if not run.plan.is_file():
        got = f"{'a folder' if folder.is_dir() else 'a path'} without {run.plan.name}"
        raise UsageError(folder, got, "a run folder", action)
    folds = [_read_fold(run.fold(name), name) for name in run.folds()]
    started = tuple(fold for fold in folds if fold.log or fold.left_out or fold.metrics.model_fields_set)
    if not started:
        raise UsageError(folder, "a run of which no fold has started", "one with a log", action)
    return RunRecord(folder.resolve().name, read_plan(run.plan), started)


def _average(rows: Sequence[tuple[DepthRow, int]]) -> DepthRow:
    """Average the scores of one depth over folds, each with its number of cases."""
    means: dict[str, float | None] = {}
    for metric in (*METRICS, "dice_lost"):
        found = [(value, cases) for row, cases in rows if (value := getattr(row, metric)) is not None]
        total = sum(cases for _, cases in found)
        means[metric] = sum(value * cases for value, cases in found) / total if total else None
    return DepthRow(**means, hd95_undefined=sum(row.hd95_undefined or 0 for row, _ in rows))


def _read_fold(folder: Path, number: FoldName) -> FoldRecord:
    metrics, left_out = read_metrics(folder / METRICS_FILE), []
    if metrics is None and (folder / METRICS_FILE).exists():
        left_out.append(str(folder / METRICS_FILE))
    views, unreadable = read_views(folder / "views")
    lines, bad = _read_log(folder / LOG)
    left_out += [*map(str, unreadable), *([f"{bad} of {folder / LOG}"] if bad else [])]
    return FoldRecord(number, tuple(lines), metrics or Metrics(), views, tuple(left_out))


def _read_log(path: Path) -> tuple[list[LogLine], str]:
    """Read the lines of a log, and say how much of it cannot be read."""
    try:
        texts = path.read_bytes().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return [], ""
    except OSError as error:
        return [], f"all ({error.strerror})"
    lines, bad = [], 0
    for text in texts:
        try:
            lines.append(_Line.model_validate(parse_json(text)).model_dump(exclude_unset=True))
        except ValueError:
            bad += bool(text.strip("\0 "))
    return lines, count_noun(bad, "line") if bad else ""


def minutes_of(line: LogLine) -> float:
    """Minutes of training at which a log line was written."""
    return float(line.get("elapsed_s") or 0.0) / 60
