"""Images of one stain: a network trained anew against one that starts from a model of another stain, in equal time.

python benchmarks/fine_tuning.py ../shared/data/nuclei --out FOLDER --minutes 2 10 --seeds 0 1 2

The model is trained once, on dark fluorescence (grey). Then 20 images of purple histology (red, green, blue) are
trained on; all others of them validate. Minutes are those of `train`: planning, training and scoring. A variant is a
name, "new" or "from" in front, and settings. Each training appends a line to FOLDER/results.jsonl; trainings found
there are skipped.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from PIL import Image

import unetpp
from unetpp.data.folds import Split, write_splits

COLORED, DARK = 20, 80
"""Mean difference between the channels of a stained image; median of an image on a dark ground is below."""
VARIANTS = [
    ["new"],
    ["from"],
    ["from at the usual rates", "train.learning_rate=0.003", "train.kernel_learning_rate=0.02"],
    ["from at a tenth", "train.learning_rate=0.0003", "train.kernel_learning_rate=0.002"],
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder with images/ and instances/")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, nargs="+", default=[2, 10])
    parser.add_argument("--source-minutes", type=float, default=20, help="of the model to start from")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=20, help="number to train on")
    parser.add_argument("--most", type=int, default=10**6, help="largest number of images of each stain")
    parser.add_argument("--variant", nargs="+", action="append", metavar="NAME SETTING")
    parser.add_argument("--set", nargs="+", default=[], metavar="SETTING", help="settings of the model to start from")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    stains = {name: link(given.data, given.out / name, paths[: given.most]) for name, paths in sort(given.data).items()}
    source = given.out / "source"
    if not (source / "fold_0/metrics.json").exists():
        unetpp.train(stains["dark"], source, minutes=given.source_minutes, set=given.set, resume=source.exists())
    split = draw(stains["purple"], given.images)
    for minutes in given.minutes:
        for seed in given.seeds:
            for name, *settings in given.variant or VARIANTS:
                key = {"variant": name, "minutes": minutes, "seed": seed}
                if not any(key.items() <= row.items() for row in read_rows(given.out)):
                    start = source if name.startswith("from") else None
                    row = key | train(stains["purple"], given.out / "run", split, start, settings, minutes, seed)
                    with (given.out / "results.jsonl").open("a") as file:
                        file.write(json.dumps(row) + "\n")
                    print(row, flush=True)
    print(make_table(read_rows(given.out)))


def sort(data: Path) -> dict[str, list[Path]]:
    """Sort the images by their stain: dark (fluorescence), purple (histology) and others."""
    found: dict[str, list[Path]] = {"dark": [], "purple": []}
    for path in sorted((data / "images").iterdir()):
        image = np.asarray(Image.open(path).convert("RGB").resize((64, 64)), float)
        if np.ptp(image, axis=-1).mean() > COLORED:
            found["purple"].append(path)
        elif np.median(image) < DARK:
            found["dark"].append(path)
    return found


def link(data: Path, folder: Path, images: list[Path]) -> Path:
    """Make a data set of some images of another."""
    for kind in ("images", "instances"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for image in images:
            place = folder / kind / image.name
            if not place.exists():
                place.symlink_to((data / kind / image.name).resolve())
    return folder


def draw(data: Path, count: int) -> Split:
    """Draw the images to train on; the others validate."""
    names = sorted(path.stem for path in (data / "images").iterdir())
    order = [str(name) for name in np.random.default_rng(0).permutation(names)]
    return Split(tuple(sorted(order[:count])), tuple(sorted(order[count:])))


def train(
    data: Path, run: Path, split: Split, start: Path | None, settings: list[str], minutes: float, seed: int
) -> dict[str, Any]:
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir()
    write_splits(run / "splits.json", [split])
    fold = unetpp.train(data, run, from_=start, minutes=minutes, seed=seed, set=settings).folds[0]
    dice = {case.id: case.mean.dice for case in fold.metrics.cases}
    return {"settings": settings, "steps": fold.steps, "dice": fold.metrics.mean.dice, "cases": dice}


def read_rows(out: Path) -> list[dict[str, Any]]:
    path = out / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def make_table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| minutes | variant | seeds | steps | Dice, mean and deviation over seeds | paired difference to new |",
        "|---|---|---|---|---|---|",
    ]
    for minutes, name in dict.fromkeys((row["minutes"], row["variant"]) for row in rows):
        mine = [row for row in rows if (row["minutes"], row["variant"]) == (minutes, name)]
        scores = [row["dice"] for row in mine]
        text = f"{mean(scores):.4f}" + (f" ± {stdev(scores):.4f}" if len(scores) > 1 else "")
        steps = mean(row["steps"] for row in mine)
        lines.append(f"| {minutes:g} | {name} | {len(mine)} | {steps:.0f} | {text} | {compare(mine, rows)} |")
    return "\n".join(lines)


def compare(mine: list[dict[str, Any]], rows: list[dict[str, Any]]) -> str:
    """Compare with the training anew of the same minutes and seeds: mean over the cases that all of them have scored
    in their time, and its 95 % interval."""
    new = {(row["minutes"], row["seed"]): row["cases"] for row in rows if row["variant"] == "new"}
    pairs = [(row["cases"], new[row["minutes"], row["seed"]]) for row in mine if (row["minutes"], row["seed"]) in new]
    if not pairs or mine[0]["variant"] == "new":
        return "-"
    common = sorted(set.intersection(*(set(each) for pair in pairs for each in pair)))
    gains = np.array([mean(a[case] - b[case] for a, b in pairs) for case in common])
    drawn = np.random.default_rng(0).choice(gains, (2000, len(gains))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{gains.mean():+.4f} ({low:+.4f} to {high:+.4f})"


if __name__ == "__main__":
    main()
