"""Predicted and measured peak memory of a training step and of a pass of prediction, for 42 networks and arithmetics.

    python benchmarks/memory_model.py OUT.jsonl [--only NAME ...] [--picture OUT.svg]

Each plan is trained for two steps, and predicts tiles of the size of its patches, each in a process of its own: a copy
of one that has loaded the libraries and done small ones. The growth of its memory is measured, with the weights; in
training with their average and the optimizer. malloc maps every large
tensor by itself there, so that what is measured is in use, not left in holes. One thread, patches of seconds. Every
measurement appends a line to OUT.jsonl; plans found there are skipped, while predictions are made anew. Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import itertools
import os
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from timed_training import append_row, read_rows

from unetpp.infer.memory import count_prediction_bytes, predict_zeros
from unetpp.model.build import build_from_plan, model_plan
from unetpp.plan import ModelPlan, PredictPlan, TrainPlan
from unetpp.train.memory import count_training_bytes
from unetpp.train.step import TrainingStep

CPU = torch.device("cpu")
WANTED = 0.15
"""Largest difference between predicted and measured, as a fraction of the measured."""
MMAP_THRESHOLD = -3
"""Name of glibc's malloc.h: from this size on a block is mapped by itself, and returned when it is freed."""
MAPPED_BYTES = 65536
FLAT: dict[str, Any] = {
    "dims": 2,
    "patch": (160, 160),
    "batch": 2,
    "widths": (16, 32, 64, 128),
    "topology": "unet++",
}
SOLID: dict[str, Any] = {"dims": 3, "patch": (40, 40, 40), "batch": 1, "widths": (16, 32, 64), "topology": "unet++"}
NESTED: dict[str, Any] = {"topology": None}
"""The default: a U-Net of two widths."""
WIDE: dict[str, Any] = {"patch": (64, 64), "widths": (32, 64, 128, 256, 512)}
PLANS: dict[str, dict[str, Any]] = {
    "2D": FLAT,
    "3D": SOLID,
    "2D default": FLAT | NESTED,
    "3D default bf16": SOLID | NESTED | {"precision": "bf16"},
    "2D bf16": FLAT | {"precision": "bf16"},
    "3D bf16": SOLID | {"precision": "bf16"},
    "2D instance": FLAT | {"norm": "instance"},
    "3D instance unet": SOLID | {"norm": "instance", "topology": "unet"},
    "2D unet": FLAT | {"topology": "unet"},
    "2D cheap": FLAT | {"checkpointing": "cheap"},
    "2D shells distilled": FLAT | {"shells": (0.5, 1), "distillation": True},
    "2D wide": FLAT | WIDE,
    "2D 20 classes": FLAT | {"out_channels": 20},
    "3D batch 2": SOLID | {"batch": 2, "patch": (24, 32, 40)},
    "2D unet+": FLAT | {"topology": "unet+"},
    "2D unet_e": FLAT | {"topology": "unet_e"},
    "2D batch norm": FLAT | {"norm": "batch"},
    "2D layer norm": FLAT | {"norm": "layer"},
    "2D no norm": FLAT | {"norm": "none"},
    "2D bf16 instance": FLAT | {"precision": "bf16", "norm": "instance"},
    "2D bf16 batch norm cheap": FLAT | {"precision": "bf16", "norm": "batch", "checkpointing": "cheap"},
    "2D checkpointing": FLAT | {"checkpointing": True},
    "2D plain": FLAT | {"block": "plain"},
    "2D residual bf16": FLAT | {"block": "residual", "precision": "bf16"},
    "2D linear": FLAT | {"up": "linear"},
    "2D pixel shuffle": FLAT | {"up": "pixel_shuffle"},
    "2D scse": FLAT | {"activation": "gelu", "dropout": 0.1, "attention": "scse"},
    "2D shells": FLAT | {"shells": (0.5, 1)},
    "2D wide adamw": FLAT | WIDE | {"optimizer": "adamw"},
    "2D resnet18": FLAT | {"encoder": "resnet18", "widths": None, "depth": 4, "in_channels": 3, "norm": "batch"},
    "2D resenc": FLAT | {"encoder": "resenc"},
    "2D large": FLAT | {"patch": (320, 320), "topology": "unet"},
    "2D many": FLAT | {"patch": (64, 64), "batch": 12},
    "2D odd": FLAT | {"patch": (153, 107), "batch": 3},
    "3D unet": SOLID | {"topology": "unet"},
    "3D instance": SOLID | {"norm": "instance"},
    "3D batch norm": SOLID | {"norm": "batch"},
    "3D bf16 instance": SOLID | {"precision": "bf16", "norm": "instance"},
    "3D cheap": SOLID | {"checkpointing": "cheap"},
    "3D checkpointing": SOLID | {"checkpointing": True},
    "3D flat strides": SOLID | {"patch": (12, 72, 72), "strides": ((1, 2, 2), (2, 2, 2))},
    "3D wide unet": SOLID | {"patch": (24, 24, 24), "widths": (32, 64, 128, 256), "topology": "unet"},
}
"""Fields of the network and of its training, by name."""
TRAINING, PREDICTION = "training", "prediction"
TICKS = (20, 50, 100, 200, 300)
"""MB on the axes of the picture."""
STEP = ("patch", "batch", "precision", "checkpointing", "optimizer", "distillation")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="measurements, a line of JSON each")
    parser.add_argument("--only", nargs="+", default=[*PLANS], help="names of plans")
    parser.add_argument("--measure", action="store_true", help="measure alone; predict in a later call")
    parser.add_argument("--picture", type=Path, help="SVG of predicted over measured")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    measure_missing(arguments.out, arguments.only)
    if arguments.measure:
        return
    rows = [predict(row) for row in read_rows(arguments.out) if row["plan"] in arguments.only]
    for of in (TRAINING, PREDICTION):
        print(f"{of}\n\n{make_table([row for row in rows if row['of'] == of])}\n")
    if arguments.picture:
        draw(rows, arguments.picture)


