"""Plots of the report as `<svg>` elements, in colors that the page defines for light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from unetpp.dial import describe_size, find_left_out, has_shells, name_row, order_rows
from unetpp.measured import DepthTable, ScoredCase
from unetpp.plan import ModelPlan
from unetpp.report.colors import THEME, list_light
from unetpp.report.run_record import FoldRecord, minutes_of
from unetpp.run_folder import FoldName
from unetpp.sizes import name_size
from unetpp.train.log import LogLine

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID = (THEME[name][0] for name in ("ink", "muted", "line"))
COLORS, SHALLOW_TO_DEEP = list_light("color"), list_light("depth")
POINTS, BARS = 1000, 200
"""Largest number of points of a curve, and of bars; of more, as many are shown, evenly chosen."""
STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "unetpp",
    "axes.edgecolor": GRID,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
}
TIME = "minutes of training"


def plot_training(folds: Sequence[FoldRecord], model: ModelPlan) -> str | None:
    """Plot loss and Dice over time, in training and in validation; None if nothing was logged.

    The validation Dice is that of every depth, with shells of every size, of one fold, or of the deepest of several;
    the training Dice, dashed, that of the deepest.
    """
    trained, validated = _find_lines(folds, "train"), _find_lines(folds, "validation")
    if not trained and not validated:
        return None
    figure, (above, below) = make_figure(height=4.4, rows=2)
    several = len(folds) > 1
    for color, (fold, lines) in zip(_cycle(COLORS, len(trained)), trained, strict=True):
        minutes, loss = [minutes_of(line) for line in lines], _values(lines, "loss")
        above.plot(minutes, loss, color=color, linewidth=0.8, alpha=0.35)
        above.plot(minutes, _smooth(loss), color=color, linewidth=1.8, label=f"fold {fold}" if several else "training")
    for color, (fold, lines) in zip(_cycle(COLORS, len(validated)), validated, strict=True):
        loss, name, color = _values(lines, "loss"), f"fold {fold}, validation", color if several else COLORS[1]
        if np.isfinite(loss).any():
            _plot_validations(above, lines, loss, color, name if several else "validation", dashed=several)
    for color, label, lines, dice in _find_dice(validated, model):
        _plot_validations(below, lines, dice, color, label)
    for color, (fold, lines) in zip(_cycle(COLORS, len(validated)), validated, strict=True):
        dice, name = _values(lines, "train_dice"), f"fold {fold}, training cases" if several else "training cases"
        if np.isfinite(dice).any():
            _plot_validations(below, lines, dice, color, name, dashed=True)
    label_axes(above, "", "loss", legend=True)
    label_axes(below, TIME, "Dice", legend=True)
    return encode_figure(figure)


def _plot_validations(
    axes: Axes, lines: Sequence[LogLine], values: np.ndarray, color: str, label: str, dashed: bool = False
) -> None:
    style, minutes = "--" if dashed else "-", [minutes_of(line) for line in lines]
    axes.plot(minutes, values, color=color, linestyle=style, linewidth=1.8, marker="o", markersize=3.5, label=label)


def _find_dice(
    validated: Sequence[tuple[FoldName, list[LogLine]]], model: ModelPlan
) -> list[tuple[str, str, list[LogLine], np.ndarray]]:
    """Color, name, lines and Dice of each curve."""
    if len(validated) == 1 and (depths := validated[0][1][-1].get("depths")):
        lines, noun = validated[0][1], "depth" if len(model.shells) == 1 else "size"
        found = [line.get("depths") or dict.fromkeys(depths, line.get("dice")) for line in lines]
        return [
            (color, f"{noun} {name_size(int(d), model.depth, model.shell_channels)}", lines, _values(found, d))
            for color, d in zip(_depth_colors(len(depths)), depths, strict=True)
        ]
    colors = _cycle(COLORS, len(validated))
    return [
        (color, f"fold {fold}", lines, _values(lines, "dice"))
        for color, (fold, lines) in zip(colors, validated, strict=True)
    ]


def plot_pace(folds: Sequence[FoldRecord]) -> str | None:
    """Plot learning rate and throughput of the first fold over time; None if fewer than two steps were logged."""
    found = _find_lines(folds, "train")
    if not found or len(found[0][1]) < 2:
        return None
    lines = found[0][1]
    minutes = [minutes_of(line) for line in lines]
    figure, (above, below) = make_figure(height=4.4, rows=2)
    above.plot(minutes, _values(lines, "learning_rate"), color=COLORS[0], linewidth=1.6)
    below.plot(minutes, _values(lines, "images_per_second"), color=COLORS[2], linewidth=1.6)
    below.set_ylim(bottom=0)
    label_axes(above, "", "learning rate")
    label_axes(below, TIME, "patches per second")
    return encode_figure(figure)


SMALLEST_SPAN = 0.01
"""Span of Dice that the plot of sizes shows at least, so that chance does not look like a difference."""


def plot_trade(table: DepthTable, recommended: int | None = None) -> str | None:
    """Plot Dice over latency, one point for each depth and a ring around the recommended; None for fewer than two.

    With shells, a line joins the sizes that are worth choosing; the others are hollow.
    """
    points = {
        number: (row.latency_ms, row.dice)
        for number, row in table.depths.items()
        if row.latency_ms is not None and row.dice is not None
    }
    if len(points) < 2:
        return None
    left_out = [number for number in find_left_out(table) if number in points] if has_shells(table) else []
    joined = [number for number in order_rows(table) if number in points and number not in left_out]
    figure, [axes] = make_figure()
    axes.plot(*zip(*(points[each] for each in joined), strict=True), color=GRID, linewidth=2, zorder=1)
    for color, number in zip(_depth_colors(len(joined)), joined, strict=True):
        axes.scatter(*points[number], s=70, color=color, zorder=2, label="worth choosing" if left_out else None)
        _annotate(axes, describe_size(table, number).removeprefix("size "), points[number], (0, 9), ha="center")
    for number in left_out:
        axes.scatter(*points[number], s=40, facecolors="none", edgecolors=MUTED, label="left out", zorder=2)
        _annotate(axes, name_row(table, number), points[number], (0, -15), ha="center")
    if recommended is not None and recommended in points:
        axes.scatter(*points[recommended], s=230, facecolors="none", edgecolors=COLORS[1], linewidths=1.8, zorder=3)
    axes.set_xlim(left=0)
    axes.margins(x=0.12)
    low, high = (choose(dice for _, dice in points.values()) for choose in (min, max))
    pad = 0.25 * (high - low) + max(0.0, SMALLEST_SPAN - (high - low)) / 2
    axes.set_ylim(low - pad, high + pad)
    label_axes(axes, "milliseconds for a tile", "Dice")
    if left_out:
        named = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        axes.legend(named.values(), named, frameon=False, fontsize=9.5, labelcolor=INK)
    return encode_figure(figure)


def plot_cases(cases: Sequence[ScoredCase]) -> str | None:
    """Plot the Dice of every case, sorted; None for fewer than two."""
    values = sorted(case.mean.dice for case in cases if case.mean.dice is not None)
    if len(values) < 2:
        return None
    mean = float(np.mean(values))
    figure, [axes] = make_figure()
    shown = [values[number * len(values) // BARS] for number in range(BARS)] if len(values) > BARS else values
    axes.bar(range(len(shown)), shown, width=0.85, color=COLORS[0], alpha=0.8)
    axes.axhline(mean, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    _annotate(axes, f"mean {mean:.3f}", (0, mean), (2, 4))
    axes.set_ylim(max(0.0, min(values) - 0.1), min(1.0, max(values) + 0.08))
    axes.set_xticks([])
    label_axes(axes, f"{len(values)} cases, worst to best", "Dice")
    return encode_figure(figure)


def make_figure(height: float = 2.7, rows: int = 1) -> tuple[Figure, list[Axes]]:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.4, height), layout="constrained")
        every = list(figure.subplots(rows, sharex=True, squeeze=False)[:, 0])
    for axes in every:
        axes.grid(color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0)
    return figure, every


def _annotate(axes: Axes, text: str, point: tuple[float, float], offset: tuple[float, float], ha: str = "left") -> None:
    axes.annotate(text, point, textcoords="offset points", xytext=offset, ha=ha, fontsize=9.5, color=INK)


def label_axes(axes: Axes, x: str, y: str, legend: bool = False) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if legend and axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9.5, labelcolor=INK)


def encode_figure(figure: Figure) -> str:
    """Encode a figure as an `<svg>` element whose colors are variables of the page."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    opening = re.search(r"<svg [^>]*(viewBox=\"[^\"]+\")[^>]*>", text)
    if opening is None:
        raise ValueError("no SVG")
    text = f'<svg {opening[1]} aria-hidden="true">{text[opening.end() :]}'
    text = re.sub(
        r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>| id=\"[a-z]+_[\d_]+\"", "", text, flags=re.DOTALL
    )
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", text)
    for name, (light, _) in THEME.items():
        text = text.replace(light, f"var(--{name})")
    return text


