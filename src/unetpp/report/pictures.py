"""Views of cases as SVG: the image is in it once, contours and differences lie over copies of it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from unetpp.infer.overlay import COLORS
from unetpp.report.views import View

REFERENCE, PREDICTION, MISSED, EXTRA = COLORS[0], "#ffb02e", "#3fa7ff", "#ff4d6d"
OPACITY = 215
"""Alpha of the differences, 0 to 255."""
CONTOURED_SIDE = 480
"""Pixels of the longest side of contours, about: labels of fewer are enlarged, so that their contours are fine."""
EXACT_SIDE = 128
"""Images with a longest side of fewer pixels are shown pixel by pixel."""
PANELS = ("image", "contours", "differences")
SHARP = ' style="image-rendering:pixelated"'
GAP = 0.02
"""Distance of two panels, in widths of one."""


def class_colors(num_classes: int) -> list[str]:
    """Contour color of each foreground class."""
    return [COLORS[index % len(COLORS)] for index in range(num_classes - 1)]


def list_colors(classes: Sequence[str]) -> list[tuple[str, str]]:
    """List color and meaning of the contours and differences, given the names of the classes, background first."""
    contours = list(zip(class_colors(len(classes)), classes[1:], strict=True))
    if len(contours) == 1:
        contours = [(REFERENCE, "reference"), (PREDICTION, "prediction")]
    return [*contours, (MISSED, "missed, or another class"), (EXTRA, "extra")]


def draw_view(view: View, num_classes: int, name: str, compares: bool = True) -> str:
    """Draw three panels: the image; contours of reference and prediction; missed and extra voxels.

    Args:
        view: what is drawn.
        num_classes: number of classes, background included.
        name: name of the image, unique in its page.
        compares: False leaves out the third panel, of a view without a prediction.

    Returns:
        An `<svg>` element.
    """
    height, width = view.reference.shape
    tall, step = height * view.aspect, width * (1 + GAP)
    size = f'width="{width}" height="{tall:.5g}" preserveAspectRatio="none"'
    exact = max(height, width) < EXACT_SIDE
    image = _encode(Image.fromarray(np.ascontiguousarray(view.image)), "webp", lossless=exact, quality=75)
    differences = [f'<image href="{_draw_differences(view)}" x="{2 * step:.5g}" {size}{SHARP}/>'] if compares else []
    copies = (1, 2) if compares else (1,)
    return "".join(
        [
            f'<svg viewBox="0 0 {len(copies) * step + width:.5g} {tall:.5g}" aria-hidden="true">',
            f'<image id="{name}" href="{image}" {size}{SHARP * exact}/>',
            *(f'<use href="#{name}" x="{place * step:.5g}"/>' for place in copies),
            f'<image href="{_draw_contours(view, num_classes)}" x="{step:.5g}" {size}/>',
            *differences,
            "</svg>",
        ]
    )


def _draw_contours(view: View, num_classes: int) -> str:
    """Draw the borders of the classes, those of the prediction over them: thin and in a color of its own, or dashed."""
    factor = max(1, round(CONTOURED_SIDE / max(view.reference.shape)))
    reference, prediction = (each.repeat(factor, 0).repeat(factor, 1) for each in (view.reference, view.prediction))
    width = max(1, round(max(reference.shape) / 400))
    drawn = _find_borders(reference, 2 * width)
    colors: Sequence[str] = COLORS
    if num_classes == 2:
        colors, over = (REFERENCE, PREDICTION), 2 * _find_borders(prediction, width)
    else:
        rows, columns = np.indices(drawn.shape)
        over = np.where((rows + columns) // (7 * width) % 2, _find_borders(prediction, 2 * width), 0)
    drawn = np.where(over > 0, over, drawn)
    return _encode_colors(np.where(drawn > 0, (drawn - 1) % len(colors) + 1, 0), colors)


def _find_borders(classes: np.ndarray, width: int) -> np.ndarray:
    """Keep only the class indices that are next to another class."""
    from scipy.ndimage import maximum_filter, minimum_filter

    size = 2 * width + 1
    inner = minimum_filter(classes, size, mode="nearest") == maximum_filter(classes, size, mode="nearest")
    return np.where(inner, 0, classes).astype(np.int64)


def _draw_differences(view: View) -> str:
    """Draw a missed or another class of the reference in one color, foreground on background in another."""
    wrong = view.reference != view.prediction
    return _encode_colors(np.where(wrong, np.where(view.reference > 0, 1, 2), 0), [MISSED, EXTRA], OPACITY)


def _encode_colors(indices: np.ndarray, colors: Sequence[str], opacity: int = 255) -> str:
    """Encode indices of colors; index 0 is transparent."""
    image = Image.fromarray(indices.astype(np.uint8))
    image.putpalette(bytes(3) + b"".join(bytes.fromhex(color[1:]) for color in colors))
    return _encode(image, "png", transparency=bytes([0, *[opacity] * len(colors)]))


def _encode(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
