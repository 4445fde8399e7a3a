"""The report as self-contained HTML: curves, scores of each case, overlays, the depth table and the plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from unetpp.files import write_text
from unetpp.measured import ClassScores, Column, DepthRow, Measured, Scores, find_columns, list_columns
from unetpp.metrics.scores import METRICS
from unetpp.plan import Plan
from unetpp.report import plots
from unetpp.report.run_record import FoldRecord, RunRecord, minutes_of, read_run
from unetpp.results import list_choices

REPORT = "report.html"
TEMPLATE = "template.html.j2"
SCORES = list_columns(Scores)
TOPOLOGIES = {"unet++": "UNet++", "unet+": "UNet+", "unet_e": "U-Net ensemble", "unet": "U-Net"}


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


def write_report(run: Path, record: RunRecord | None = None) -> Path:
    """Write RUN/report.html; an unfinished run is reported as far as it got, a damaged one as far as it can be read.

    Args:
        run: run folder.
        record: its content; None: it is read.

    Returns:
        The path of the report.

    Raises:
        UsageError: not a run folder, or no fold has started.
        PlanError: its plan cannot be used.
        WriteError: the file could not be written.
    """
    path = Path(run) / REPORT
    write_text(path, render(record or read_run(Path(run))))
    return path


MOST_CASES = 1000
"""Largest number of cases in the table of cases; metrics.json has all."""


def render(run: RunRecord) -> str:
    """Render the report as HTML."""
    from jinja2 import Environment, StrictUndefined

    template = files("unetpp.report").joinpath(TEMPLATE).read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(**_content(run))


def _content(run: RunRecord) -> dict[str, Any]:
    """Values of the variables of the template."""
    plan, found, single = run.plan, run.measured, len(run.folds) == 1
    recommended = found.recommended if single else None
    table, unit = run.table(), _distance_unit(run)
    num_classes = plan.data.num_classes
    curves = {
        "Training loss": _try(plots.plot_loss, run.folds),
        "Validation Dice": _try(plots.plot_validation, run.folds),
        "Learning rate": _try(plots.plot_first_fold, run.folds, "learning_rate", "learning rate", plots.COLORS[0]),
        "Throughput": _try(
            plots.plot_first_fold, run.folds, "images_per_second", "patches per second", plots.COLORS[2], 0
        ),
    }
    return {
        "run": run,
        "plan": plan,
        "left_out": run.left_out,
        "subtitle": _subtitle(plan, table),
        "headline": _headline(run, unit) if run.cases else [],
        "unit": unit,
        "found": found,
        "depth_table": _depth_table(table, unit),
        "chosen_depth": str(plan.predict.depth),
        "trade": _try(plots.plot_trade, table, recommended.depth if recommended else None),
        "recommended": recommended,
        "curves": [(title, picture) for title, picture in curves.items() if picture],
        "sorted_cases": _try(plots.plot_cases, [case for _, case in run.cases]),
        "views": [
            (view, fold, picture) for view, fold in run.views() if (picture := _try(plots.draw_view, view, num_classes))
        ],
        "legend": _legend(plan),
        "class_table": _table(ClassScores, [*found.classes.items()], unit, {"dice": 1.0}),
        "case_table": _case_table(run, unit),
        "single": single,
        "endings": [(fold.number, _ending(fold)) for fold in run.folds],
        "choices": list_choices(plan, plan.reasons),
    }


def _try(draw: Callable[..., str | None], *arguments: Any) -> str | None:
    """Draw a picture; None for numbers that no picture can show, such as times of 1e300 in a damaged log."""
    try:
        return draw(*arguments)
    except (ArithmeticError, ValueError, TypeError, LookupError):
        return None


def _subtitle(plan: Plan, table: Mapping[str, DepthRow]) -> str:
    channels = plan.data.channels
    parameters = max((row.parameters or 0 for name, row in table.items() if name != "mean"), default=0)
    parts = [
        f"{TOPOLOGIES[plan.model.topology]} of depth {plan.model.depth}",
        f"{plan.data.dims}D",
        f"{len(channels)} channel{'s' * (len(channels) != 1)} ({', '.join(channels)})",
    ]
    return " · ".join([*parts, *[f"{parameters:,} parameters"] * (parameters > 0)])


def _headline(run: RunRecord, unit: str) -> list[tuple[str, str, str]]:
    """Title, number and remark of the mean scores and of the number of cases."""
    mean = run.mean()
    remarks = {"hd95_mm": unit, "nsd": f"within {run.measured.nsd_tolerance or 1:g} {unit.removesuffix('s')}"}
    if mean.dice_interval:
        remarks["dice"] = f"95 % interval {SCORES['dice_interval'].text(mean.dice_interval)}"
    values = {metric: getattr(mean, metric) for metric in METRICS}
    shown = [
        (SCORES[metric].title, SCORES[metric].text(value), remarks.get(metric, ""))
        for metric, value in values.items()
        if value is not None
    ]
    origin = f"{len(run.folds)} folds" if len(run.folds) > 1 else "held out of training"
    return [*shown, ("validation cases", str(len(run.cases)), origin)]


def _distance_unit(run: RunRecord) -> str:
    unit = run.measured.distance_unit or "mm"
    return "pixels" if unit == "pixel" else unit


def _depth_table(depths: Mapping[str, DepthRow], unit: str) -> Table:
    slowest = max((row.latency_ms or 0.0 for row in depths.values()), default=0.0)
    names = next((tuple(row.classes) for row in depths.values() if row.classes), ())
    classes = _class_columns(names, [(depth, row.classes) for depth, row in depths.items()])
    return classes + _table(DepthRow, [*depths.items()], unit, {"latency_ms": slowest})


def _case_table(run: RunRecord, unit: str) -> Table:
    """Tabulate the cases, worst first, as many as a browser shows at once."""
    ranked = sorted(run.cases, key=lambda entry: (entry[1].mean.dice is None, entry[1].mean.dice or 0.0))[:MOST_CASES]
    names = run.plan.data.classes[1:] if run.plan.data.num_classes > 2 else ()
    scores = _table(Scores, [(case.id, case.mean) for _, case in ranked], unit, {"dice": 1.0})
    table = scores + _class_columns(names, [(case.id, case.classes) for _, case in ranked])
    if len({fold for fold, _ in ranked}) < 2:
        return table
    folds = [(case.id, [Cell(str(fold), fold if isinstance(fold, int) else None)]) for fold, case in ranked]
    return table + Table(["fold"], folds)


def _table(kind: type[Measured], rows: Sequence[tuple[str, Measured]], unit: str, full: Mapping[str, float]) -> Table:
    """Tabulate the declared columns of some rows.

    Args:
        kind: class that declares the columns.
        rows: rows with their names.
        unit: unit of distances.
        full: value of a full bar, for each column with bars.
    """
    shown = find_columns(kind, [row for _, row in rows])
    cells = [
        (name, [_cell(column, getattr(row, key), full.get(key)) for key, column in shown.items()]) for name, row in rows
    ]
    return Table([column.heading(unit) for column in shown.values()], cells)


def _cell(column: Column, value: Any, full: float | None) -> Cell:
    number = value[0] if isinstance(value, tuple) else value
    return Cell(column.text(value), number, number / full if number is not None and full else None)


def _class_columns(names: Sequence[str], rows: Sequence[tuple[str, Mapping[str, Scores]]]) -> Table:
    """Tabulate the Dice of each class, with its interval if there is one."""

    def cell(scores: Scores) -> Cell:
        interval = f" ({SCORES['dice_interval'].text(scores.dice_interval)})" if scores.dice_interval else ""
        return Cell(SCORES["dice"].text(scores.dice) + interval, scores.dice)

    titles = [f"{SCORES['dice'].title} {name}" for name in names]
    return Table(titles, [(row, [cell(classes.get(name, Scores())) for name in names]) for row, classes in rows])


def _legend(plan: Plan) -> list[tuple[str, str]]:
    """Color and meaning of the contours and differences."""
    colors = plots.class_colors(plan.data.num_classes)
    contours = [
        (color, f"{name} (solid: reference, dashed: prediction)")
        for color, name in zip(colors, plan.data.classes[1:], strict=True)
    ]
    if len(colors) == 1:
        contours = [(colors[0], "reference"), (plots.PREDICTION, "prediction")]
    return [*contours, (plots.MISSED, "missed, or another class"), (plots.EXTRA, "extra")]


def _ending(fold: FoldRecord) -> str:
    """Describe the length and the end of a training, as the predicate of a sentence."""
    reasons = {
        "finished": "finished its schedule",
        "patience": "stopped early, without a better score for a while",
        "interrupted": "was interrupted (unetpp train --resume continues it)",
    }
    reason = next((str(line.get("reason")) for line in reversed(fold.lines("end"))), "")
    text = reasons.get(reason, f"ended: {reason}" if reason else "has not finished yet")
    if not (steps := fold.lines("train")):
        return text
    last = steps[-1]
    text += f": {last.get('step', 0):,} steps, {minutes_of(last):.1f} minutes"
    waiting = last.get("data_wait")
    return text if waiting is None else f"{text}, {waiting:.1%} of the time waiting for data"
