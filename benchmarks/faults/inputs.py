"""What is trained and predicted while something breaks: seconds of work, cut into units small enough to be lost."""

from __future__ import annotations

import functools
import importlib
import json
import os
import shutil
from pathlib import Path

from tests.tiny import TINY

SETTINGS = ["--device", "cpu", "--set", *(f"{key}={json.dumps(value)}" for key, value in TINY.items())]
CHECKPOINTS = "train.checkpoint_minutes=0.001"
EPOCHS = "4"
CASES = 16
BLOCK, CHUNK = {2: 128}, {2: (64, 64)}


def lighten() -> None:
    """Let blocks be small, and leave out what takes seconds and is not disturbed: measured memory, and reports."""
    cut = importlib.import_module("unetpp.infer.block_cut")
    cut.BLOCK, cut.CHUNK = BLOCK, CHUNK  # type: ignore[attr-defined]
    fold = importlib.import_module("unetpp.verbs.fold")
    depth_table = importlib.import_module("unetpp.measure.depth_table")
    fold.measure_depths = functools.partial(depth_table.measure_depths, memory=False)  # type: ignore[attr-defined]
    training = importlib.import_module("unetpp.verbs.cluster_training")
    training.SILENT_S = 60.0  # type: ignore[attr-defined]  # instead of 30 minutes
    report = importlib.import_module("unetpp.report")
    report.write_report = lambda run: (run / "report.html", ())  # type: ignore[attr-defined]


def dask_setup(worker: object) -> None:
    """Make ready a worker that a nanny starts: Dask calls this."""
    lighten()


def write_data(folder: Path) -> None:
    """Write two data sets for training, and images to predict."""
    from unetpp.data.demo import write_demo_data

    for name, cases, shape in (("data", 10, (32, 40)), ("two", 2, (32, 40)), ("many", CASES, (96, 96))):
        write_demo_data(folder / name, 2, cases=cases, shape=shape)


def write_store(place: Path) -> None:
    """Write an image of 12 blocks as OME-Zarr."""
    import numpy as np
    from tests.zarr_images import write_image

    pixels = np.random.default_rng(0).integers(0, 255, (384, 512)).astype(np.uint8)
    write_image(place, pixels, "yx", (64, 64))


def read_tree(folder: Path) -> dict[str, bytes]:
    """Read all files of a folder but the temporary ones of processes that were killed."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".unetpp-"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def compare_trees(folder: Path, reference: Path) -> str | None:
    """Name the first file that differs between two folders; None: all bytes are equal."""
    ours, theirs = read_tree(folder), read_tree(reference)
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            what = "is missing" if name not in ours else "is too much" if name not in theirs else "differs"
            return f"{name} {what}"
    return None


def clear(folder: Path) -> None:
    """Remove a folder, whatever is in it."""
    shutil.rmtree(folder, ignore_errors=True)
    assert not os.path.exists(folder)