def split(fields: dict[str, Any]) -> tuple[ModelPlan, TrainPlan]:
    """Make the plans of a network and of its training."""
    network = {key: value for key, value in fields.items() if key not in STEP and value is not None}
    train = TrainPlan(steps_per_epoch=1, epochs=1, **{key: fields[key] for key in STEP if key in fields})
    return model_plan(**{"in_channels": 1, "out_channels": 3, **network}), train


def measure_missing(out: Path, names: Sequence[str]) -> None:
    """Measure what `out` has no line of."""
    done = {(row["plan"], row["of"]) for row in read_rows(out)}
    missing = [each for each in itertools.product(names, (TRAINING, PREDICTION)) if each not in done]
    if not missing:
        return
    ctypes.CDLL("libc.so.6").mallopt(MMAP_THRESHOLD, MAPPED_BYTES)
    for fields in (FLAT | {"patch": (16, 16)}, SOLID | {"patch": (8, 8, 8), "precision": "bf16"}):
        # loads all libraries; of other widths, so that no code for a plan is there already
        for run in (train_two_steps, predict_tiles):
            run(*split(fields | {"widths": (8, 8)}))
    for name, of in missing:
        run = train_two_steps if of == TRAINING else predict_tiles
        append_row(out, {"plan": name, "of": of, "measured_mb": measure(partial(run, *split(PLANS[name])))})


def train_two_steps(model: ModelPlan, train: TrainPlan) -> None:
    """Train; only at the second step has the optimizer its state from the start."""
    step = TrainingStep(build_from_plan(model), model, train, CPU)
    for number in range(2):
        images = torch.randn(train.batch, model.in_channels, *train.patch)
        step((images, torch.randint(model.out_channels, (train.batch, 1, *train.patch))), number, 0.5)


