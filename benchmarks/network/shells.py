"""Compare two forms of a network with shells: dense layers whose outer-to-inner weights are zero, and parts.

python -m benchmarks.network.shells [--out FILE] [--topologies unet unet++] [--images tile batch volume]
                                    [--firsts 16 32] [--kinds torch training openvino onnxruntime]
                                    [--rounds 5]

The dense form computes all shells of a layer in one convolution, the other one the rows of each shell by themselves.
In inference the parts grow from the inner size at full depth to the whole network, step by step; a training step is
forward and backward of all heads. The forms take turns in each round. Times are CPU seconds of one thread, which other
programs on the machine hardly change; the table has ratios of medians to that of the dense form.
Each row: the innermost size, cut; each step of growth; their sum. ONNX Runtime runs all steps as one graph.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unetpp.errors import MissingExtraError, optional_package
from unetpp.model.build import build_model
from unetpp.model.network import UNetPlusPlus
from unetpp.runtime.device import keep_freed_memory
from unetpp.runtime.exported_file import load_onnxruntime
from unetpp.runtime.openvino import OpenVinoNetwork, replace_group_norms

SHELLS = {16: (8, 16), 32: (8, 16, 32)}
"""Shells by width of level 0."""
IMAGES = {"tile": (1, 3, 256, 256), "batch": (16, 3, 128, 128), "volume": (1, 1, 40, 56, 40)}
Forms = dict[str, Callable[[], list[float]]]
"""Each form returns the CPU seconds of its steps."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--topologies", nargs="+", default=["unet", "unet++"])
    parser.add_argument("--images", nargs="+", choices=IMAGES, default=list(IMAGES))
    parser.add_argument("--firsts", nargs="+", type=int, choices=SHELLS, default=list(SHELLS))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    rows: list[dict[str, Any]] = []
    for row in measure_all(options):
        print(json.dumps(row), flush=True)
        rows.append(row)
        if options.out:
            options.out.write_text("\n".join(map(json.dumps, rows)) + "\n")
    print(to_markdown(rows))


def measure_all(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for first in options.firsts:
        for topology in options.topologies:
            for image in options.images:
                x = torch.randn(IMAGES[image])
                torch.manual_seed(0)
                network = build_model(
                    topology=topology, first_width=first, shells=SHELLS[first], dims=x.ndim - 2, in_channels=x.shape[1]
                ).eval()
                for kind in options.kinds:
                    try:
                        forms = KINDS[kind](network, x)
                    except MissingExtraError as error:
                        print(f"{kind} is skipped: {error}", file=sys.stderr)
                        continue
                    found = measure(forms, options.rounds)
                    yield {"topology": topology, "shells": SHELLS[first], "image": image, "kind": kind, **found}


def measure(forms: Forms, rounds: int) -> dict[str, list[float]]:
    """Return the median seconds of the steps of each form."""
    for run in forms.values():
        run()  # warms up
    spent: dict[str, list[list[float]]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, run in forms.items():
            spent[name].append(run())
    return {name: [statistics.median(each) for each in zip(*found, strict=True)] for name, found in spent.items()}


def time_steps(*steps: Callable[[], Any]) -> list[float]:
    seconds = []
    for step in steps:
        started = time.process_time()
        step()
        seconds.append(time.process_time() - started)
    return seconds


def make_inference(runner: Any, network: UNetPlusPlus, x: Tensor) -> Forms:
    sizes = [number for number in network.head_depths if network._size(number).depth == network.depth]

    @torch.no_grad()
    def grow() -> list[float]:
        forward_pass = runner.start_forward(x)
        return time_steps(*(lambda number=number: forward_pass.logits(number) for number in sizes))

    @torch.no_grad()
    def dense() -> list[float]:
        return time_steps(lambda: runner(x))

    @torch.no_grad()
    def inner() -> list[float]:
        return time_steps(lambda: runner(x, depth=sizes[0]))

    return {"dense": dense, "inner": inner, "parts": grow}


def make_training(network: UNetPlusPlus, x: Tensor) -> Forms:
    def step(compute: Callable[[], list[Tensor]]) -> None:
        network.zero_grad(set_to_none=True)
        torch.stack([logits.square().mean() for logits in compute()]).sum().backward()

    def grow() -> list[Tensor]:
        forward_pass = network.start_forward(x)
        return [forward_pass.logits(number) for number in network.head_depths]

    return {
        "dense": lambda: time_steps(lambda: step(lambda: list(network(x, heads=True).logits))),
        "parts": lambda: time_steps(lambda: step(grow)),
    }


class _Parts(nn.Module):
    """All steps of growth at full depth, as one graph."""

    def __init__(self, network: UNetPlusPlus, sizes: list[int]) -> None:
        super().__init__()
        self.network, self.sizes = network, sizes

    def forward(self, x: Tensor) -> Tensor:
        forward_pass = self.network.start_forward(x)
        return [forward_pass.logits(number) for number in self.sizes][-1]


def make_onnxruntime(network: UNetPlusPlus, x: Tensor) -> Forms:
    sizes = [number for number in network.head_depths if network._size(number).depth == network.depth]
    fast = replace_group_norms(network)
    modules = {"dense": fast, "inner": replace_group_norms(network.prune(sizes[0])), "parts": _Parts(fast, sizes)}
    runs = {name: open_in_onnxruntime(module.eval(), x) for name, module in modules.items()}
    with torch.no_grad():
        expected = network(x)
    for name in ("dense", "parts"):
        torch.testing.assert_close(torch.from_numpy(runs[name]()), expected, rtol=1e-3, atol=1e-3)
    return {name: lambda run=run: time_steps(run) for name, run in runs.items()}


def open_in_onnxruntime(module: nn.Module, x: Tensor) -> Callable[[], Any]:
    """Convert a module to ONNX; returns what runs it on an image, on one thread."""
    onnxruntime = load_onnxruntime()
    with optional_package("onnxscript", "export", "a network in the format ONNX"):
        import onnxscript  # noqa: F401
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns about itself
        program: Any = torch.onnx.export(module, (x,), dynamo=True, input_names=["image"], verbose=False)
    file, options = io.BytesIO(program.model_proto.SerializeToString()), onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"image": x.numpy()})[0]


KINDS: dict[str, Callable[[UNetPlusPlus, Tensor], Forms]] = {
    "torch": lambda network, x: make_inference(network, network, x),
    "training": make_training,
    "openvino": lambda network, x: make_inference(OpenVinoNetwork(network, "fp32"), network, x),
    "onnxruntime": make_onnxruntime,
}


def to_markdown(rows: list[dict[str, Any]]) -> str:
    lines = ["| network | shells | image | kind | dense, s | inner | steps of growth | parts in all |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for row in rows:
        whole = row["dense"][0]
        inner = f"{row['inner'][0] / whole:.2f}" if "inner" in row else "-"
        steps = " + ".join(f"{each / whole:.2f}" for each in row["parts"]) if len(row["parts"]) > 1 else "-"
        shape, shells = " x ".join(map(str, IMAGES[row["image"]])), ", ".join(map(str, row["shells"]))
        share = f"{sum(row['parts']) / whole:.2f}"
        lines.append(
            f"| {row['topology']} | {shells} | {shape} | {row['kind']} | {whole:.3f} | {inner} | {steps} | {share} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
