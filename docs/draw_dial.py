"""Draw docs/dial.png: one image segmented at every depth of one trained network, with the time and the Dice of each.

    python docs/draw_dial.py RUN IMAGE [MASK] [--measure | --milliseconds MS ...] [--crop TOP,LEFT,SIZE]
                             [--out docs/dial.png]

The segmentations are predicted anew. Dice (of all validation cases, not of the image), milliseconds for a tile and the
recommended depth are those in RUN/fold_0/metrics.json. For a run whose machine was busy, --measure measures the
milliseconds again, and --milliseconds takes those of the same network from elsewhere, one number for each depth. With
MASK, a grey image whose background is 0, the errors of each depth are drawn too.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

import unetpp

matplotlib.use("agg")
from matplotlib import pyplot

HERE = Path(__file__).parent
RIGHT, MISSED, EXTRA = (0.0, 0.7, 0.25), (0.95, 0.55, 0.05), (0.85, 0.1, 0.6)
PANEL_INCHES, DPI = 2.1, 110


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("mask", type=Path, nargs="?")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--measure", action="store_true")
    source.add_argument("--milliseconds", type=float, nargs="+", metavar="MS")
    parser.add_argument("--crop", type=lambda text: tuple(map(int, text.split(","))), metavar="TOP,LEFT,SIZE")
    parser.add_argument("--out", type=Path, default=HERE / "dial.png")
    options = parser.parse_args()
    metrics = json.loads((options.run / "fold_0" / "metrics.json").read_text())
    times = options.milliseconds
    if options.measure:
        measured = unetpp.info(options.run, measure=True, device="cpu").notes.depths
        times = [measured[int(depth)].latency_ms for depth in metrics["depths"]]
    if times:
        for row, time in zip(metrics["depths"].values(), times, strict=True):
            row["latency_ms"] = time
    image = np.asarray(Image.open(options.image).convert("RGB")) / 255
    found = unetpp.load(options.run, device="cpu").predict(options.image, depth="all")
    mask = None if options.mask is None else np.asarray(Image.open(options.mask)) > 0
    size = draw(image, {depth: each > 0 for depth, each in found.items()}, mask, metrics, options.crop, options.out)
    print(f"{options.out}: {size / 1000:.0f} kB")


def draw(
    image: np.ndarray,
    found: dict[int, np.ndarray],
    mask: np.ndarray | None,
    metrics: dict[str, Any],
    crop: tuple[int, int, int] | None,
    out: Path,
) -> int:
    """Write the picture.

    Args:
        image: (Y, X, 3), 0 to 1.
        found: depth -> foreground (Y, X).
        mask: true foreground (Y, X).
        metrics: what metrics.json holds: the depth table and the recommended depth.
        crop: top, left and size of the square to show; None: the largest in the middle.
        out: PNG file.

    Returns:
        Its size in bytes.
    """
    top, left, size = crop or middle(image.shape[:2])
    window = np.s_[top : top + size, left : left + size]
    recommended = (metrics.get("recommended") or {}).get("depth")
    figure, axes = pyplot.subplots(
        1, 1 + len(found), figsize=(PANEL_INCHES * (1 + len(found)), PANEL_INCHES * 1.36), dpi=DPI
    )
    axes[0].imshow(image[window], interpolation="lanczos")
    axes[0].set_title("image", fontsize=11)
    if mask is not None:
        legend = [("found", RIGHT), ("missed", MISSED), ("false", EXTRA)]
        for number, (word, colour) in enumerate(legend):
            axes[0].text(
                0.17 + 0.33 * number,
                -0.05,
                word,
                color=colour,
                fontsize=10,
                weight="bold",
                ha="center",
                va="top",
                transform=axes[0].transAxes,
            )
    for panel, (depth, segmentation) in zip(axes[1:], found.items(), strict=True):
        panel.imshow(overlay(image[window], segmentation[window], None if mask is None else mask[window]))
        row = metrics["depths"][str(depth)]
        chosen = depth == recommended
        panel.set_title(
            f"depth {depth}" + (", recommended" if chosen else ""), fontsize=11, weight="bold" if chosen else None
        )
        panel.text(
            0.5,
            -0.05,
            f"{row['latency_ms']:.0f} ms a tile\nDice {row['dice']:.3f}",
            fontsize=11,
            weight="bold" if chosen else None,
            ha="center",
            va="top",
            transform=panel.transAxes,
        )
    for panel in axes:
        panel.set_axis_off()
    figure.subplots_adjust(left=0.005, right=0.995, top=0.92, bottom=0.19, wspace=0.04)
    buffer = io.BytesIO()
    figure.savefig(buffer, facecolor="white")
    pyplot.close(figure)
    # a palette, refined so that rare colours stay what they are, makes the file half as large
    picture = Image.open(buffer).convert("RGB").quantize(256, kmeans=4, dither=Image.Dither.NONE)
    picture.save(out, optimize=True)
    return out.stat().st_size


def middle(shape: tuple[int, ...]) -> tuple[int, int, int]:
    size = min(shape)
    return (shape[0] - size) // 2, (shape[1] - size) // 2, size


def overlay(image: np.ndarray, segmentation: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """The image with what was found, missed and found falsely in colour; without a mask all that was found is right."""
    true = segmentation if mask is None else mask
    shown = image.copy()
    for where, colour, weight in (
        (segmentation & true, RIGHT, 0.5),
        (true & ~segmentation, MISSED, 0.9),
        (segmentation & ~true, EXTRA, 0.9),
    ):
        shown[where] = (1 - weight) * shown[where] + weight * np.array(colour)
    return shown


if __name__ == "__main__":
    main()
