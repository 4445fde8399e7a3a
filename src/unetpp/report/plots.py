"""The pictures of the report, as text of an `<img src=...>`: curves as SVG, overlays as PNG."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from unetpp.measured import DepthRow, ScoredCase
from unetpp.report.run_record import FoldRecord, seconds_of
from unetpp.report.views import View

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#1f2933", "#66727f", "#e3e8ee"
COLOURS = ("#2f6fde", "#e8833a", "#2a9d6f", "#a855c8", "#d64550", "#17a2b8", "#8a6d3b", "#5b6bbf")
"""Of depths, folds and classes."""
SHALLOW_TO_DEEP = ("#b9cdf5", "#86aaf0", "#4f82e6", "#1f57c3", "#123a8a", "#0b2559")
REFERENCE, PREDICTION, MISSED, EXTRA = "#35e08c", "#ffb02e", "#3fa7ff", "#ff4d6d"
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


def plot_loss(folds: Sequence[FoldRecord]) -> str | None:
    """Training loss over minutes."""
    found = [(fold, fold.lines("train")) for fold in folds]
    if not any(lines for _, lines in found):
        return None
    figure, axes = _figure()
    for colour, (fold, lines) in zip(_cycle(COLOURS, len(found)), found, strict=True):
        minutes, loss = [seconds_of(line) / 60 for line in lines], [line.get("loss") for line in lines]
        axes.plot(minutes, _numbers(loss), color=colour, linewidth=1.0, alpha=0.35)
        axes.plot(minutes, _smooth(_numbers(loss)), color=colour, linewidth=1.8, label=f"fold {fold.number}")
    _finish(axes, "minutes of training", "loss", legend=len(found) > 1)
    return _svg(figure)


def plot_validation(folds: Sequence[FoldRecord]) -> str | None:
    """Dice on validation cases over minutes: every depth of one fold, or the deepest of several."""
    found = [(fold, fold.lines("validation")) for fold in folds if fold.lines("validation")]
    if not found:
        return None
    figure, axes = _figure()
    if len(found) == 1:
        lines = found[0][1]
        depths = list((lines[-1].get("depths") or {"": 0}).keys())
        for colour, depth in zip(_depth_colours(len(depths)), depths, strict=True):
            values = [(line.get("depths") or {}).get(depth, line.get("dice")) for line in lines]
            axes.plot(
                [seconds_of(line) / 60 for line in lines],
                _numbers(values),
                color=colour,
                linewidth=1.8,
                marker="o",
                markersize=3.5,
                label=f"depth {depth}",
            )
    else:
        for colour, (fold, lines) in zip(_cycle(COLOURS, len(found)), found, strict=True):
            axes.plot(
                [seconds_of(line) / 60 for line in lines],
                _numbers([line.get("dice") for line in lines]),
                color=colour,
                linewidth=1.8,
                marker="o",
                markersize=3.5,
                label=f"fold {fold.number}",
            )
    _finish(axes, "minutes of training", "validation Dice", legend=True)
    return _svg(figure)


def plot_learning_rate(folds: Sequence[FoldRecord]) -> str | None:
    """Learning rate over minutes, of the first fold."""
    lines = next((fold.lines("train") for fold in folds if fold.lines("train")), [])
    if not lines:
        return None
    figure, axes = _figure(height=1.9)
    axes.plot(
        [seconds_of(line) / 60 for line in lines],
        _numbers([line.get("learning_rate") for line in lines]),
        color=COLOURS[0],
        linewidth=1.6,
    )
    _finish(axes, "minutes of training", "learning rate")
    return _svg(figure)


def plot_speed(folds: Sequence[FoldRecord]) -> str | None:
    """Throughput over minutes, of the first fold."""
    lines = next((fold.lines("train") for fold in folds if fold.lines("train")), [])
    if not lines:
        return None
    figure, axes = _figure(height=1.9)
    axes.plot(
        [seconds_of(line) / 60 for line in lines],
        _numbers([line.get("images_per_second") for line in lines]),
        color=COLOURS[2],
        linewidth=1.6,
    )
    axes.set_ylim(bottom=0)
    _finish(axes, "minutes of training", "patches per second")
    return _svg(figure)


def plot_trade(table: Mapping[str, DepthRow], recommended: int | None = None) -> str | None:
    """Dice over latency, one point for each depth, a ring around the recommended one."""
    points = [
        (depth, row.latency_ms, row.dice)
        for depth, row in table.items()
        if depth != "mean" and row.latency_ms is not None and row.dice is not None
    ]
    if len(points) < 2:
        return None
    figure, axes = _figure(height=2.7)
    axes.plot([x for _, x, _ in points], [y for _, _, y in points], color=GRID, linewidth=2, zorder=1)
    for colour, (depth, x, y) in zip(_depth_colours(len(points)), points, strict=True):
        axes.scatter([x], [y], s=70, color=colour, zorder=2)
        if depth == str(recommended):
            axes.scatter([x], [y], s=230, facecolors="none", edgecolors=COLOURS[1], linewidths=1.8, zorder=3)
        axes.annotate(
            f"depth {depth}", (x, y), textcoords="offset points", xytext=(0, 9), ha="center", fontsize=9, color=INK
        )
    axes.set_xlim(left=0)
    axes.margins(x=0.12, y=0.25)
    _finish(axes, "milliseconds for a tile", "Dice")
    return _svg(figure)


def plot_cases(cases: Sequence[ScoredCase]) -> str | None:
    """Dice of every case, sorted."""
    values = sorted(case.mean.dice for case in cases if case.mean.dice is not None)
    if len(values) < 2:
        return None
    figure, axes = _figure(height=2.7)
    axes.bar(range(len(values)), values, width=0.85, color=COLOURS[0], alpha=0.8)
    axes.axhline(float(np.mean(values)), color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate(
        f"mean {np.mean(values):.3f}",
        (0, float(np.mean(values))),
        textcoords="offset points",
        xytext=(2, 4),
        fontsize=9,
        color=INK,
    )
    axes.set_ylim(max(0.0, min(values) - 0.1), min(1.0, max(values) + 0.08))
    axes.set_xticks([])
    _finish(axes, f"{len(values)} cases, worst to best", "Dice")
    return _svg(figure)


def draw_view(view: View, num_classes: int) -> str:
    """Three panels: the image; contours of reference and prediction; what was missed and what is too much."""
    from matplotlib.figure import Figure

    height, width = view.reference.shape
    shape = height * view.aspect / width
    figure = Figure(figsize=(9.6, 3.2 * shape), dpi=100)
    panels = figure.subplots(1, 3, gridspec_kw={"wspace": 0.02, "left": 0, "right": 1, "top": 1, "bottom": 0})
    for axes in panels:
        axes.imshow(
            view.image,
            cmap="gray",
            vmin=0,
            vmax=255,
            aspect=view.aspect,
            interpolation="nearest" if width < 200 else "antialiased",
        )
        axes.set_axis_off()
    _draw_contours(panels[1], view, num_classes)
    panels[2].imshow(_errors(view), aspect=view.aspect, interpolation="nearest")
    return _encoded(figure, "png")


def class_colours(num_classes: int) -> list[str]:
    """Colour of each foreground class's contours."""
    return (
        [REFERENCE]
        if num_classes == 2
        else [
            colour
            for colour in _cycle((REFERENCE, "#ff5fa2", "#5cc8ff", "#ffd23f", "#c38bff", "#ff8a3d"), num_classes - 1)
        ]
    )


