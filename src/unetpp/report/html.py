"""The report of a run: curves, scores of each case, overlays, the depth table and the plan, in one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from unetpp.files import write_text
from unetpp.measured import ClassScores, Column, DepthRow, Measured, Scores, find_columns, list_columns
from unetpp.metrics.scores import METRICS
from unetpp.plan import Plan
from unetpp.report import plots
from unetpp.report.run_record import RunRecord, read_run, seconds_of

REPORT = "report.html"
TEMPLATE = "template.html.j2"
SCORES = list_columns(Scores)


@dataclass(frozen=True)
class Cell:
    """One number of a table."""

    text: str
    value: float | None
    """To sort by."""
    share: float | None = None
    """Length of the bar behind it, 0 to 1."""


@dataclass(frozen=True)
class Table:
    """A table whose first column is a name."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]


def write_report(run: Path) -> Path:
    """Write RUN/report.html and give its path; a run that is not finished is reported as far as it went.

    Raises:
        UsageError: no run, or one of which no fold has started.
        PlanError: its plan cannot be used.
        WriteError: it could not be written.
    """
    path = Path(run) / REPORT
    write_text(path, render(read_run(Path(run))))
    return path


def render(run: RunRecord) -> str:
    """The report as HTML."""
    from jinja2 import Environment, StrictUndefined

    template = files("unetpp.report").joinpath(TEMPLATE).read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(**_content(run))


def _content(run: RunRecord) -> dict[str, Any]:
    plan, cases, found = run.plan, [case for _, case in run.cases], run.measured
    recommended = found.recommended if len(run.folds) == 1 else None
    table = run.table()
    num_classes = plan.data.num_classes
    return {
        "run": run,
        "plan": plan,
        "subtitle": _subtitle(run),
        "headline": _headline(run),
        "unit": _unit(run),
        "tolerance": found.nsd_tolerance,
        "metric_impl": found.metric_impl,
        "conditions": found.conditions,
        "depth_table": _depth_table(table, _unit(run)),
        "chosen_depth": str(plan.predict.depth),
        "trade": plots.plot_trade(table, recommended.depth if recommended else None),
        "recommended": recommended,
        "curves": [
            (title, picture)
            for title, picture in (
                ("Training loss", plots.plot_loss(run.folds)),
                ("Validation Dice", plots.plot_validation(run.folds)),
                ("Learning rate", plots.plot_learning_rate(run.folds)),
                ("Throughput", plots.plot_speed(run.folds)),
            )
            if picture
        ],
        "sorted_cases": plots.plot_cases(cases),
        "views": [(view, fold, plots.draw_view(view, num_classes)) for view, fold in run.views()],
        "legend": _legend(plan),
        "class_table": _class_table(run) if num_classes > 2 else None,
        "case_table": _case_table(run),
        "worth": found.mean if len(run.folds) == 1 else None,
        "folds": len(run.folds),
        "endings": [(fold.number, *_ending(fold.lines("train"), fold.lines("end"))) for fold in run.folds],
        "choices": _choices(plan),
    }


def _subtitle(run: RunRecord) -> str:
    model, data = run.plan.model, run.plan.data
    name = {"unet++": "UNet++", "unet+": "UNet+", "unet_e": "U-Net ensemble", "unet": "U-Net"}[model.topology]
    parameters = max((row.parameters or 0 for name, row in run.table().items() if name != "mean"), default=0)
    parts = [
        f"{name} of depth {model.depth}",
        f"{data.dims}D",
        f"{len(data.channels)} channel{'s' * (len(data.channels) != 1)} ({', '.join(data.channels)})",
    ]
    parts += [f"{parameters:,} parameters"] if parameters else []
    return " · ".join(parts)


def _headline(run: RunRecord) -> list[tuple[str, str, str]]:
    """Name, number and remark of what matters most."""
    if not run.cases:
        return []
    mean = run.mean()
    unit, interval = _unit(run), mean.dice_interval
    remarks = {
        "dice": f"95 % interval {SCORES['dice_interval'].text(interval)}" if interval else "",
        "iou": "",
        "hd95_mm": unit,
        "nsd": f"within {run.measured.nsd_tolerance or 1:g} {unit.removesuffix('s')}",
    }
    shown = [
        (SCORES[metric].title, SCORES[metric].text(value), remarks[metric])
        for metric in METRICS
        if (value := getattr(mean, metric)) is not None
    ]
    return [
        *shown,
        (
            "validation cases",
            str(len(run.cases)),
            f"{len(run.folds)} folds" if len(run.folds) > 1 else "held out of training",
        ),
    ]


def _unit(run: RunRecord) -> str:
    unit = run.measured.distance_unit or "mm"
    return "pixels" if unit == "pixel" else unit


