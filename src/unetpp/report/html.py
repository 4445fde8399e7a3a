"""The report of a run: curves, scores of each case, overlays, the depth table and the plan, in one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from unetpp.files import write_text
from unetpp.measure.depth_table import COLUMNS
from unetpp.plan import Plan
from unetpp.report import plots
from unetpp.report.run_record import RunRecord, read_run, seconds_of

REPORT = "report.html"
TEMPLATE = "template.html.j2"
SCORE_NAMES = {"dice": "Dice", "iou": "IoU", "hd95_mm": "HD95", "nsd": "surface Dice"}


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
    plan, cases, depths = run.plan, run.cases, run.depths()
    recommended = run.first("recommended") if len(run.folds) == 1 else None
    num_classes = plan.data.num_classes
    return {
        "run": run,
        "plan": plan,
        "subtitle": _subtitle(run),
        "headline": _headline(run),
        "unit": _unit(run),
        "tolerance": run.first("nsd_tolerance"),
        "metric_impl": run.first("metric_impl"),
        "conditions": run.first("conditions"),
        "depth_table": _depth_table(run.table()),
        "chosen_depth": str(plan.predict.depth),
        "trade": plots.plot_trade(depths, recommended and recommended["depth"]),
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
        "case_table": _case_table(cases, plan),
        "worth": run.first("mean") if len(run.folds) == 1 else None,
        "folds": len(run.folds),
        "endings": [(fold.number, *_ending(fold.lines("train"), fold.lines("end"))) for fold in run.folds],
        "choices": _choices(plan),
    }


def _subtitle(run: RunRecord) -> str:
    model, data = run.plan.model, run.plan.data
    name = {"unet++": "UNet++", "unet+": "UNet+", "unet_e": "U-Net ensemble", "unet": "U-Net"}[model.topology]
    depths = run.depths()
    parameters = max((row.get("parameters") or 0 for row in depths.values()), default=0)
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
    interval = mean["dice_interval"]
    unit = _unit(run)
    remarks = {
        "dice": f"95 % interval {interval[0]:.3f} to {interval[1]:.3f}" if interval else "",
        "iou": "",
        "hd95_mm": unit,
        "nsd": f"within {run.first('nsd_tolerance') or 1:g} {unit.removesuffix('s')}",
    }
    shown = [
        (SCORE_NAMES[metric], _text(metric, mean[metric]), remarks[metric])
        for metric in SCORE_NAMES
        if mean[metric] is not None
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
    unit = str(run.first("distance_unit") or "mm")
    return "pixels" if unit == "pixel" else unit


def _depth_table(depths: Mapping[str, Mapping[str, Any]]) -> Table:
    columns = [
        column
        for column in COLUMNS
        if any(
            row.get(column[0]) not in ((None, 0) if column[0] == "hd95_undefined" else (None,))
            for row in depths.values()
        )
    ]
    slowest = max((row.get("latency_ms") or 0 for row in depths.values()), default=0)
    classes = next((list(row["classes"]) for row in depths.values() if row.get("classes")), [])
    rows = []
    for depth, row in depths.items():
        cells = [_class_cell((row.get("classes") or {}).get(name) or {}) for name in classes]
        cells += [
            Cell(
                text(row[key]) if row.get(key) is not None else "–",
                _number(row.get(key)),
                _share(key, row.get(key), slowest),
            )
            for key, _, text in columns
        ]
        rows.append((depth, tuple(cells)))
    return Table((*(f"Dice {name}" for name in classes), *(title for _, title, _ in columns)), tuple(rows))


def _number(value: Any) -> float | None:
    """To sort by."""
    return value[0] if isinstance(value, list) else value


def _class_cell(scores: Mapping[str, Any]) -> Cell:
    dice, interval = scores.get("dice"), scores.get("dice_interval")
    return Cell(_text("dice", dice) + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else ""), dice)


def _share(key: str, value: float | None, slowest: float) -> float | None:
    return value / slowest if key == "latency_ms" and value is not None and slowest else None


def _class_table(run: RunRecord) -> Table | None:
    classes = run.first("classes")
    if not classes or len(run.folds) > 1:
        return None
    keys = [*SCORE_NAMES, "pooled_dice", "pooled_iou"]
    rows = [(name, tuple(_score_cell(key, row.get(key)) for key in keys)) for name, row in classes.items()]
    return Table((*SCORE_NAMES.values(), "pooled Dice", "pooled IoU"), tuple(rows))


def _case_table(cases: Sequence[Mapping[str, Any]], plan: Plan) -> Table | None:
    """Every case, worst first."""
    if not cases:
        return None
    names = plan.data.classes[1:] if plan.data.num_classes > 2 else ()
    folds = len({case["fold"] for case in cases}) > 1
    rows = []
    for case in sorted(cases, key=lambda case: (case["mean"].get("dice") is None, case["mean"].get("dice"))):
        cells = [_score_cell(key, case["mean"].get(key)) for key in SCORE_NAMES]
        cells += [_score_cell("dice", case.get("classes", {}).get(name, {}).get("dice")) for name in names]
        cells += [Cell(str(case["fold"]), case["fold"])] if folds else []
        rows.append((str(case["id"]), tuple(cells)))
    return Table(
        (*SCORE_NAMES.values(), *(f"Dice {name}" for name in names), *(["fold"] if folds else [])), tuple(rows)
    )


def _score_cell(metric: str, value: float | None) -> Cell:
    return Cell(_text(metric, value), value, value if metric == "dice" else None)


def _text(metric: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if metric == "hd95_mm" else f"{value:.3f}"


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
