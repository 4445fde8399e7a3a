"""Tables of the report, from the columns that measurements declare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unetpp.dial import describe_size, list_rows, order_rows
from unetpp.measured import (
    ClassScores,
    Column,
    DepthRow,
    DepthTable,
    Measured,
    ScoredCase,
    Scores,
    find_columns,
    list_columns,
    write_headings,
)
from unetpp.model_notes import Metrics
from unetpp.run_folder import FoldName

MOST_CASES, MOST_CELLS = 1000, 10_000
"""Largest number of cases, and of cells, in the table of cases; metrics.json has all."""
SCORES = list_columns(Scores)


@dataclass(frozen=True)
class Cell:
    """One number of a table."""

    text: str
    value: float | None
    """The number, for sorting."""
    share: float | None = None
    """Length of the bar behind it, 0 to 1."""


@dataclass(frozen=True)
class Table:
    """A table whose first column is a name."""

    columns: list[str]
    rows: list[tuple[str, list[Cell]]]

    def __add__(self, right: Table) -> Table:
        """Append the columns of a table with the same rows."""
        pairs = zip(self.rows, right.rows, strict=True)
        return Table(self.columns + right.columns, [(name, cells + more) for (name, cells), (_, more) in pairs])


def tabulate_depths(found: DepthTable, unit: str) -> Table:
    """Tabulate scores and costs of every depth, with shells of every size."""
    rows = list_rows(found)
    slowest = max((row.latency_ms or 0.0 for _, row in rows), default=0.0)
    return _tabulate(DepthRow, rows, unit, {"latency_ms": slowest}, found.count_cases())


def tabulate_classes(found: Metrics, unit: str) -> Table:
    """Tabulate the scores of every class, and its Dice at every depth, with shells at every size."""
    table = _tabulate(ClassScores, [*found.classes.items()], unit, {"dice": 1.0}, found.count_cases())
    depths = {describe_size(found, number): found.depths[number].classes for number in order_rows(found)}
    depths |= {"mean of heads": found.mean_of_heads.classes} if found.mean_of_heads else {}
    depths = {name: classes for name, classes in depths.items() if classes}
    cells = [(name, [_dice_cell(classes.get(name)) for classes in depths.values()]) for name in found.classes]
    return table + Table([*depths], cells)


def tabulate_cases(ranked: Sequence[tuple[FoldName, ScoredCase]], classes: Sequence[str], unit: str) -> Table:
    """Tabulate cases, as many as a browser shows at once.

    Args:
        ranked: cases in the order of the rows, each with its fold.
        classes: names of the foreground classes.
        unit: unit of distances.
    """
    names = classes if len(classes) > 1 else ()
    shown = ranked[: max(1, min(MOST_CASES, MOST_CELLS // (len(names) + len(SCORES))))]
    table = _tabulate(Scores, [(case.id, case.mean) for _, case in shown], unit, {"dice": 1.0})
    cells = [(case.id, [_dice_cell(case.classes.get(name)) for name in names]) for _, case in shown]
    table += Table([f"{SCORES['dice'].title} {name}" for name in names], cells)
    if len({fold for fold, _ in shown}) < 2:
        return table
    folds = [(case.id, [Cell(str(fold), fold if isinstance(fold, int) else None)]) for fold, case in shown]
    return table + Table(["fold"], folds)


def _tabulate(
    kind: type[Measured],
    rows: Sequence[tuple[str, Measured]],
    unit: str,
    full: Mapping[str, float],
    counts: Mapping[str, str] | None = None,
) -> Table:
    """Tabulate the declared columns of some rows.

    Args:
        kind: class that declares the columns.
        rows: rows with their names.
        unit: unit of distances.
        full: value of a full bar, for each column with bars.
        counts: number of cases that columns are of; None: of all.
    """
    shown = find_columns(kind, [row for _, row in rows])
    cells = [
        (name, [_cell(column, getattr(row, key), full.get(key)) for key, column in shown.items()]) for name, row in rows
    ]
    return Table(write_headings(shown, unit, counts), cells)


def _cell(column: Column, value: Any, full: float | None) -> Cell:
    number = value[0] if isinstance(value, tuple) else value
    return Cell(column.text(value), number, number / full if number is not None and full else None)


def _dice_cell(scores: Scores | None) -> Cell:
    dice = scores.dice if scores else None
    return Cell(SCORES["dice"].text(dice), dice)
