"""Peak memory and speed of one image that goes block by block from an OME-Zarr store into another.

    python -m benchmarks.blocks FOLDER --gigabytes 0.03 0.07 0.13
    python -m benchmarks.blocks FOLDER --gigabytes 20 --limit 2
    python -m benchmarks.blocks FOLDER --gigabytes 0.03 1 --one-block      # the image is measured, one block predicted

For each size a synthetic volume is written (cubes of random voxels, repeated), and predicted by a command of its own,
whose largest memory is that of the whole process: Python, torch, model, block. With --limit a larger one is an error.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from math import ceil
from pathlib import Path

import numpy as np

SIDE = 256
"""Cubes of the volume; a block of the labels is as large."""


def write_volume(place: Path, gigabytes: float) -> int:
    """Write a volume of 16 bits of about this size, and return the number of its voxels."""
    import zarr

    cubes = max(1, ceil(gigabytes * 1e9 / 2 / SIDE**3))
    across = next(side for side in range(1, cubes + 1) if side**3 >= cubes)
    shape = (SIDE * ceil(cubes / across**2), SIDE * min(across, cubes), SIDE * min(across, ceil(cubes / across)))
    scale = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
    image = {
        "axes": [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"],
        "datasets": [{"path": "0", "coordinateTransformations": scale}],
    }
    zarr.create_group(str(place), zarr_format=3, attributes={"ome": {"version": "0.5", "multiscales": [image]}})
    array = zarr.create_array(
        str(place), name="0", shape=shape, chunks=(64,) * 3, shards=(SIDE,) * 3, dtype="uint16", compressors=None
    )
    cube = np.random.default_rng(0).integers(0, 4096, (SIDE,) * 3).astype(np.uint16)
    for z in range(0, shape[0], SIDE):
        for y in range(0, shape[1], SIDE):
            for x in range(0, shape[2], SIDE):
                array[z : z + SIDE, y : y + SIDE, x : x + SIDE] = cube
    return int(np.prod(shape))


def write_model(path: Path) -> None:
    """Write a small network with random weights, normalized by each image, which is measured first."""
    import torch

    from unetpp.measured import Notes
    from unetpp.model.build import build_from_plan, model_plan
    from unetpp.model.file import save_model
    from unetpp.plan import Plan

    model = model_plan(topology="unet++", dims=3, depth=1, out_channels=2, widths=[8, 16])
    data = {"dims": 3, "channels": ["image"], "classes": ["background", "cell"], "label_values": [0, 1]}
    values = {
        "name": "blocks",
        "data": {**data, "normalization": [{"per_case": True}]},
        "model": model.model_dump(),
        "train": {"patch": [64] * 3, "batch": 1, "steps_per_epoch": 1, "epochs": 1},
        "predict": {"tile": [96] * 3, "depth": 1, "overlap": 0.1},
    }
    plan = Plan.from_dict(values)
    torch.manual_seed(0)
    save_model(path, build_from_plan(plan.model).state_dict(), plan, Notes())


def predict(model: Path, place: Path, out: Path, more: list[str]) -> tuple[float, float]:
    """Predict in a process of its own; return its seconds of processor time, and its largest memory in GB."""
    command = [sys.executable, "-m", "unetpp", "predict", str(model), str(place), "--out", str(out), "--quiet", *more]
    process = subprocess.Popen([*command, "--device", "cpu", "--backend", "torch"], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"the command failed: {' '.join(command)}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e9


def main() -> None:
    """Print one line for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[0.03, 0.07, 0.13])
    parser.add_argument("--limit", type=float, help="largest memory of a worker in GB")
    parser.add_argument("--one-block", action="store_true", help="predict the block in the middle alone")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    model = arguments.folder / "model.safetensors"
    write_model(model)
    print("| GB | blocks | predicted | processor seconds | peak GB |")
    for gigabytes in arguments.gigabytes:
        place = arguments.folder / f"in_{gigabytes:g}.zarr"
        voxels = write_volume(place, gigabytes)
        blocks = voxels // SIDE**3
        more = ["--part", f"{blocks // 2 + 1}/{blocks}"] if arguments.one_block else []
        seconds, peak = predict(model, place, arguments.folder / f"out_{gigabytes:g}.zarr", more)
        done = 1 if arguments.one_block else blocks
        print(f"| {2 * voxels / 1e9:.3f} | {blocks} | {done} | {seconds:.0f} | {peak:.2f} |", flush=True)
        if arguments.limit and peak > arguments.limit:
            raise SystemExit(f"{peak:.2f} GB are more than {arguments.limit:g}")


if __name__ == "__main__":
    main()
