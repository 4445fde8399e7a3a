"""Compare the time and memory of a training step with the peers, with the same weights, images and loss.

python -m benchmarks.network.training --out FOLDER [--pairs smp monai2d monai3d nested] [--rounds 5] [--device cuda]

A step is forward, cross entropy, backward and an update by AdamW. The two networks of a pair take turns in every
setting. Memory is measured in a fresh process for each network and setting: the peak (on a GPU, the peak of the
allocator) less the memory held once the network and the batch are loaded. FOLDER/training.json has a row for each,
FOLDER/training.md has the table.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmarks.network.memory import peak_here_mb, peak_mb
from benchmarks.network.pairs import PAIRS, Pair
from torch import Tensor, nn
from torch.nn import functional

from unetpp.runtime.cuda_graph import WARM_UPS, GraphedGradients
from unetpp.runtime.device import CHANNELS_LAST, keep_freed_memory

SIZES = {2: (4, 256), 3: (1, 96)}
"""Batch size and image size, by dims."""
SETTINGS: dict[str, tuple[bool, bool, bool]] = {
    "eager fp32": (False, False, False),
    "fp32, channels last": (False, True, False),
    "bf16": (True, False, False),
    "bf16, channels last": (True, True, False),
    "compiled bf16": (True, False, True),
    "compiled bf16, channels last": (True, True, True),
}
"""Whether each uses autocast to bfloat16, channels last and torch.compile."""
RECORDED = "unetpp, recorded"
"""Our network as `unetpp train` runs it on a GPU: the gradients are computed by one CUDA graph."""
CHECKPOINTED: dict[str, bool | str] = {"unetpp, cheap checkpointing": "cheap", "unetpp, checkpointing": True}
"""Our network with checkpointing, in settings without compilation: a compiled network chooses what to recompute."""
Step = Callable[[], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--pairs", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--probe", nargs=3, metavar=("PAIR", "WHO", "SETTING"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.probe:
        print(json.dumps(probe(*options.probe, options.device)))
        return
    rows: list[dict[str, Any]] = []
    for name in options.pairs:
        rows += compared(name, options.device, options.settings, options.rounds, not options.no_memory)
        if options.out:
            options.out.mkdir(parents=True, exist_ok=True)
            (options.out / "training.json").write_text(json.dumps(rows, indent=1))
    table = to_markdown(rows)
    if options.out:
        (options.out / "training.md").write_text(table)
    print(table)


def compared(name: str, device: str, settings: list[str], rounds: int, memory: bool) -> list[dict[str, Any]]:
    """Measure each network in each setting, and return a row for each."""
    pair = PAIRS[name]().on(device)
    recorded = () if device == "cpu" else (RECORDED,)
    keys = [(who, setting) for setting in settings for who in ("peer", "unetpp", *recorded, *CHECKPOINTED)]
    steps = {key: make_step(pair, *key) for key in keys if "compiled" not in key[1] or key[0] not in CHECKPOINTED}
    first = {key: step() for key, step in steps.items()}  # warms up; the loss of the weights that both begin with
    for key, step in steps.items():
        for _ in range(WARM_UPS if key[0] == RECORDED else 0):
            step()
    spent: dict[tuple[str, str], list[float]] = {key: [] for key in steps}
    for _ in range(rounds):
        for key, step in steps.items():
            started = time.perf_counter()
            step()
            spent[key].append(time.perf_counter() - started)
    del steps
    rows = []
    for key, seconds in spent.items():
        low, middle, high = statistics.quantiles(seconds, n=4)
        row = {
            "pair": pair.name,
            "who": key[0],
            "setting": key[1],
            "shape": list(batch_of(pair)[0].shape),
            "ms": 1e3 * middle,
            "from_ms": 1e3 * low,
            "to_ms": 1e3 * high,
        }
        row["first_loss"] = first[key]
        row["peak_mb"] = peak_mb("benchmarks.network.training", name, *key, device=device) if memory else None
        print(row, flush=True)
        rows.append(row)
    return rows


def batch_of(pair: Pair) -> tuple[Tensor, Tensor]:
    batch, size = SIZES[pair.plan.model.dims]
    images = pair.image(batch, size)
    return images, (images[:, 0] > 0).long()


def make_step(pair: Pair, who: str, setting: str) -> Step:
    bf16, last, compiled = SETTINGS[setting]
    network: nn.Module = copy.deepcopy(pair.peer if who == "peer" else pair.ours).train()
    if who in CHECKPOINTED:
        network.checkpointing = CHECKPOINTED[who]  # type: ignore[assignment]
    images, labels = batch_of(pair)
    if last:
        layout = CHANNELS_LAST[images.ndim]
        network, images = network.to(memory_format=layout), images.contiguous(memory_format=layout)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=images.is_cuda or None)
    run = torch.compile(network, dynamic=False) if compiled else network

    def gradients(images: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            logits = run(images)
        loss = functional.cross_entropy(logits.float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        return loss.detach()

    work = GraphedGradients(gradients, list(network.parameters())) if who == RECORDED else gradients

    def step() -> float:
        loss = work(images, labels)
        optimizer.step()
        return float(loss)

    return step


def probe(name: str, who: str, setting: str, device: str) -> float:
    """Return the peak memory of repeated steps in this process."""
    if who != "peer":
        keep_freed_memory()  # as `unetpp train` does
    return peak_here_mb(
        make_step(PAIRS[name]().on(device), who, setting), times=2 if device == "cpu" else WARM_UPS + 2, device=device
    )


def to_markdown(rows: list[dict[str, Any]]) -> str:
    """Make a table that compares each row with the peer in the same setting and in its fastest setting."""
    lines = [
        "| network | batch | setting | who | step, ms | peak, MB | peer's / this: time | memory "
        "| beside the peer's fastest |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        peers = [other for other in rows if other["pair"] == row["pair"] and other["who"] == "peer"]
        same = next(other for other in peers if other["setting"] == row["setting"])
        memory = f"{same['peak_mb'] / row['peak_mb']:.2f}" if same["peak_mb"] and row["peak_mb"] else "-"
        shape, peak = " x ".join(map(str, row["shape"])), f"{row['peak_mb']:.0f}" if row["peak_mb"] else "-"
        ratios = f"{same['ms'] / row['ms']:.2f} | {memory} | {min(other['ms'] for other in peers) / row['ms']:.2f}"
        lines.append(
            f"| {row['pair']} | {shape} | {row['setting']} | {row['who']} | {row['ms']:.0f} | {peak} | {ratios} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
