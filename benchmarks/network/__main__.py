"""Compare this project's network with its peers, with the same weights and images, in one process.

python -m benchmarks.network --out FOLDER [--pairs smp monai2d monai3d nested] [--batches 1 8] [--rounds 7]
                             [--device cuda]

Each pair is timed in every setting that users of the peer have, and here in the same settings. All settings take turns
in each round; the times are medians and quartiles over the rounds. The logits of each setting are compared with those
of the peer in eager float32, and must agree within TOLERANCES. Memory is measured in a fresh process for each setting:
the peak (on a GPU, the peak of the allocator) less the memory held once the network and the image are loaded.
FOLDER/inference.json has a row for each setting, FOLDER/inference.md has the table. `training.py` measures training
steps.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from benchmarks.network.memory import peak_here_mb, peak_mb
from benchmarks.network.pairs import PAIRS, Pair
from benchmarks.network.settings import CPU_ALONE, CUDA_ALONE, NO_PEER, OURS_ALONE, SETTINGS, Run
from torch import Tensor

from unetpp.measure.roofline import count_macs_and_bytes, least_ms, measure_ceilings
from unetpp.runtime.cuda import CAPTURE_AFTER
from unetpp.runtime.stopwatch import synchronize

SIZES = {2: (256, 512), 3: (96,)}
TOLERANCES = {"fp32": 1e-4, "bf16": 0.05, "int8": float("inf")}
"""Largest relative difference that each arithmetic may cause.

