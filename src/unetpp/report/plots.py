"""Pictures of the report as sources of `<img>`: curves as SVG, overlays as PNG."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unetpp.measured import DepthRow, ScoredCase
from unetpp.report.run_record import FoldRecord, LogLine, minutes_of
from unetpp.report.views import View
from unetpp.run_folder import FoldName

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#1f2933", "#66727f", "#e3e8ee"
COLORS = ("#2f6fde", "#e8833a", "#2a9d6f", "#a855c8", "#d64550", "#17a2b8", "#8a6d3b", "#5b6bbf")
"""Colors of folds, and of depths if there are many."""
SHALLOW_TO_DEEP = ("#b9cdf5", "#86aaf0", "#4f82e6", "#1f57c3", "#123a8a", "#0b2559")
REFERENCE, PREDICTION, MISSED, EXTRA = "#35e08c", "#ffb02e", "#3fa7ff", "#ff4d6d"
CLASS_COLORS = (REFERENCE, "#ff5fa2", "#5cc8ff", "#ffd23f", "#c38bff", "#ff8a3d")
OPACITY = 215
"""Alpha of the differences, 0 to 255."""
_BARS = 1000
"""Largest number of bars; of more cases, as many are shown, evenly chosen."""
STYLE = {
    "font.family": "sans-serif",
    "font.size": 9.5,
    "svg.fonttype": "path",
    "axes.edgecolor": GRID,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
}
TIME = "minutes of training"


def plot_loss(folds: Sequence[FoldRecord]) -> str | None:
    """Plot the training loss of every fold over time, as logged and smoothed; None without any."""
    found = _find_lines(folds, "train")
    if not found:
        return None
    figure, axes = _make_figure()
    for color, (fold, lines) in zip(_cycle(COLORS, len(found)), found, strict=True):
        minutes, loss = [minutes_of(line) for line in lines], _values(lines, "loss")
        axes.plot(minutes, loss, color=color, linewidth=1.0, alpha=0.35)
        axes.plot(minutes, _smooth(loss), color=color, linewidth=1.8, label=f"fold {fold}")
    return _finish(figure, axes, TIME, "loss", legend=len(found) > 1)


def plot_validation(folds: Sequence[FoldRecord]) -> str | None:
    """Plot the validation Dice over time, of every depth of one fold or the deepest of several; None without any."""
    found = _find_lines(folds, "validation")
    if not found:
        return None
    curves = [(f"fold {fold}", lines, _values(lines, "dice")) for fold, lines in found]
    colors = _cycle(COLORS, len(found))
    if len(found) == 1 and (depths := found[0][1][-1].get("depths")):
        lines = found[0][1]
        flat = [{**dict.fromkeys(depths, line.get("dice")), **(line.get("depths") or {})} for line in lines]
        curves = [(f"depth {depth}", lines, _values(flat, depth)) for depth in depths]
        colors = _depth_colors(len(depths))
    figure, axes = _make_figure()
    for color, (label, lines, dice) in zip(colors, curves, strict=True):
        minutes = [minutes_of(line) for line in lines]
        axes.plot(minutes, dice, color=color, linewidth=1.8, marker="o", markersize=3.5, label=label)
    return _finish(figure, axes, TIME, "validation Dice", legend=True)


def plot_first_fold(
    folds: Sequence[FoldRecord], key: str, title: str, color: str, bottom: float | None = None
) -> str | None:
    """Plot one number of the training log of the first fold over time.

    Args:
        folds: folds of the run.
        key: key of the number in a line of the log.
        title: title of its axis.
        color: color of the curve.
        bottom: smallest value of the axis; None: fitted to the numbers.

    Returns:
        The source of an `<img>`; None if no fold has logged a step.
    """
    found = _find_lines(folds, "train")
    if not found:
        return None
    lines = found[0][1]
    figure, axes = _make_figure(height=1.9)
    axes.plot([minutes_of(line) for line in lines], _values(lines, key), color=color, linewidth=1.6)
    axes.set_ylim(bottom=bottom)
    return _finish(figure, axes, TIME, title)


def plot_trade(table: Mapping[str, DepthRow], recommended: int | None = None) -> str | None:
    """Plot Dice over latency, one point for each depth and a ring around the recommended; None for fewer than two."""
    points = [
        (depth, row.latency_ms, row.dice)
        for depth, row in table.items()
        if depth != "mean" and row.latency_ms is not None and row.dice is not None
    ]
    if len(points) < 2:
        return None
    figure, axes = _make_figure()
    axes.plot([x for _, x, _ in points], [y for _, _, y in points], color=GRID, linewidth=2, zorder=1)
    for color, (depth, x, y) in zip(_depth_colors(len(points)), points, strict=True):
        axes.scatter([x], [y], s=70, color=color, zorder=2)
        if depth == str(recommended):
            axes.scatter([x], [y], s=230, facecolors="none", edgecolors=COLORS[1], linewidths=1.8, zorder=3)
        _annotate(axes, f"depth {depth}", (x, y), (0, 9), ha="center")
    axes.set_xlim(left=0)
    axes.margins(x=0.12, y=0.25)
    return _finish(figure, axes, "milliseconds for a tile", "Dice")


def plot_cases(cases: Sequence[ScoredCase]) -> str | None:
    """Plot the Dice of every case, sorted; None for fewer than two."""
    values = sorted(case.mean.dice for case in cases if case.mean.dice is not None)
    if len(values) < 2:
        return None
    mean = float(np.mean(values))
    figure, axes = _make_figure()
    shown = [values[number * len(values) // _BARS] for number in range(_BARS)] if len(values) > _BARS else values
    axes.bar(range(len(shown)), shown, width=0.85, color=COLORS[0], alpha=0.8)
    axes.axhline(mean, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    _annotate(axes, f"mean {mean:.3f}", (0, mean), (2, 4))
    axes.set_ylim(max(0.0, min(values) - 0.1), min(1.0, max(values) + 0.08))
    axes.set_xticks([])
    return _finish(figure, axes, f"{len(values)} cases, worst to best", "Dice")


def draw_view(view: View, num_classes: int) -> str:
    """Draw three panels: the image; contours of reference and prediction; missed and extra voxels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.2 / view.shape_ratio), dpi=100)
    panels = figure.subplots(1, 3, gridspec_kw={"wspace": 0.02, "left": 0, "right": 1, "top": 1, "bottom": 0})
    smooth = "nearest" if view.reference.shape[1] < 200 else "antialiased"
    for axes in panels:
        axes.imshow(view.image, cmap="gray", vmin=0, vmax=255, aspect=view.aspect, interpolation=smooth)
        axes.set_axis_off()
    _draw_contours(panels[1], view, num_classes)
    panels[2].imshow(_draw_differences(view), aspect=view.aspect, interpolation="nearest")
    return _encode(figure, "png")


