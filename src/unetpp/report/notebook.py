"""Results in notebooks: tables and pictures as HTML, and pages that open themselves. Found by name from `results`."""

from __future__ import annotations

import base64
import io
import os
import sys
import webbrowser
from collections.abc import Sequence
from html import escape
from pathlib import Path
from uuid import uuid4

import numpy as np
from PIL import Image

from unetpp.dial import list_remarks, list_rows, noun_of
from unetpp.errors import UnetppError
from unetpp.formats.readers import read_label
from unetpp.measured import DepthRow, Scores, tabulate
from unetpp.report.gallery import Pencil, draw_pictures
from unetpp.report.pictures import PANELS, class_colors, list_colors
from unetpp.report.run_record import read_run
from unetpp.results import Evaluated, Predicted, Result, Run

PICTURES = 3
"""Largest number of pictures in a result."""
LONGEST_SIDE = 320
"""Pixels of a picture; larger ones are subsampled."""
WIDTH = 900
"""Pixels of the panels of a case."""
LARGEST_FILE = 50_000_000
"""Bytes; larger segmentations are not drawn."""
BACKGROUND = "#20242a"
STYLE = "max-width: 100%; image-rendering: pixelated"
WRAPPED = "white-space: pre-wrap; overflow-wrap: anywhere"
"""Style of texts whose lines, such as paths, may be wider than the cell."""


def to_html(result: Result) -> str:
    """Show a result as a notebook does: a run with its depth table and pictures, scores as a table, others as text."""
    if isinstance(result, Run):
        return "".join([*_draw_run(result), _preformat("\n".join(result.describe_end()))])
    if isinstance(result, Evaluated):
        rows = [("mean", result.metrics.mean), ("pooled", result.metrics.pooled), *result.metrics.classes.items()]
        return _table(tabulate("", Scores, rows, result.metrics.distance_unit)) + _preformat(result.to_text())
    pictures = _draw_predictions(result) if isinstance(result, Predicted) and result.written else []
    return _preformat(result.to_text()) + "".join(pictures)


def open_page(path: Path) -> None:
    """Open an HTML file in the notebook, where Python runs in one, else in the browser; its path is printed too."""
    print(path)
    display = sys.modules.get("IPython.display")
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if display is None or shell is None or not hasattr(shell, "kernel"):
        webbrowser.open(path.resolve().as_uri())
        return
    place = os.path.relpath(path)
    inside = not place.startswith(os.pardir)  # notebooks show files below their own folder
    shown = display.IFrame(place, "100%", 800) if inside else display.FileLink(str(path))
    display.display(shown)


def draw_segmentation(segmentation: np.ndarray) -> str:
    """Draw class indices or label values as a picture; of a volume, the slice with most foreground."""
    while segmentation.ndim > 2:
        across = tuple(range(1, segmentation.ndim))
        segmentation = segmentation[int(np.argmax(np.count_nonzero(segmentation, axis=across)))]
    step = max(1, -(-max(segmentation.shape) // LONGEST_SIDE))
    values, indices = np.unique(segmentation[::step, ::step], return_inverse=True)
    foreground = iter(class_colors(len(values) + 1))
    colors = [BACKGROUND if value == 0 else next(foreground) for value in values]
    table, buffer = np.array([list(bytes.fromhex(color[1:])) for color in colors], dtype=np.uint8), io.BytesIO()
    Image.fromarray(table[indices]).save(buffer, format="PNG")
    return f'<img style="{STYLE}" src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode("ascii")}">'


def _draw_run(run: Run) -> list[str]:
    parts = []
    for fold in run.folds:
        metrics = fold.metrics
        parts.append(f"<p><b>fold {fold.fold}</b>, {fold.steps} steps ({escape(fold.reason)})</p>")
        rows = list_rows(metrics)
        unit, counts = metrics.distance_unit, metrics.count_cases()
        parts.append(_table(tabulate(noun_of(metrics), DepthRow, rows, unit, brief=True, counts=counts)))
        parts += [f"<p>{escape(text)}</p>" for text in list_remarks(metrics)]
        parts += [f"<p>{partial}</p>"] if (partial := metrics.describe_scored()) else []
    try:
        record = read_run(run.run)
        pictures = draw_pictures(record, Pencil(), PICTURES)
    except UnetppError:  # moved since
        pictures = []
    if pictures:
        colors = list_colors(record.plan.data.classes)
        legend = [f'<span style="color: {color}">&#9632;</span> {escape(meaning)}' for color, meaning in colors]
        parts.append(f"<p>{', '.join(PANELS)}: {' '.join(legend)}</p>")
    for picture in pictures:
        dice = "" if picture.case.mean.dice is None else f", Dice {picture.case.mean.dice:.3f}"
        parts.append(f"<p>{escape(f'{picture.rank}: {picture.case.id}{dice}')}</p>")
        svg = picture.svg.replace(f"image-{picture.number}", uuid4().hex)  # a notebook has other pictures
        parts.append(f'<div style="max-width: {WIDTH}px">{svg}</div>')
    return parts


def _draw_predictions(result: Predicted) -> list[str]:
    parts: list[str] = []
    for path in result.files[:PICTURES]:
        try:
            if path.stat().st_size <= LARGEST_FILE:
                parts.append(f"<p>{escape(path.name)}</p>{draw_segmentation(read_label(path).array)}")
        except (OSError, UnetppError):  # moved since
            continue
    return parts


def _preformat(text: str) -> str:
    return f'<pre style="{WRAPPED}">{escape(text)}</pre>'


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