def plan_prediction(model: ModelPlan, train: TrainPlan) -> PredictPlan:
    """Plan tiles like the patches of training, of the largest size."""
    return PredictPlan(tile=train.patch, batch=train.batch, precision=train.precision, depth=max(model.list_sizes()))


def predict_tiles(model: ModelPlan, train: TrainPlan) -> None:
    """Predict one batch of tiles."""
    predict_zeros(model, plan_prediction(model, train), CPU)


def measure(run: Callable[[], None]) -> float:
    """Measure in a copy of this process the MB by which a computation makes it grow."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed before must not be used again uncounted
    reading, writing = os.pipe()
    if child := os.fork():
        os.close(writing)
        with os.fdopen(reading) as answer:
            text = answer.read()
        os.waitpid(child, 0)
        return round(float(text) / 1e6, 2)
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the largest resident memory
        before = read_status()["RssAnon"]
        run()
        after = read_status()
        # a copy maps the files of its libraries again, page by page: they do not count
        os.write(writing, str(after["VmHWM"] - after["RssFile"] - before).encode())
    except BaseException:
        traceback.print_exc()
    os._exit(0)


def read_status() -> dict[str, int]:
    """Read the memory of this process, in bytes."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {line[0].rstrip(":"): 1024 * int(line[1]) for line in lines if line[-1] == "kB"}


def predict(row: dict[str, Any]) -> dict[str, Any]:
    """Add to a measurement what is predicted, in MB, and the seconds of computing that this took."""
    started, (model, train) = time.process_time(), split(PLANS[row["plan"]])
    if row["of"] == TRAINING:
        predicted = count_training_bytes(model, train, CPU)
    else:
        predicted = count_prediction_bytes(model, plan_prediction(model, train), CPU)
    return row | {"predicted_mb": predicted / 1e6, "seconds": time.process_time() - started}


def make_table(rows: Sequence[dict[str, Any]]) -> str:
    """Make a table in Markdown of all plans, and below it a summary."""
    lines = ["| plan | measured, MB | predicted | |", "|---|---|---|---|"]
    for row in rows:
        cells = (row["plan"], f"{row['measured_mb']:.0f}", f"{row['predicted_mb']:.0f}", f"{_difference(row):+.0%}")
        lines.append(f"| {' | '.join(cells)} |")
    found = [abs(_difference(row)) for row in rows]
    within = sum(each <= WANTED for each in found)
    summary = f"{within} of {len(found)} within {WANTED:.0%}; median {median(found):.1%}, largest {max(found):.0%}"
    return "\n".join(
        [*lines, "", summary, f"a prediction takes {median(row['seconds'] for row in rows):.2f} s, median"]
    )


def _difference(row: dict[str, Any]) -> float:
    return float(row["predicted_mb"] / row["measured_mb"] - 1)


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw predicted over measured, with the band that is wanted."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"svg.hashsalt": "memory", "svg.fonttype": "none"})

    figure, axes = pyplot.subplots(figsize=(5, 4.5), layout="constrained")
    measured = [row["measured_mb"] for row in rows]
    ends = [0.8 * min(measured), 1.25 * max(measured)]
    axes.fill_between(ends, *([scale * end for end in ends] for scale in (1 - WANTED, 1 + WANTED)), alpha=0.2)
    for of, mark in ((TRAINING, "o"), (PREDICTION, "^")):
        points = [(row["measured_mb"], row["predicted_mb"]) for row in rows if row["of"] == of]
        axes.plot(*zip(*points, strict=True), mark, markersize=4, label=of)
    axes.legend()
    axes.set(xscale="log", yscale="log", xlabel="measured peak, MB", ylabel="predicted, MB")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks([], minor=True)
        axis.set_ticks(TICKS, labels=list(map(str, TICKS)))
    figure.savefig(path, metadata={"Date": None})  # the same bytes from the same measurements


if __name__ == "__main__":
    main()