def _draw_contours(axes: Axes, view: View, num_classes: int) -> None:
    width = 1.1 if max(view.reference.shape) > 200 else 1.7
    height, length = view.reference.shape
    for index, colour in enumerate(class_colours(num_classes), start=1):
        predicted = PREDICTION if num_classes == 2 else colour
        for labels, edge, style in (
            (view.reference, colour, "solid"),
            (view.prediction, predicted, "solid" if num_classes == 2 else "dashed"),
        ):
            mask = np.pad(labels == index, 1).astype(np.float32)
            if mask.any():
                rows, columns = (np.arange(size) - 1 for size in mask.shape)
                axes.contour(columns, rows, mask, levels=[0.5], colors=[edge], linewidths=width, linestyles=style)
    axes.set_xlim(-0.5, length - 0.5)
    axes.set_ylim(height - 0.5, -0.5)


def _errors(view: View) -> np.ndarray:
    """Colours with transparency: blue where the reference has a class that was missed, red where the prediction has one too much."""
    wrong = view.reference != view.prediction
    colours = np.zeros((*wrong.shape, 4), dtype=np.uint8)
    colours[wrong & (view.reference > 0)] = _rgba(MISSED)
    colours[wrong & (view.reference == 0)] = _rgba(EXTRA)
    return colours


def _rgba(colour: str, alpha: int = 215) -> tuple[int, int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16), alpha


def _figure(height: float = 2.7) -> tuple[Figure, Axes]:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.4, height), layout="constrained")
        axes = figure.subplots()
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)
    return figure, axes


def _finish(axes: Axes, x: str, y: str, legend: bool = False) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if legend:
        axes.legend(frameon=False, fontsize=9)


def _svg(figure: Figure) -> str:
    return _encoded(figure, "svg")


def _encoded(figure: Figure, kind: str) -> str:
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(
            buffer, format=kind, transparent=kind == "svg", metadata={"Date": None} if kind == "svg" else None
        )
    mime = "image/svg+xml" if kind == "svg" else "image/png"
    return f"data:{mime};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else float(value) for value in values])


def _smooth(values: np.ndarray) -> np.ndarray:
    """Mean over a window of a twentieth of the curve around each point."""
    reach = len(values) // 40
    padded = np.pad(values.astype(np.float64), reach, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    known = ~np.isnan(windows)
    return np.where(known.any(axis=1), np.where(known, windows, 0).sum(axis=1) / known.sum(axis=1).clip(min=1), np.nan)


def _cycle(colours: Sequence[str], count: int) -> list[str]:
    return [colours[number % len(colours)] for number in range(count)]


def _depth_colours(count: int) -> list[str]:
    if count > len(SHALLOW_TO_DEEP):
        return _cycle(COLOURS, count)
    return list(SHALLOW_TO_DEEP[-count:]) if count > 4 else list(SHALLOW_TO_DEEP[max(0, 4 - count) : 4])