def class_colors(num_classes: int) -> list[str]:
    """Contour color of each foreground class."""
    return _cycle(CLASS_COLORS, num_classes - 1)


def _draw_contours(axes: Axes, view: View, num_classes: int) -> None:
    height, length = view.reference.shape
    width = 1.1 if max(height, length) > 200 else 1.7
    for index, color in enumerate(class_colors(num_classes), start=1):
        predicted, style = (PREDICTION, "solid") if num_classes == 2 else (color, "dashed")
        for labels, edge, line in ((view.reference, color, "solid"), (view.prediction, predicted, style)):
            mask = np.pad(labels == index, 1).astype(np.float32)
            if mask.any():
                rows, columns = (np.arange(size) - 1 for size in mask.shape)
                axes.contour(columns, rows, mask, levels=[0.5], colors=[edge], linewidths=width, linestyles=line)
    axes.set_xlim(-0.5, length - 0.5)
    axes.set_ylim(height - 0.5, -0.5)


def _draw_differences(view: View) -> np.ndarray:
    """Draw (H, W, 4) RGBA: blue for a missed or another class of the reference, red for foreground on background."""
    wrong = view.reference != view.prediction
    colors = np.zeros((*wrong.shape, 4), dtype=np.uint8)
    colors[wrong & (view.reference > 0)] = (*bytes.fromhex(MISSED[1:]), OPACITY)
    colors[wrong & (view.reference == 0)] = (*bytes.fromhex(EXTRA[1:]), OPACITY)
    return colors


def _make_figure(height: float = 2.7) -> tuple[Figure, Axes]:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.4, height), layout="constrained")
        axes = figure.subplots()
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    return figure, axes


def _annotate(axes: Axes, text: str, point: tuple[float, float], offset: tuple[float, float], ha: str = "left") -> None:
    axes.annotate(text, point, textcoords="offset points", xytext=offset, ha=ha, fontsize=9, color=INK)


def _finish(figure: Figure, axes: Axes, x: str, y: str, legend: bool = False) -> str:
    """Title the axes, and encode the figure as SVG."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if legend:
        axes.legend(frameon=False, fontsize=9)
    return _encode(figure, "svg", transparent=True, metadata={"Date": None})


def _encode(figure: Figure, kind: str, **options: Any) -> str:
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format=kind, **options)
    mime = {"svg": "image/svg+xml", "png": "image/png"}[kind]
    return f"data:{mime};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _find_lines(folds: Sequence[FoldRecord], kind: str) -> list[tuple[FoldName, list[LogLine]]]:
    """Name and log lines of each fold that has lines of one kind."""
    return [(fold.number, lines) for fold in folds if (lines := fold.lines(kind))]


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
