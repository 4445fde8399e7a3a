"""Requests of small images a second: one at a time, eight in flight, without batching, and `unetpp predict` beside it.

python -m benchmarks.serve.throughput MODEL IMAGES [--count 40] [--rounds 3] [--longest 256]

All take turns in one run, as other work on the machine falls on all of them alike. Also compares all segmentations with
those of `predict`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from benchmarks.serve.server import Started, start_server

from unetpp.client import Client
from unetpp.formats.readers import open_image, read_label

PREDICT = """
import sys, time
from pathlib import Path
import unetpp
from unetpp.infer.options import PredictOptions
model, out, *files = sys.argv[1:]
predictor = unetpp.load(model)
for name, given in (("warm", files[:3]), ("out", files)):
    started, busy = time.perf_counter(), time.process_time()
    predictor.predict_files(given, Path(out) / name, PredictOptions("all"))
    print(time.perf_counter() - started, time.process_time() - busy)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("images", type=Path)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--longest", type=int, default=256, help="longest side of the images that are taken")
    arguments = parser.parse_args()
    files = [
        path for path in sorted(arguments.images.iterdir()) if max(open_image(path).shape[1:]) <= arguments.longest
    ]
    files = files[: arguments.count]
    measured: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        with start_server(arguments.model) as batching, start_server(arguments.model, together=1) as single:
            ways = {
                "one at a time": partial(ask, batching, files, 1),
                "8 in flight": partial(ask, batching, files, 8, out / "8"),
                "one at a time, batching off": partial(ask, single, files, 1, out / "1"),
                "8 in flight, batching off": partial(ask, single, files, 8),
                "unetpp predict": partial(predict, arguments.model, files, out / "predict"),
            }
            size = Client(batching.address).models()[0]["sizes"][-1]["size"]
            ask(batching, files, 8), ask(single, files[:3], 1)  # warm
            for _ in range(arguments.rounds):
                for name, measure in ways.items():
                    measured.setdefault(name, []).append(measure())
        differing = [compare(out / "predict" / "out", out / each, files, size) for each in ("8", "1")]
    show(measured, len(files))
    print(f"\nPixels unlike those of `predict`: {differing[0]} of 8 in flight, {differing[1]} of one at a time.")


def list_images(folder: Path, longest: int) -> list[Path]:
    """List the images of a folder of which no side is longer."""
    return [path for path in sorted(folder.iterdir()) if max(open_image(path).shape[1:]) <= longest]


def ask(server: Started, files: list[Path], in_flight: int, out: Path | None = None) -> tuple[float, float]:
    """Predict all files, and return the seconds and the processor seconds of the server."""
    client = Client(server.address, timeout_s=600)
    started, busy = time.perf_counter(), server.cpu_seconds()
    with ThreadPoolExecutor(in_flight) as pool:
        jobs = list(pool.map(client.predict, files))
    taken = time.perf_counter() - started, server.cpu_seconds() - busy
    for job in jobs if out else ():
        client.save(job, out or Path())
    return taken


def predict(model: str, files: list[Path], out: Path) -> tuple[float, float]:
    command = [sys.executable, "-c", PREDICT, model, str(out), *map(str, files)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    seconds, busy = map(float, lines[-1].split())
    return seconds, busy


def compare(predicted: Path, served: Path, files: list[Path], size: str) -> str:
    """Count the pixels of the largest size that differ."""
    (folder,) = [path for path in predicted.iterdir() if path.name.endswith(f"_{size}")]
    differ = total = 0
    for path in files:
        ours, theirs = read_label(served / path.name).array, read_label(folder / path.name).array
        differ, total = differ + int(np.count_nonzero(ours != theirs)), total + ours.size
    return f"{differ:,} of {total:,}"


def show(measured: dict[str, list[tuple[float, float]]], count: int) -> None:
    base = [seconds for seconds, _ in measured["one at a time, batching off"]]
    print("| | requests a second | of one at a time, batching off | processor ms a request |\n|---|---|---|---|")
    for name, taken in measured.items():
        rate = statistics.median(count / seconds for seconds, _ in taken)
        ratios = sorted(first / seconds for first, (seconds, _) in zip(base, taken, strict=True))
        busy = statistics.median(1e3 * cpu / count for _, cpu in taken)
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"| {name} | {rate:.2f} | {spread} | {busy:.0f} |")


if __name__ == "__main__":
    main()