def _find_lines(folds: Sequence[FoldRecord], kind: str) -> list[tuple[FoldName, list[LogLine]]]:
    """Name and log lines of each fold that has lines of one kind, evenly chosen if there are many."""
    found = [(fold.number, fold.lines(kind)) for fold in folds]
    return [(number, lines[:: -(-len(lines) // POINTS)]) for number, lines in found if lines]


def _values(lines: Sequence[LogLine], key: str) -> np.ndarray:
    return np.array([line.get(key) for line in lines], dtype=np.float64)  # None becomes NaN


def _smooth(values: np.ndarray) -> np.ndarray:
    """Average over a window of a twentieth of the curve around each point, without NaNs."""
    reach = len(values) // 40
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(values, reach, constant_values=np.nan), 2 * reach + 1)
    known = ~np.isnan(windows)
    return np.where(known.any(axis=1), np.where(known, windows, 0).sum(axis=1) / known.sum(axis=1).clip(min=1), np.nan)


def _cycle(colors: Sequence[str], count: int) -> list[str]:
    return [colors[number % len(colors)] for number in range(count)]


def _depth_colors(count: int) -> list[str]:
    if count > len(SHALLOW_TO_DEEP):
        return _cycle(COLORS, count)
    return list(SHALLOW_TO_DEEP[-count:]) if count > 4 else list(SHALLOW_TO_DEEP[4 - count : 4])
