"""Measure the memory and time of predicting large images, from file to file.

    python -m benchmarks.predict.sizes                         2000, 4000, 8000 and 16000 pixels square
    python -m benchmarks.predict.sizes --sizes 4000 --suffix .tif

Every size is predicted in a separate process with a small network, to measure the code around the network instead of
the network. The goal is less than 2 GB above the loaded model at 16,000 x 16,000, and the same seconds per megapixel at
every size. Peak memory is the highest memory of the process that the kernel records (VmHWM), less the memory held when
the model was loaded. If other programs are running, CPU seconds are more reliable than seconds. Linux only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LIMIT_MB = 2000


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        run(["make-model", str(folder), "--width", str(options.width), "--tile", str(options.tile)])
        print(
            f"RGB {options.suffix}, width {options.width}, depth 2, tile {options.tile}, overlap 0.5, "
            f"{options.threads} threads"
        )
        print(f"{'pixels':>15} {'seconds':>9} {'s/megapixel':>12} {'CPU s/megapixel':>16} {'peak MB above model':>20}")
        for size in options.sizes:
            run(["make-image", str(folder), "--sizes", str(size), "--suffix", options.suffix])
            row = json.loads(
                run(
                    [
                        "predict",
                        str(folder),
                        "--sizes",
                        str(size),
                        "--suffix",
                        options.suffix,
                        "--threads",
                        str(options.threads),
                    ]
                ).splitlines()[-1]
            )
            verdict = "" if row["peak_mb"] < LIMIT_MB else f"  above {LIMIT_MB} MB"
            wall, cpu = (row[key] / size**2 * 1e6 for key in ("seconds", "cpu_seconds"))
            print(
                f"{f'{size} x {size}':>15} {row['seconds']:>9.1f} {wall:>12.3f} {cpu:>16.3f} "
                f"{row['peak_mb']:>20.0f}{verdict}",
                flush=True,
            )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "step",
        nargs="?",
        default="all",
        choices=["all", "make-model", "make-image", "predict"],
        help="what a process of its own does; all: the benchmark",
    )
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=None,
        help="where the images are made, some 1.5 GB; by default the system's temporary folder",
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[2000, 4000, 8000, 16000])
    parser.add_argument("--suffix", default=".png", choices=[".png", ".tif", ".jpg"])
    parser.add_argument("--width", type=int, default=4, help="channels of the first level")
    parser.add_argument("--tile", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def run(arguments: list[str]) -> str:
    finished = subprocess.run([sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return finished.stdout


def make_model(options: argparse.Namespace) -> None:
    from unetpp.model.build import build_from_plan, model_plan
    from unetpp.model.file import save_model
    from unetpp.plan import DataPlan, Normalization, Plan, PredictPlan, TrainPlan

    tile = (options.tile, options.tile)
    colours = ("red", "green", "blue")
    plan = Plan(
        name="memory",
        data=DataPlan(
            dims=2,
            channels=colours,
            classes=("background", "foreground"),
            label_values=(0, 255),
            normalization=(Normalization(),) * 3,
        ),
        model=model_plan(
            topology="unet++", in_channels=3, out_channels=2, depth=2, first_width=options.width, norm="batch"
        ),
        train=TrainPlan(patch=tile, batch=1, steps_per_epoch=1, epochs=1),
        predict=PredictPlan(tile=tile, batch=4, depth=2),
    )
    save_model(options.folder / "model.safetensors", build_from_plan(plan.model).state_dict(), plan)


def make_image(options: argparse.Namespace) -> None:
    """Save an image of bright discs on a dark, noisy background."""
    import numpy as np

    size = options.sizes[0]
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:500, :500]
    block = (
        40
        + 160 * ((row % 125 - 62) ** 2 + (column % 125 - 62) ** 2 < 40**2)[..., None]
        + rng.integers(0, 16, (500, 500, 3))
    )
    repeats = -(-size // 500)
    image = np.tile(block.astype(np.uint8), (repeats, repeats, 1))[:size, :size]
    path = image_path(options)
    if path.suffix == ".tif":
        import tifffile

        tifffile.imwrite(path, image, photometric="rgb", tile=(512, 512), compression="deflate")
    else:
        from PIL import Image

        Image.fromarray(image).save(path, compress_level=1)  # other formats than PNG ignore it


def predict(options: argparse.Namespace) -> None:
    import torch

    from unetpp.infer.predictor import load_predictor

    torch.set_num_threads(options.threads)
    predictor = load_predictor(options.folder / "model.safetensors", device="cpu")
    loaded = memory_mb("VmRSS")
    started, cpu_started = time.perf_counter(), time.process_time()
    written = predictor.predict_files([image_path(options)], options.folder / "out")
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    if written.failed:
        sys.exit(str(written.failed[0]))
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mb": memory_mb("VmHWM") - loaded}))


def image_path(options: argparse.Namespace) -> Path:
    path: Path = options.folder / "in" / f"image_{options.sizes[0]}{options.suffix}"
    path.parent.mkdir(exist_ok=True)
    return path


def memory_mb(field: str) -> float:
    """Return the memory of this process in MB: VmRSS (now) or VmHWM (peak)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1e3
    raise RuntimeError(f"/proc/self/status has no {field}")


if __name__ == "__main__":
    arguments = parse()
    steps = {"make-model": make_model, "make-image": make_image, "predict": predict}
    steps[arguments.step](arguments) if arguments.step in steps else main()