int8 has no limit: here it is calibrated on the image itself, to measure its time only. `unetpp export --int8` measures
how int8 changes a segmentation.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--sizes", type=int, nargs="+", help="of images; default 256 and 512 in 2D, 96 in 3D")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--probe", nargs=5, metavar=("PAIR", "WHO", "SETTING", "BATCH", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe:
        name, who, setting, batch, size = options.probe
        print(json.dumps(probe(name, who, setting, int(batch), int(size), options.device)))
        return
    machine = measure_ceilings(options.device)
    settings = [name for name in options.settings if name not in (CUDA_ALONE if options.device == "cpu" else CPU_ALONE)]
    rows: list[dict[str, Any]] = []
    for name in options.pairs:
        pair = PAIRS[name]().on(options.device)
        for size in options.sizes or SIZES[pair.plan.model.dims]:
            for batch in options.batches:
                found = compared(pair, pair.image(batch, size), settings, options.rounds, machine)
                if not options.no_memory:
                    for row in found:
                        row["peak_mb"] = peak_mb(
                            "benchmarks.network",
                            name,
                            row["who"],
                            row["setting"],
                            str(batch),
                            str(size),
                            device=options.device,
                        )
                rows += found
                if options.out:
                    options.out.mkdir(parents=True, exist_ok=True)
                    (options.out / "inference.json").write_text(
                        json.dumps({"machine": machine, "rows": rows}, indent=1)
                    )
    table = f"{summary(rows)}\n{to_markdown(rows, machine)}"
    if options.out:
        (options.out / "inference.md").write_text(table)
    print(table)
    if apart := [
        f"{row['pair']}, {row['who']}, {row['setting']}, {row['shape']}: {row['relative_difference']:.1e}"
        for row in rows
        if not row["agrees"]
    ]:
        sys.exit("Outputs differ by more than the setting explains:\n" + "\n".join(apart))


@torch.inference_mode()
def compared(
    pair: Pair, image: Tensor, settings: list[str], rounds: int, machine: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Measure both networks in each setting, and return a row for each."""
    networks = {"peer": pair.peer, "unetpp": pair.ours}
    runs = {
        (who, name): SETTINGS[name](network, image)
        for who, network in networks.items()
        for name in settings
        if who == "unetpp" or name not in NO_PEER
    }
    expected = pair.peer(image)
    channels = expected.shape[1]  # an imported network of sigmoids has a background before them
    found = {key: run(image)[:, -channels:].float() for key, run in runs.items()}
    apart = {key: float((logits - expected).abs().max()) for key, logits in found.items()}
    relative = {key: float((logits - expected).norm() / expected.norm()) for key, logits in found.items()}
    labels = {key: float((logits.argmax(1) == expected.argmax(1)).float().mean()) for key, logits in found.items()}
    work = {who: count_macs_and_bytes(network, image) for who, network in networks.items()}
    spent = timed(runs, image, rounds)
    rows = []
    for (who, name), seconds in spent.items():
        low, middle, high = (1e3 * quartile for quartile in statistics.quantiles(seconds, n=4))
        row = {
            "pair": pair.name,
            "who": who,
            "setting": name,
            "shape": list(image.shape),
            "ms": middle,
            "from_ms": low,
            "to_ms": high,
        }
        row |= {
            "least_ms": least_ms(*work[who], "bf16" in name, machine),
            "largest_difference": apart[who, name],
            "same_labels": labels[who, name],
        }
        row |= {
            "relative_difference": relative[who, name],
            "agrees": relative[who, name] <= tolerance(name, image.device),
        }
        print(row, flush=True)
        rows.append(row)
    return rows


def tolerance(setting: str, device: torch.device) -> float:
    """Return the largest relative difference from the peer's eager float32 logits that a setting may have.

    The relative difference is the norm of the difference, divided by the norm of the peer's logits.
    """
    if "fp32" in setting and device.type == "cuda":
        return 5e-3  # convolutions in TF32 keep 10 bits
    return next(value for part, value in TOLERANCES.items() if part in setting)


def timed(runs: Mapping[tuple[str, str], Run], image: Tensor, rounds: int) -> dict[tuple[str, str], list[float]]:
    """Return the seconds of each run in each round; all runs take turns, so that a busy machine slows them equally."""
    spent: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    for run in runs.values() if image.is_cuda else ():
        for _ in range(CAPTURE_AFTER + 2):  # until graphs are recorded
            run(image)
    for _ in range(rounds):
        for key, run in runs.items():
            started = time.perf_counter()
            run(image)
            synchronize(image.device)
            spent[key].append(time.perf_counter() - started)
    return spent


def probe(name: str, who: str, setting: str, batch: int, size: int, device: str) -> float:
    """Return the peak memory of repeated passes in this process."""
    pair = PAIRS[name]().on(device)  # may train a little, for batch statistics
    image = pair.image(batch, size)
    with torch.inference_mode():
        run = SETTINGS[setting](pair.peer if who == "peer" else pair.ours, image)
        return peak_here_mb(lambda: run(image), times=CAPTURE_AFTER + 2 if device != "cpu" else 2, device=device)


def summary(rows: list[dict[str, Any]]) -> str:
    """Make a table with a line for each network and image.

    Each line has the peer in eager float32, the peer in its fastest setting, and ours in its fastest setting except
    int8. The weights are random, so many voxels have nearly equal classes: `accuracy.py` measures how bfloat16 changes
    the labels of a trained network.
    """
    lines = [
        "| network | image | peer, eager fp32 | peer's fastest | unetpp's fastest | eager / ours | fastest / ours "
        "| labels unchanged |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key in dict.fromkeys((row["pair"], tuple(row["shape"])) for row in rows):
        alike = [row for row in rows if (row["pair"], tuple(row["shape"])) == key]
        peers = [row for row in alike if row["who"] == "peer" and row["setting"] not in OURS_ALONE]
        eager = next(row for row in peers if row["setting"] == "eager fp32")
        best, ours = (
            min(found, key=lambda row: row["ms"])
            for found in (peers, [row for row in alike if row["who"] == "unetpp" and "int8" not in row["setting"]])
        )
        shown = [f"{row['ms']:.0f} ms ({row['setting']})" for row in (best, ours)]
        ratios = f"{eager['ms'] / ours['ms']:.1f} | {best['ms'] / ours['ms']:.2f} | {ours['same_labels']:.2%}"
        lines.append(
            f"| {key[0]} | {' x '.join(map(str, key[1]))} | {eager['ms']:.0f} ms | {' | '.join(shown)} | {ratios} |"
        )
    return "\n".join(lines) + "\n"


def to_markdown(rows: list[dict[str, Any]], machine: Mapping[str, float]) -> str:
    """Make a table of every row, with its speed relative to the peer in eager float32 and in its fastest setting."""
    lines = [
        "This machine at its best: "
        + ", ".join(f"{value:.0f} {name.replace('_', ' ')}" for name, value in machine.items())
        + ".",
        "",
    ]
    lines += [
        "| network | image | who | setting | ms | of the machine's best | peak, MB | peer's eager fp32 / this "
        "| peer's fastest / this | largest difference | same labels |"
    ]
    lines += ["|---|" + "---|" * 10]
    for row in rows:
        peers = [
            other
            for other in rows
            if other["who"] == "peer"
            and (other["pair"], other["shape"]) == (row["pair"], row["shape"])
            and other["setting"] not in OURS_ALONE
        ]
        eager = next((other["ms"] for other in peers if other["setting"] == "eager fp32"), float("nan"))
        fastest = min((other["ms"] for other in peers), default=float("nan"))
        peak = f"{row['peak_mb']:.0f}" if row.get("peak_mb") else "-"
        times = (
            f"{row['ms']:.1f} | {row['least_ms'] / row['ms']:.0%} | {peak} "
            f"| {eager / row['ms']:.2f} | {fastest / row['ms']:.2f}"
        )
        shape = " x ".join(map(str, row["shape"]))
        lines.append(
            f"| {row['pair']} | {shape} | {row['who']} | {row['setting']} | {times} "
            f"| {row['largest_difference']:.1e} | {row['same_labels']:.2%} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
