"""Peak memory and speed of one image that goes block by block from an OME-Zarr store into another.

    python -m benchmarks.blocks FOLDER --gigabytes 0.03 0.27 1.07 --one-block     # one process; one block is predicted
    python -m benchmarks.blocks FOLDER --gigabytes 20 --workers 2 --worker-gb 2   # workers of Dask with this limit
    python -m benchmarks.blocks FOLDER --plan 10000 10000 10000                   # what it takes; metadata alone

The volume is one cube of random voxels, again and again: its shards are one file by many names, so that 20 GB take
34 MB of the disk. Each size is predicted by a command of its own. With --workers a scheduler and workers of one thread
run beside it; the largest memory of each is told, and some blocks are compared with those that this process predicts.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

try:
    from benchmarks.block_workers import run_workers
except ModuleNotFoundError:
    from block_workers import run_workers

SIDE = 256
"""Cubes of the volume; a block of the labels is as large."""
LEVELS = 5
"""Levels of the planned volume."""


def write_volume(place: Path, gigabytes: float) -> int:
    """Write a volume of 16 bits of about this size, and return the number of its voxels."""
    cubes = max(1, ceil(gigabytes * 1e9 / 2 / SIDE**3))
    across = next(side for side in range(1, cubes + 1) if side**3 >= cubes)
    counts = ceil(cubes / across**2), min(across, cubes), min(across, ceil(cubes / across))
    shutil.rmtree(place, ignore_errors=True)
    make_arrays(place, [SIDE * count for count in counts], 1)[0][:SIDE, :SIDE, :SIDE] = make_cube()
    first = place / "0" / "c" / "0" / "0" / "0"
    for z, y, x in product(*map(range, counts)):
        shard = place / "0" / "c" / f"{z}" / f"{y}" / f"{x}"
        shard.parent.mkdir(parents=True, exist_ok=True)
        if shard != first:
            os.link(first, shard)
    return int(np.prod(counts)) * SIDE**3


def make_cube() -> np.ndarray:
    """Make the cube: noise, whose chunks do not compress."""
    return np.random.default_rng(0).integers(0, 4096, (SIDE,) * 3).astype(np.uint16)


def make_arrays(place: Path, shape: list[int], levels: int) -> list[Any]:
    """Make an OME-Zarr image without voxels, in shards of cubes."""
    import zarr

    described = [
        {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": [2.0**level] * 3}]}
        for level in range(levels)
    ]
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    ome = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": described}]}
    zarr.create_group(str(place), zarr_format=3, attributes={"ome": ome}, overwrite=True)
    options: dict[str, Any] = {"chunks": (64,) * 3, "shards": (SIDE,) * 3, "dtype": "uint16", "compressors": None}
    return [
        zarr.create_array(str(place), name=str(level), shape=[ceil(size / 2**level) for size in shape], **options)
        for level in range(levels)
    ]


def write_model(path: Path, per_case: bool, overlap: float) -> None:
    """Write a small network with random weights; with `per_case` normalized by each image, which is measured first."""
    import torch

    from unetpp.model.build import build_from_plan, model_plan
    from unetpp.model.file import save_model
    from unetpp.model_notes import Notes
    from unetpp.plan import Plan

    model = model_plan(topology="unet++", dims=3, depth=1, out_channels=2, widths=[8, 16])
    data = {"dims": 3, "channels": ["image"], "classes": ["background", "cell"], "label_values": [0, 1]}
    scale = {"per_case": True} if per_case else {"per_case": False, "mean": 2048.0, "std": 1182.0}
    values = {
        "name": "blocks",
        "data": {**data, "normalization": [scale]},
        "model": model.model_dump(),
        "train": {"patch": [64] * 3, "batch": 1, "steps_per_epoch": 1, "epochs": 1},
        "predict": {"tile": [96] * 3, "depth": 1, "overlap": overlap},
    }
    plan = Plan.from_dict(values)
    torch.manual_seed(0)
    save_model(path, build_from_plan(plan.model).state_dict(), plan, Notes())


def predict(model: Path, place: Path, out: Path, *more: str) -> tuple[float, float]:
    """Predict in a process of its own; return its seconds of processor time, and its largest memory in GB."""
    words = [sys.executable, "-m", "unetpp", "predict", str(model), str(place), "--out", str(out), *more]
    process = subprocess.Popen([*words, "--device", "cpu", "--backend", "torch"], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the command failed: {' '.join(words)}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e9


def predict_here(model: Path, place: Path, out: Path, blocks: int, arguments: argparse.Namespace) -> float:
    """Predict in one process, say what it took, and return its largest memory in GB."""
    more = ["--part", f"{blocks // 2 + 1}/{blocks}"] if arguments.one_block else []
    seconds, peak = predict(model, place, out, "--quiet", *more)
    done = 1 if arguments.one_block else blocks
    print(f"| {blocks * SIDE**3 * 2 / 1e9:.3f} | {blocks} | {done} | {seconds:.0f} | {peak:.2f} |", flush=True)
    return peak


def predict_on_workers(model: Path, place: Path, out: Path, blocks: int, arguments: argparse.Namespace) -> float:
    """Predict on workers, say what it took, compare some blocks, and return the largest memory of a worker in GB."""
    with run_workers(arguments.folder, arguments.workers, arguments.worker_gb) as workers:
        started = time.monotonic()
        predict(model, place, out, "--cluster", str(workers.file))
        seconds = time.monotonic() - started
    peaks = ", ".join(f"{peak:.2f}" for peak in workers.peaks_gb)
    print(
        f"| {blocks * SIDE**3 * 2 / 1e9:.3f} | {blocks} | {arguments.workers} | {seconds:.0f} | {peaks} |", flush=True
    )
    lost = len(workers.peaks_gb) - arguments.workers
    print(f"{lost} workers were lost and replaced" if lost else "no worker was lost")
    same = compare_blocks(model, place, out, arguments.check)
    print(f"{same} of {min(arguments.check, blocks)} blocks equal those of one process")
    if same < min(arguments.check, blocks):
        raise SystemExit(1)
    return max(workers.peaks_gb)


def compare_blocks(model: Path, place: Path, out: Path, count: int) -> int:
    """Predict some blocks here, and count those that equal what was written."""
    import zarr

    from unetpp.data.normalize import join_slabs
    from unetpp.formats.object_store import Objects
    from unetpp.formats.zarr_image import open_zarr_image
    from unetpp.infer.block_marks import Marks
    from unetpp.infer.block_tasks import ImagesOfStore, PredictBlock, measure_layer
    from unetpp.infer.label_store import LabelStore, plan_labels
    from unetpp.infer.loading import load
    from unetpp.infer.options import PredictOptions
    from unetpp.infer.remote import RemoteModel

    written = zarr.open_array(str(out / "labels" / "segmentation" / "0"), mode="r")
    images = ImagesOfStore(open_zarr_image(str(place)), (0,), False, load(model, "cpu", "torch").data)
    layers, known = images.list_layers(), dict[tuple[int, int], Any]()
    for layer in layers:  # whose voxels come again with each cube
        key = layer.rows.start % SIDE, layer.rows.stop - layer.rows.start
        known[key] = known.get(key) or measure_layer(images, 0, layer)
    slabs = [slab for each in layers for slab in known[each.rows.start % SIDE, each.rows.stop - each.rows.start]]
    scales = join_slabs(slabs, images.data.normalization)
    cuts = plan_labels(images.store, 3)
    store = LabelStore(Objects(str(out)), ("segmentation",), cuts, 3)
    asked = PredictBlock(
        RemoteModel(str(model), "cpu", "torch"), PredictOptions(), images, store, Marks(store.objects, "")
    )
    numbers = np.random.default_rng(0).choice(len(cuts[0]), min(count, len(cuts[0])), replace=False)
    areas = [cuts[0].area(int(number)) for number in numbers]
    return sum(np.array_equal(asked.predict(0, area, scales)[0], np.asarray(written[area])) for area in areas)


def plan(folder: Path, shape: list[int]) -> None:
    """Show what a volume takes, of which only the metadata are written: its voxels are 0."""
    place, model = folder / "planned.zarr", folder / "planned.safetensors"
    make_arrays(place, shape, LEVELS)
    write_model(model, per_case=False, overlap=0.25)
    words = [sys.executable, "-m", "unetpp", "predict", str(model), str(place), "--out", str(folder / "none.zarr")]
    subprocess.run([*words, "--dry-run", "--device", "cpu", "--backend", "torch"], check=True)


def main() -> None:
    """Print one line for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[0.03, 0.07, 0.13])
    parser.add_argument("--limit", type=float, help="largest memory of a process in GB; more is an error")
    parser.add_argument("--one-block", action="store_true", help="predict the block in the middle alone")
    parser.add_argument("--workers", type=int, default=0, help="workers of Dask, of one thread each")
    parser.add_argument("--worker-gb", type=float, default=2.0, help="memory limit of each")
    parser.add_argument("--check", type=int, default=3, help="blocks of the workers that are predicted here again")
    parser.add_argument("--plan", type=int, nargs=3, help="plan a volume of this size, and predict none")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.plan:
        plan(arguments.folder, arguments.plan)
        return
    model = arguments.folder / "model.safetensors"
    write_model(model, per_case=True, overlap=0.1)
    seconds = "workers | seconds" if arguments.workers else "predicted | processor seconds"
    print(f"| GB | blocks | {seconds} | peak GB |")
    for gigabytes in arguments.gigabytes:
        place, out = (arguments.folder / f"{name}_{gigabytes:g}.zarr" for name in ("in", "out"))
        blocks = write_volume(place, gigabytes) // SIDE**3
        run = predict_on_workers if arguments.workers else predict_here
        peak = run(model, place, out, blocks, arguments)
        if arguments.limit and peak > arguments.limit:
            raise SystemExit(f"{peak:.2f} GB are more than {arguments.limit:g}")


if __name__ == "__main__":
    main()
