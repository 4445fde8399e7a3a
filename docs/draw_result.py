"""Draw docs/result.png: images beside the outlines that a trained model finds in them.

python docs/draw_result.py MODEL IMAGE ... [--out docs/result.png]
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image

import unetpp

matplotlib.use("agg")
from matplotlib import pyplot

HERE = Path(__file__).parent
PANEL_INCHES, DPI = 1.9, 100
SIDE = 256
"""Largest side of the square that is shown, in pixels."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=HERE / "result.png")
    options = parser.parse_args()
    predictor = unetpp.load(options.model, device="cpu")
    pairs = [(np.asarray(Image.open(path).convert("RGB")), predictor.predict(path) > 0) for path in options.images]
    print(f"{options.out}: {draw(pairs, options.out) / 1000:.0f} kB")


def draw(pairs: Sequence[tuple[np.ndarray, np.ndarray]], out: Path) -> int:
    """Write the picture.

    Args:
        pairs: images (Y, X, 3) of 8 bits, each with its foreground (Y, X).
        out: PNG file.

    Returns:
        Its size in bytes.
    """
    count = 2 * len(pairs)
    figure, axes = pyplot.subplots(1, count, figsize=(PANEL_INCHES * count, PANEL_INCHES), dpi=DPI)
    for (image, found), panels in zip(pairs, axes.reshape(-1, 2), strict=True):
        side = min(SIDE, *found.shape)
        window = tuple(slice((size - side) // 2, (size + side) // 2) for size in found.shape)
        bright = np.clip(image[window] * (255 / max(1.0, float(np.percentile(image, 99.8)))), 0, 255) / 255
        for panel in panels:
            panel.imshow(bright, interpolation="lanczos")
            panel.set_axis_off()
        if found[window].any():
            panels[1].contour(found[window], [0.5], colors="#ffcf00", linewidths=1.2)
    figure.subplots_adjust(left=0, right=1, top=1, bottom=0, wspace=0.03)
    buffer = io.BytesIO()
    figure.savefig(buffer, facecolor="white")
    pyplot.close(figure)
    # a palette makes the file half as large
    Image.open(buffer).convert("RGB").quantize(256, kmeans=2, dither=Image.Dither.NONE).save(out, optimize=True)
    return out.stat().st_size


if __name__ == "__main__":
    main()
