"""unetpp beside nnU-Net v2: the same cases and folds, the same cores, the same minutes of training.

python benchmarks/quality/beside_nnunet.py DATA --out FOLDER --nnunet PYTHON [--minutes 5 20] [--seeds 0 1]
       [--sides unetpp nnunet-own nnunet-patch]
python benchmarks/quality/beside_nnunet.py DATA --out FOLDER --table

PYTHON is an interpreter with nnunetv2 (2.8); taskset gives both the cores. DATA is written once in nnU-Net's layout,
which both read; the folds are those of `unetpp plan`. unetpp trains with `unetpp train --minutes`, all that it measures
meanwhile included, and predicts with its default size without mirroring. nnU-Net trains with its own trainer, losses,
augmentation and mirrored prediction (nnunet_timed.py); only its steps count. Its network begins with 16 channels in
place of 32, because two cores make but a few steps with more; "own" has the patch and the batch of its own rules for
1 GB, "patch" those of unetpp. The same function scores the validation cases of both, on the grid of their files; unetpp
is also trained in a fifth of the minutes.
On one core (taskset -c 0) the minutes of both are those of the processor, which other work on the machine does not
touch. Each training appends a line to FOLDER/results.jsonl; those found there are not repeated.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from PIL import Image

import unetpp
from unetpp.data.case_files import read_case_classes, read_case_image
from unetpp.data.folds import read_splits
from unetpp.layouts.cases import find_cases
from unetpp.metrics.scores import bootstrap_interval, compute_dice_losses, mean_of
from unetpp.plan import Plan, read_plan

Row = dict[str, Any]
WIDTH = 16
FIFTH = 5
"""unetpp is also trained in so much less time."""
CORES = len(os.sched_getaffinity(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--nnunet", type=Path, metavar="PYTHON")
    parser.add_argument("--minutes", type=float, nargs="+", default=[5, 20])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--sides", nargs="+", default=["unetpp", "nnunet-own", "nnunet-patch"])
    parser.add_argument("--table", action="store_true", help="print the table; train nothing")
    options = parser.parse_args()
    name, results = options.data.resolve().name, options.out / "results.jsonl"
    if not options.table:
        raw = write_dataset(options.data, options.out, name)
        for minutes, seed, side in itertools.product(options.minutes, options.seeds, options.sides):
            for own in (minutes, minutes / FIFTH) if side == "unetpp" else (minutes,):
                key = {"data": name, "side": side, "minutes": own, "seed": seed}
                if any(key.items() <= row.items() for row in read_rows(results)):
                    continue
                if side == "unetpp":
                    row = key | train_unetpp(raw, options.out / "runs" / name, own, seed)
                else:
                    row = key | train_nnunet(options.nnunet, raw, options.out, side, own, seed)
                with results.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    print(make_table([row for row in read_rows(results) if row["data"] == name]))


def write_dataset(data: Path, out: Path, name: str) -> Path:
    """Write the cases in nnU-Net's layout, with the folds of `unetpp plan`; return the folder."""
    raw = out / "raw" / f"Dataset{100 + sum(map(ord, name)) % 900}_{name}"
    if (raw / "splits_final.json").exists():
        return raw
    planned = out / "planned" / name
    unetpp.plan(data, planned)
    plan, cases = read_plan(planned / "plan.json"), find_cases(data).cases
    suffix = ".png" if plan.data.dims == 2 else ".nii.gz"
    for folder in (raw / "imagesTr", raw / "labelsTr", held_out(raw) / "images", held_out(raw) / "labels"):
        folder.mkdir(parents=True, exist_ok=True)
    for case in cases:
        image, label = raw / "imagesTr" / f"{case.id}_0000{suffix}", raw / "labelsTr" / f"{case.id}{suffix}"
        if suffix == ".png":
            found = read_case_image(case, plan.data).array
            save_picture(np.broadcast_to(found, (len(plan.data.channels), *found.shape[1:])), image)
            Image.fromarray(read_case_classes(case, plan.data).astype(np.uint8)).save(label)
        else:
            shutil.copyfile(case.images[0], image)
            shutil.copyfile(case.labels[0], label)
    splits = [{"train": fold.train, "val": fold.validation} for fold in read_splits(planned / "splits.json")]
    for case_id in splits[0]["val"]:
        shutil.copy(raw / "imagesTr" / f"{case_id}_0000{suffix}", held_out(raw) / "images")
        shutil.copy(raw / "labelsTr" / f"{case_id}{suffix}", held_out(raw) / "labels")
    (raw / "dataset.json").write_text(json.dumps(declare(plan, len(cases), suffix)))
    (raw / "splits_final.json").write_text(json.dumps(splits))
    return raw


def held_out(raw: Path) -> Path:
    """Return the folder of the validation cases."""
    return raw.parent.parent / "validation" / raw.name


def save_picture(image: np.ndarray, path: Path) -> None:
    Image.fromarray(image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)).save(path)


def declare(plan: Plan, cases: int, suffix: str) -> dict[str, Any]:
    """Make dataset.json."""
    channels = ["R", "G", "B"] if len(plan.data.channels) == 3 else ["MRI" if plan.data.dims == 3 else "zscore"]
    return {
        "channel_names": {str(index): channel for index, channel in enumerate(channels)},
        "labels": {class_name: index for index, class_name in enumerate(plan.data.classes)},
        "numTraining": cases,
        "file_ending": suffix,
    }


