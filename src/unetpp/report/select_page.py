"""The page of a selection as self-contained HTML: what was compared, with intervals, and what was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from unetpp.files import write_text
from unetpp.measured import Interval
from unetpp.plan import DataPlan
from unetpp.report.page import render_page
from unetpp.report.tables import Cell, Table
from unetpp.selection import Selection
from unetpp.words import count_noun

TEMPLATE = "select.html.j2"


def write_select_page(selection: Selection, data: DataPlan, path: Path) -> None:
    """Write the page of a selection; raises WriteError."""
    write_text(path, render_select_page(selection, data))


def render_select_page(selection: Selection, data: DataPlan) -> str:
    """Render the page as HTML."""
    chosen = next((each.name for each in selection.candidates if each.chosen), "")
    return render_page(
        TEMPLATE,
        selection=selection,
        what=selection.describe_what(),
        extras=selection.describe_extras(data.classes),
        headline=_headline(selection),
        chosen=chosen,
        candidates=_tabulate_candidates(selection, data.scored),
        steps=_tabulate_steps(selection, data.classes),
        temperature=selection.temperature,
        cases=count_noun(len(selection.cases), "case"),
        today=date.today().isoformat(),
    )


def _headline(selection: Selection) -> list[tuple[str, str, str]]:
    """Title, number and remark of the tiles."""
    chosen = next((each for each in selection.candidates if each.chosen), None)
    heat, tiles = selection.temperature, []
    if selection.scores.dice is not None:
        tiles.append(("Dice", f"{selection.scores.dice:.4f}", _interval(selection.scores.dice_interval, 1)))
    if chosen and chosen.ms is not None:
        tiles.append(("milliseconds", f"{chosen.ms:,.1f}", "an image of the median size"))
    tiles.append(("candidates", f"{len(selection.candidates)}", f"on {count_noun(len(selection.cases), 'case')}"))
    if heat.ece_before is not None and heat.ece_after is not None:
        tiles.append(("calibration error", f"{heat.ece_after:.4f}", f"{heat.ece_before:.4f} before"))
    return tiles


def _tabulate_candidates(selection: Selection, classes: Sequence[str]) -> Table:
    best = max((each.ms or 0.0 for each in selection.candidates), default=0.0)
    names = classes if len(classes) > 1 else ()
    rows = []
    for each in selection.candidates:
        lost = None if each.lost is None or each.best else 100 * each.lost
        cells = [
            Cell(_number(each.dice), each.dice, each.dice),
            Cell(_interval(each.dice_interval, 1), each.dice_interval[0] if each.dice_interval else None),
            Cell("the best" if each.best else _number(lost, ".2f"), lost),
            Cell("" if each.best else _interval(each.lost_interval, 100), None),
            Cell(_number(each.ms, ",.1f"), each.ms, each.ms / best if each.ms and best else None),
        ]
        rows.append(
            (each.name, [*cells, *(Cell(_number(each.classes.get(name)), each.classes.get(name)) for name in names)])
        )
    columns = ["Dice", "95 %", "points lost", "95 % of these", "ms/image", *(f"Dice {name}" for name in names)]
    return Table(columns, rows)


def _tabulate_steps(selection: Selection, classes: tuple[str, ...]) -> Table:
    rows = []
    for tried in selection.tried:
        changed = [
            f"{name} {_points(before, tried.after.get(name))}"
            for name, before in tried.before.items()
            if before is not None and tried.after.get(name) is not None and tried.after[name] != before
        ]
        cells = [Cell("kept" if tried.kept else "no", None), Cell(", ".join(changed) or "no change", None)]
        rows.append((tried.step.describe(classes), [*cells, Cell(_interval(tried.gain_interval, 100), None)]))
    return Table(["kept", "points of Dice, by class", "95 % of the mean"], rows)


def _points(before: float, after: float | None) -> str:
    return f"{100 * ((after or 0.0) - before):+.2f}"


def _number(value: float | None, form: str = ".4f") -> str:
    return "-" if value is None else format(value, form)


def _interval(interval: Interval | None, factor: float) -> str:
    digits = ".3f" if factor == 1 else ".2f"
    return "" if interval is None else " to ".join(format(factor * end, digits) for end in interval)
