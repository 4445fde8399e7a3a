"""What a run folder holds, read for its report. Whatever is not there yet is left out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetpp.errors import UsageError
from unetpp.measured import DepthRow, MeanScores, Metrics, ScoredCase, read_metrics
from unetpp.metrics.scores import METRICS, bootstrap_interval, mean_of
from unetpp.plan import Plan, read_plan
from unetpp.report.views import RANKS, View, read_views
from unetpp.run_folder import LOG, METRICS_FILE


@dataclass(frozen=True)
class FoldRecord:
    """One fold of a run."""

    number: int
    log: tuple[dict[str, Any], ...]
    """Lines of log.jsonl."""
    metrics: Metrics
    """Empty where the fold is not measured yet."""
    views: tuple[View, ...]

    def lines(self, kind: str) -> list[dict[str, Any]]:
        """Lines of one kind: start, train, validation, end."""
        return [line for line in self.log if line.get("kind") == kind]


@dataclass(frozen=True)
class RunRecord:
    """A run folder."""

    name: str
    plan: Plan
    folds: tuple[FoldRecord, ...]

    @property
    def cases(self) -> list[tuple[int, ScoredCase]]:
        """Scores of all cases, each with its fold."""
        return [(fold.number, case) for fold in self.folds for case in fold.metrics.cases]

    @property
    def measured(self) -> Metrics:
        """What the first fold that is measured has; empty without one."""
        return next((fold.metrics for fold in self.folds if fold.metrics.model_fields_set), Metrics())

    def mean(self) -> MeanScores:
        """Mean over the cases of all folds."""
        means = [case.mean for _, case in self.cases]
        dice = [mean.dice for mean in means if mean.dice is not None]
        values = {metric: mean_of(getattr(mean, metric) for mean in means) for metric in METRICS}
        return MeanScores(**values, dice_interval=bootstrap_interval(dice))

    def table(self) -> dict[str, DepthRow]:
        """The depth table: quality as the mean over folds, weighted with their cases; costs as the first fold has them."""
        tables = [(fold.metrics.rows, len(fold.metrics.cases)) for fold in self.folds if fold.metrics.depths]
        if len(tables) < 2:
            return dict(tables[0][0]) if tables else {}
        return {
            depth: row.costs().merge(_joined([(rows.get(depth, DepthRow()), cases) for rows, cases in tables]))
            for depth, row in tables[0][0].items()
        }

    def views(self) -> list[tuple[View, int]]:
        """The worst, a median and the best case of all folds, each with its fold."""
        found = [(view, fold.number) for fold in self.folds for view in fold.views]
        by_rank = {
            rank: sorted((entry for entry in found if entry[0].rank == rank), key=lambda entry: entry[0].dice)
            for rank in RANKS
        }
        places = {"worst": 0, "median": 0.5, "best": 1}
        return [entries[round(places[rank] * (len(entries) - 1))] for rank, entries in by_rank.items() if entries]


def read_run(folder: Path) -> RunRecord:
    """Read a run folder.

    Raises:
        UsageError: no run, or one of which no fold has started.
        PlanError: its plan cannot be used.
    """
    if not (folder / "plan.json").is_file():
        raise UsageError(
            f"{folder}: got {'a folder' if folder.is_dir() else 'a path'} without plan.json; expected a run folder. Make one with: unetpp train DATA --out {folder}"
        )
    numbers = sorted(
        int(path.name.removeprefix("fold_"))
        for path in folder.glob("fold_*")
        if path.name.removeprefix("fold_").isdecimal()
    )
    folds = tuple(_read_fold(folder / f"fold_{number}", number) for number in numbers)
    started = tuple(fold for fold in folds if fold.log or fold.metrics.model_fields_set)
    if not started:
        raise UsageError(
            f"{folder}: got a run of which no fold has started; expected one with a log. Train it with: unetpp train DATA --out {folder}"
        )
    return RunRecord(folder.resolve().name, read_plan(folder / "plan.json"), started)


def _joined(rows: Sequence[tuple[DepthRow, int]]) -> DepthRow:
    """Scores of one depth over folds, each with its number of cases."""
    means = {
        metric: _weighted([(getattr(row, metric), cases) for row, cases in rows]) for metric in (*METRICS, "dice_lost")
    }
    return DepthRow(**means, hd95_undefined=sum(row.hd95_undefined or 0 for row, _ in rows))


def _read_fold(folder: Path, number: int) -> FoldRecord:
    return FoldRecord(
        number,
        tuple(_read_log(folder / LOG)),
        read_metrics(folder / METRICS_FILE) or Metrics(),
        read_views(folder / "views"),
    )


def _read_log(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue  # half a line of a run that was killed
        if isinstance(line, dict):
            lines.append(line)
    return lines


def _weighted(values: Sequence[tuple[float | None, int]]) -> float | None:
    found = [(value, weight) for value, weight in values if value is not None]
    total = sum(weight for _, weight in found)
    return sum(value * weight for value, weight in found) / total if total else None


def seconds_of(line: Mapping[str, Any]) -> float:
    """When a log line was written, from the start of the training."""
    return float(line.get("elapsed_s") or 0.0)