def train_unetpp(raw: Path, folder: Path, minutes: float, seed: int) -> Row:
    run, predictions = folder / f"{minutes:g}-{seed}", folder / f"{minutes:g}-{seed}-predictions"
    shutil.rmtree(run, ignore_errors=True)
    started = time.perf_counter()
    program = [Path(__file__).parent.parent / "processor_clock.py"] if CORES == 1 else ["-m", "unetpp"]
    command = [sys.executable, *program, "train", raw, "--out", run, "--minutes", minutes, "--seed", seed]
    subprocess.run([*map(str, command), "--quiet"], check=True)
    trained = time.perf_counter()
    unetpp.predict(run, held_out(raw) / "images", predictions)
    predicted, plan = time.perf_counter(), read_plan(run / "plan.json")
    log = [json.loads(line) for line in (run / "fold_0" / "log.jsonl").read_text().splitlines()]
    return {
        "train_s": trained - started,
        "predict_s": predicted - trained,
        "steps": max(line["step"] for line in log if "step" in line),
        "patch": plan.train.patch,
        "batch": plan.train.batch,
        "widths": plan.model.widths,
    } | score(predictions, raw)


def train_nnunet(python: Path, raw: Path, out: Path, side: str, minutes: float, seed: int) -> Row:
    environment = os.environ | {
        "nnUNet_raw": str(raw.parent.resolve()),
        "nnUNet_preprocessed": str((out / "preprocessed").resolve()),
        "nnUNet_results": str((out / "results" / f"{side}-{minutes:g}-{seed}").resolve()),
        "nnUNet_def_n_proc": str(CORES),
    }
    plan = read_plan(out / "planned" / raw.name.split("_", 1)[1] / "plan.json")
    program, prepared = Path(__file__).parent / "nnunet_timed.py", out / f"{raw.name}-{side}.json"

    def call(what: str, answer: Path, *given: object) -> Row:
        # 0: in the process whose time is counted; but nnU-Net's planning wants one at least
        augmenting = {"nnUNet_n_proc_DA": str(0 if CORES == 1 and what == "train" else CORES)}
        command = list(map(str, (python, program, what, raw.name, answer, *given)))
        subprocess.run(command, check=True, env=environment | augmenting)
        found: Row = json.loads(answer.read_text())
        return found

    if not prepared.exists():
        patch = ("--patch", *plan.train.patch, "--batch", plan.train.batch) if side == "nnunet-patch" else ()
        call("prepare", prepared, "--width", WIDTH, *patch)
    folder = out / "preprocessed" / raw.name
    shutil.copyfile(raw / "splits_final.json", folder / "splits_final.json")
    plans = json.loads(prepared.read_text())["plans"]
    row = call("train", out / "last.json", "--plans", plans, "--minutes", minutes, "--seed", seed)
    return row | score(Path(row.pop("predictions")), raw)


def score(predictions: Path, raw: Path) -> Row:
    """Score predictions against the labels of the validation cases; only those of unetpp name the classes."""
    found = unetpp.evaluate(predictions, held_out(raw) / "labels", labels="classes").to_dict()
    names = list(json.loads((raw / "dataset.json").read_text())["labels"])[1:]

    def name_dice(classes: Row) -> dict[str, float | None]:
        return {name: scores["dice"] for name, scores in zip(names, classes.values(), strict=True)}

    return {
        "dice": found["mean"]["dice"],
        "classes": name_dice(found["classes"]),
        "cases": {case["id"].removesuffix("_0000"): name_dice(case["classes"]) for case in found["cases"]},
    }


def read_rows(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def make_table(rows: Sequence[Row]) -> str:
    """Make a table: mean over seeds, and the differences of unetpp to each, in points."""
    groups: defaultdict[tuple[float, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["minutes"], row["side"]].append(row)
    classes = list(rows[0]["classes"])
    heads = ["minutes", "side", "seeds", "steps", "Dice", *(f"Dice {name}" for name in classes[1:] and classes)]
    heads += ["unetpp minus this, points", "unetpp in a fifth of the minutes minus this"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for (minutes, side), group in sorted(groups.items()):
        cells = [f"{minutes:g}", side, str(len(group)), f"{mean(row['steps'] for row in group):.0f}"]
        cells.append(f"{mean(row['dice'] for row in group):.4f}")
        cells += [f"{mean(row['classes'][name] for row in group):.4f}" for name in classes[1:] and classes]
        for own in (minutes, minutes / FIFTH):
            ours = groups.get((own, "unetpp"), []) if side != "unetpp" else []
            cells.append("; ".join(compare(ours, group, name) for name in classes) if ours else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def compare(ours: Sequence[Row], others: Sequence[Row], name: str) -> str:
    """Average the Dice of a class over the seeds that both have, and bootstrap the differences over cases."""
    seeds = {row["seed"] for row in ours} & {row["seed"] for row in others}
    if not seeds:
        return ""
    cases = sorted(set(ours[0]["cases"]) & set(others[0]["cases"]))

    def average(rows: Sequence[Row], case: str) -> float | None:
        return mean_of(row["cases"][case][name] for row in rows if row["seed"] in seeds)

    differences = compute_dice_losses(
        [average(ours, case) for case in cases], [average(others, case) for case in cases]
    )
    interval = bootstrap_interval([100 * each for each in differences])
    return f"{100 * mean(differences):+.2f}" + (f" [{interval[0]:+.2f}, {interval[1]:+.2f}]" if interval else "")


if __name__ == "__main__":
    main()