def _depth_table(depths: Mapping[str, DepthRow], unit: str) -> Table:
    slowest = max((row.latency_ms or 0.0 for row in depths.values()), default=0.0)
    shown = find_columns(DepthRow, depths.values())
    classes = next((tuple(row.classes) for row in depths.values() if row.classes), ())
    rows = [
        (depth, (*_class_cells(row.classes, classes), *_cells(shown, row, {"latency_ms": slowest})))
        for depth, row in depths.items()
    ]
    return Table((*_class_titles(classes), *_titles(shown, unit)), tuple(rows))


def _class_table(run: RunRecord) -> Table | None:
    classes = run.measured.classes
    if not classes or len(run.folds) > 1:
        return None
    shown = find_columns(ClassScores, classes.values())
    rows = [(name, _cells(shown, row, {"dice": 1.0})) for name, row in classes.items()]
    return Table(_titles(shown, _unit(run)), tuple(rows))


def _case_table(run: RunRecord) -> Table | None:
    """Every case, worst first."""
    if not run.cases:
        return None
    names = run.plan.data.classes[1:] if run.plan.data.num_classes > 2 else ()
    shown = find_columns(Scores, [case.mean for _, case in run.cases])
    several = len({fold for fold, _ in run.cases}) > 1
    rows = []
    for fold, case in sorted(run.cases, key=lambda entry: (entry[1].mean.dice is None, entry[1].mean.dice or 0.0)):
        cells = (*_cells(shown, case.mean, {"dice": 1.0}), *_class_cells(case.classes, names))
        rows.append((case.id, (*cells, *[Cell(str(fold), fold)] * several)))
    return Table((*_titles(shown, _unit(run)), *_class_titles(names), *["fold"] * several), tuple(rows))


def _titles(shown: Mapping[str, Column], unit: str) -> tuple[str, ...]:
    return tuple(column.heading(unit) for column in shown.values())


def _class_titles(names: Sequence[str]) -> list[str]:
    return [f"{SCORES['dice'].title} {name}" for name in names]


def _cells(shown: Mapping[str, Column], row: Measured, bars: Mapping[str, float]) -> tuple[Cell, ...]:
    """Cells of a row; `bars` has the value of a full bar for each column that has them."""
    cells = []
    for key, column in shown.items():
        value = getattr(row, key)
        number = value[0] if isinstance(value, tuple) else value
        share = number / bars[key] if number is not None and bars.get(key) else None
        cells.append(Cell(column.text(value), number, share))
    return tuple(cells)


def _class_cells(classes: Mapping[str, Scores], names: Sequence[str]) -> list[Cell]:
    """The Dice of each class, with its interval where there is one."""
    cells = []
    for scores in (classes.get(name, Scores()) for name in names):
        interval = f" ({SCORES['dice_interval'].text(scores.dice_interval)})" if scores.dice_interval else ""
        cells.append(Cell(SCORES["dice"].text(scores.dice) + interval, scores.dice))
    return cells


def _legend(plan: Plan) -> list[tuple[str, str]]:
    """Colour and meaning of the contours."""
    colours = plots.class_colours(plan.data.num_classes)
    if len(colours) == 1:
        contours = [(colours[0], "reference"), (plots.PREDICTION, "prediction")]
    else:
        contours = [
            (colour, f"{name} (solid: reference, dashed: prediction)")
            for colour, name in zip(colours, plan.data.classes[1:], strict=True)
        ]
    return [*contours, (plots.MISSED, "missed or another class"), (plots.EXTRA, "too much")]


def _ending(steps: Sequence[Mapping[str, Any]], ends: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """How a training ended, and its length, in words."""
    reasons = {
        "finished": "finished its schedule",
        "patience": "stopped early: no better score for a while",
        "interrupted": "interrupted; go on with --resume",
    }
    reason = reasons.get(str(ends[-1].get("reason")), str(ends[-1].get("reason"))) if ends else "not finished yet"
    if not steps:
        return reason, ""
    last = steps[-1]
    parts = [f"{last.get('step', 0):,} steps", f"{seconds_of(last) / 60:.1f} minutes"]
    parts += [f"{last['data_wait']:.1%} of the time waiting for data"] if last.get("data_wait") is not None else []
    return reason, ", ".join(parts)


def _choices(plan: Plan) -> list[tuple[str, str, str]]:
    """Setting, value and reason, as far as there are reasons."""
    values = plan.model_dump(mode="json")
    return [(key, _short(_at(values, key)), reason) for key, reason in plan.reasons.items()]


def _at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def _short(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return (
            ", ".join(_short(entry) for entry in value[:8])
            if not any(isinstance(entry, (list, dict)) for entry in value)
            else " / ".join(_entry(entry) for entry in value[:8])
        )
    return f"{value:g}" if isinstance(value, float) else str(value)


def _entry(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(found)}" for key, found in value.items() if found is not None)
    return "x".join(map(_short, value)) if isinstance(value, list) else _short(value)
