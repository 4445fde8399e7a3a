"""Compare the prediction of volumes, from file to file, with MONAI and nnU-Net: same network, same tiles, float32.

python -m benchmarks.predict --out FOLDER [--classes 1 2 20] [--shape 192 352 352] [--rounds 3]

The volume has voxels of 1 mm and the network works at 1.5 mm, so the prediction has to be resampled back. Every run is
a separate process, and the three engines take turns. "Reading" is the time to the first tile, "network" is the time in
the network, and "rest" is all other time: blending, resampling back, choosing classes, writing. Peak memory is the
highest memory that the system records, less the memory that the process held before it began. Needs `nnunetv2` (the
group `benchmarks`); Linux only.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.predict.engines import ENGINES, IMPORTS
from benchmarks.predict.sizes import memory_mb
from torch import Tensor, nn

from unetpp.model.build import build_from_plan, model_plan
from unetpp.model.file import load_model, save_model
from unetpp.plan import DataPlan, Normalization, Plan, PredictPlan, TrainPlan

PARTS = ("reading", "network", "rest")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--classes", type=int, nargs="+", default=[1, 2, 20], help="foreground classes")
    parser.add_argument("--shape", type=int, nargs=3, default=[192, 352, 352])
    parser.add_argument("--tile", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--run", nargs=2, metavar=("ENGINE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        print(json.dumps(predicted(options.run[0], Path(options.run[1]))))
        return
    rows = []
    for classes in options.classes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            make_model(folder / "model.safetensors", classes, options.tile)
            make_volume(folder / "image.nii.gz", options.shape)
            rows += compared(folder, classes, options)
    table = to_markdown(rows, options.shape)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "predict.json").write_text(json.dumps(rows, indent=1))
        (options.out / "predict.md").write_text(table)
    print(table)


def compared(folder: Path, classes: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure each engine, and return a row for each.

    A row has medians over rounds in which the engines take turns, and the share of voxels with the same class as ours.
    """
    found: dict[str, list[dict[str, float]]] = {engine: [] for engine in options.engines}
    for _ in range(options.rounds):
        for engine, runs in found.items():
            answer = subprocess.run(
                [sys.executable, "-m", "benchmarks.predict", "--run", engine, str(folder)],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            runs.append(json.loads(answer.stdout.splitlines()[-1]))
    ours = segmentation(folder / "unetpp")
    rows = []
    for engine, runs in found.items():
        row: dict[str, Any] = {
            "classes": classes,
            "engine": engine,
            "same_as_ours": float((segmentation(folder / engine) == ours).mean()),
        }
        row |= {key: statistics.median(run[key] for run in runs) for key in (*PARTS, "seconds", "peak_mb")}
        print(row, flush=True)
        rows.append(row)
    return rows


def predicted(engine: str, folder: Path) -> dict[str, float]:
    """Predict once in this process, and return times and peak memory."""
    torch.set_num_threads(2)
    network, header = load_model(folder / "model.safetensors")
    watch = Stopwatch(network.eval())
    import_module(IMPORTS[engine])
    before, started = memory_mb("VmRSS"), time.perf_counter()
    ENGINES[engine](network, header.plan, folder / "image.nii.gz", folder / engine)
    seconds = time.perf_counter() - started
    reading = (watch.first or started) - started
    return {
        "seconds": seconds,
        "reading": reading,
        "network": watch.seconds,
        "rest": seconds - reading - watch.seconds,
        "peak_mb": memory_mb("VmHWM") - before,
    }


class Stopwatch:
    """Add up the time that a network takes."""

    def __init__(self, network: nn.Module) -> None:
        self.first: float | None = None
        self.seconds = 0.0
        self._started = 0.0
        network.register_forward_pre_hook(self._start)
        network.register_forward_hook(self._stop)

    def _start(self, network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._started = time.perf_counter()
        self.first = self.first or self._started

    def _stop(self, network: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.seconds += time.perf_counter() - self._started


def make_model(path: Path, classes: int, tile: int) -> None:
    """Save a small network, because the benchmark measures the code around it."""
    torch.manual_seed(0)
    names = ("background", *(f"class {number}" for number in range(1, classes + 1)))
    plan = Plan(
        name="benchmark",
        data=DataPlan(
            dims=3,
            channels=("image",),
            classes=names,
            label_values=tuple(range(classes + 1)),
            spacing_mm=(1.5, 1.5, 1.5),
            normalization=(Normalization(per_case=True),),
        ),
        model=model_plan(
            topology="unet++",
            dims=3,
            in_channels=1,
            out_channels=classes + 1,
            depth=2,
            first_width=4,
            norm="instance",
        ),
        train=TrainPlan(patch=(tile,) * 3, batch=1, steps_per_epoch=1, epochs=1),
        predict=PredictPlan(tile=(tile,) * 3, depth=2),
    )
    save_model(path, build_from_plan(plan.model).state_dict(), plan)


def make_volume(path: Path, shape: list[int]) -> None:
    """Save smooth blobs with noise, in whole numbers as from scanners."""
    import nibabel
    from scipy.ndimage import zoom

    rng = np.random.default_rng(0)
    blobs = zoom(rng.standard_normal([size // 16 for size in shape]).astype(np.float32), 16, order=1)
    nibabel.save(
        nibabel.Nifti1Image((200 * blobs + 20 * rng.standard_normal(blobs.shape)).astype(np.int16), np.eye(4)), path
    )


def segmentation(folder: Path) -> np.ndarray:
    import nibabel

    return np.asarray(nibabel.load(folder / "image.nii.gz").dataobj)


def to_markdown(rows: list[dict[str, Any]], shape: list[int]) -> str:
    voxels = float(np.prod(shape))
    lines = [
        "| foreground classes | who | s | million voxels a second | reading, s | network, s | rest, s | peak, MB "
        "| rest / ours | memory / ours | same classes as ours |"
    ]
    lines += ["|---|" + "---|" * 10]
    for row in rows:
        ours = next(other for other in rows if other["engine"] == "unetpp" and other["classes"] == row["classes"])
        parts = " | ".join(f"{row[part]:.1f}" for part in PARTS)
        ratios = (
            f"{row['rest'] / ours['rest']:.1f} | {row['peak_mb'] / ours['peak_mb']:.1f} | {row['same_as_ours']:.2%}"
        )
        lines.append(
            f"| {row['classes']} | {row['engine']} | {row['seconds']:.1f} | {voxels / row['seconds'] / 1e6:.2f} "
            f"| {parts} | {row['peak_mb']:.0f} | {ratios} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
