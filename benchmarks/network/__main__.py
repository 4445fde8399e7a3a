"""This project's network beside its peers', with the same weights and images, alternating in one process.

python -m benchmarks.network --out FOLDER [--pairs smp monai2d monai3d nested] [--batches 1 8] [--rounds 7]

Each pair is timed in every setting that a user of the peer has, and in the same settings here; medians and quartiles over rounds in which all of them take
turns. The logits of each are compared with the peer's eager float32. FOLDER/inference.json grows by a row for each setting, FOLDER/inference.md has the table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from benchmarks.network.pairs import PAIRS, Pair
from benchmarks.network.settings import SETTINGS, Run
from torch import Tensor

SIZES = {2: (256, 512), 3: (96,)}
MACHINE_SIZE = 2048


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--sizes", type=int, nargs="+", help="of images; default 256 and 512 in 2D, 96 in 3D")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    machine = ceilings()
    rows: list[dict[str, Any]] = []
    for name in options.pairs:
        pair = PAIRS[name]()
        for size in options.sizes or SIZES[pair.plan.model.dims]:
            for batch in options.batches:
                rows += compared(pair, pair.image(batch, size), options.settings, options.rounds)
                (options.out / "inference.json").write_text(json.dumps({"machine": machine, "rows": rows}, indent=1))
    table = to_markdown(rows, machine)
    (options.out / "inference.md").write_text(table)
    print(table)


@torch.inference_mode()
def compared(pair: Pair, image: Tensor, settings: list[str], rounds: int) -> list[dict[str, Any]]:
    """A row for each of the two networks in each setting."""
    runs = {(who, name): SETTINGS[name](network, image) for who, network in (("peer", pair.peer), ("unetpp", pair.ours)) for name in settings}
    expected = pair.peer(image)
    apart = {key: float((run(image).float() - expected).abs().max()) for key, run in runs.items()}
    labels = {key: float((run(image).argmax(1) == expected.argmax(1)).float().mean()) for key, run in runs.items()}
    spent = timed(runs, image, rounds)
    found = []
    for key, seconds in spent.items():
        quartiles = statistics.quantiles(seconds, n=4)
        times = {"ms": 1e3 * quartiles[1], "from_ms": 1e3 * quartiles[0], "to_ms": 1e3 * quartiles[2]}
        found.append({"pair": pair.name, "who": key[0], "setting": key[1], "shape": list(image.shape), **times, "largest_difference": apart[key], "same_labels": labels[key]})
        print(found[-1], flush=True)
    return found


def timed(runs: Mapping[tuple[str, str], Run], image: Tensor, rounds: int) -> dict[tuple[str, str], list[float]]:
    """Seconds of each run in each round; all take turns, so that a busy moment hits them alike."""
    spent: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    for _ in range(rounds):
        for key, run in runs.items():
            started = time.perf_counter()
            run(image)
            spent[key].append(time.perf_counter() - started)
    return spent


def ceilings() -> dict[str, float]:
    """What this machine can do at best: multiply-adds of a large matrix product, and bytes copied."""
    found = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        square = torch.randn(MACHINE_SIZE, MACHINE_SIZE).to(dtype)
        found[f"gmacs_per_s_{name}"] = MACHINE_SIZE**3 / 1e9 / _fastest(lambda square=square: square @ square)
    source = torch.zeros(2**26)
    target = torch.empty_like(source)
    found["copied_gb_per_s"] = 2 * 4 * source.numel() / 1e9 / _fastest(lambda: target.copy_(source))
    return found


def _fastest(work: Any, repeats: int = 5) -> float:
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def to_markdown(rows: list[dict[str, Any]], machine: Mapping[str, float]) -> str:
    lines = [", ".join(f"{name} {value:.0f}" for name, value in machine.items()), ""]
    lines += ["| network | image | setting | peer, ms | unetpp, ms | peer / unetpp | largest difference | same labels |", "|---|---|---|---|---|---|---|---|"]
    ours = {(row["pair"], tuple(row["shape"]), row["setting"]): row for row in rows if row["who"] == "unetpp"}
    for row in rows:
        if row["who"] == "peer":
            mine = ours[row["pair"], tuple(row["shape"]), row["setting"]]
            shape = " x ".join(map(str, row["shape"]))
            times = f"{row['ms']:.1f} | {mine['ms']:.1f} | {row['ms'] / mine['ms']:.2f}"
            lines.append(f"| {row['pair']} | {shape} | {row['setting']} | {times} | {mine['largest_difference']:.1e} | {mine['same_labels']:.2%} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
