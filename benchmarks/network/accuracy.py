"""Measure the accuracy and the time of each arithmetic, runtime and depth, with a trained run on its validation cases.

python -m benchmarks.network.accuracy RUN DATA --out FOLDER [--depths 2 4] [--peer smp|monai] [--cases 24]

Whole images are predicted in the same way as by `unetpp predict`. Dice is the mean over the validation cases of fold 0.
Labels are compared with those of torch in float32 at the same depth. Times are medians for one tile; all settings take
turns in each round. int8 is the file written by `unetpp export --int8`, calibrated on training cases.

The command fails if the Dice changes by more than TOLERANCES.

--peer also measures the trained weights in the peer's own module (`docs/import.md`, "And back", lists the networks that
fit), next to ours at the deepest head. No peer offers 8-bit integers, so its module is quantised in the same way as
ours. This separates the effect of the network from the effect of the arithmetic.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.network.pairs import DeepestHead
from benchmarks.network.settings import SETTINGS, Run
from torch import Tensor, nn

from unetpp.data.case_files import read_case_classes
from unetpp.data.folds import read_splits
from unetpp.deploy.export import export_file
from unetpp.deploy.export.graph import open_export
from unetpp.deploy.export.quantization import quantize_file
from unetpp.deploy.export.samples import find_samples
from unetpp.errors import ModelFileError
from unetpp.infer.options import PredictOptions
from unetpp.infer.predictor import Predictor
from unetpp.layouts.cases import Case, find_cases
from unetpp.metrics.scores import fast_dice, mean_of
from unetpp.model.file import load_model
from unetpp.peers import to_monai, to_smp
from unetpp.run_folder import MODEL, RunFolder
from unetpp.runtime.device import autocast
from unetpp.runtime.exported_file import openvino_core
from unetpp.runtime.openvino import convert, replace_group_norms

REFERENCE = "torch fp32"
TOLERANCES = {"fp32": 1e-4, "bf16": 1e-3, "int8": 1e-2}
"""Largest change of the mean Dice that each arithmetic may cause."""
PEER_SETTINGS = ("eager fp32", "bf16, channels last", "compiled bf16, channels last", "OpenVINO bf16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=lambda name: RunFolder(Path(name)))
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--depths", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--cases", type=int, help="only so many validation cases")
    parser.add_argument("--peer", choices=("smp", "monai"))
    options = parser.parse_args()
    model = options.run.fold(0) / MODEL
    cases = {case.id: case for case in find_cases(options.data).cases}
    validation = [cases[i] for i in read_splits(options.run.splits)[0].validation][: options.cases]
    rows: list[dict[str, Any]] = []
    for depth in [load_model(model)[0].head_depths[-1]] if options.peer else options.depths:
        predictors = make_predictors(model, depth) | (make_peers(model, options.peer) if options.peer else {})
        times = tile_times(predictors, depth, options.rounds)
        found = {name: segmentations(predictor, validation, depth) for name, predictor in predictors.items()}
        for name, segmented in found.items():
            same = np.mean([(mine == theirs).mean() for mine, theirs in zip(segmented, found[REFERENCE], strict=True)])
            dice = dice_of(segmented, validation, predictors[name]) or 0.0
            reference = next((row["dice"] for row in rows if (row["depth"], row["runs"]) == (depth, REFERENCE)), dice)
            rows.append(
                {
                    "depth": depth,
                    "runs": name,
                    "dice": dice,
                    "change": dice - reference,
                    "same_labels": float(same),
                    "ms": times[name],
                }
            )
            print(rows[-1], flush=True)
    table = to_markdown(rows)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "accuracy.json").write_text(json.dumps(rows, indent=1))
        (options.out / "accuracy.md").write_text(table)
    print(table)
    if apart := [
        f"{row['runs']}, depth {row['depth']}: {row['change']:+.4f}"
        for row in rows
        if abs(row["change"]) > next(TOLERANCES[part] for part in TOLERANCES if part in row["runs"])
    ]:
        sys.exit("The Dice changes by more than the arithmetic explains:\n" + "\n".join(apart))


def make_predictors(model: Path, depth: int) -> dict[str, Predictor]:
    network, header = load_model(model)
    settings = [(backend, precision) for backend in ("torch", "openvino") for precision in ("fp32", "bf16")]
    made = {
        f"{backend} {precision}": Predictor(
            [network], header.plan.changed({"predict.precision": precision}), backend=backend
        )
        for backend, precision in settings
    }
    with tempfile.TemporaryDirectory() as folder:
        try:
            answer, _ = open_export(export_file(model, Path(folder) / "model.xml", depth, int8=True).out)
        except ModelFileError as error:
            print(f"no int8: {error}")
            return made
    made["openvino int8"] = _running(
        lambda x: torch.from_numpy(answer(np.ascontiguousarray(x.numpy()), [0])[0]).log(),
        Predictor([network], header.plan),
    )
    return made


def make_peers(model: Path, name: str) -> dict[str, Predictor]:
    """Load these weights into the peer's own module, in the settings that its users have and in OpenVINO."""
    network, header = load_model(model)
    peer = {"smp": to_smp, "monai": to_monai}[name](network, header.plan)
    module = _class_of(peer.constructor)(**peer.arguments)
    module.load_state_dict(peer.state_dict)
    module = module.eval() if name == "smp" else DeepestHead(module).eval()
    plan = header.plan.changed(
        {"predict.precision": "fp32", "predict.batch": 1}
    )  # each setting has its own arithmetic, each size of batch is compiled anew
    tile = torch.zeros(1, plan.model.in_channels, *plan.predict.tile)
    runs = {f"{name}, {setting}": SETTINGS[setting](module, tile) for setting in PEER_SETTINGS}
    runs[f"{name}, OpenVINO int8"] = quantized(module, find_samples(model, plan, (), calibrate=True).calibrating)
    return {key: _running(run, Predictor([network], plan)) for key, run in runs.items()}


def quantized(module: nn.Module, tiles: Sequence[np.ndarray]) -> Run:
    """Quantise any network to 8-bit integers, in the same way as `unetpp export --int8`."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        openvino.save_model(
            convert(replace_group_norms(module), tiles[0].shape), Path(folder) / "peer.xml", compress_to_fp16=False
        )
        quantize_file(Path(folder) / "peer.xml", tiles)
        compiled = openvino_core().compile_model(
            openvino_core().read_model(Path(folder) / "peer.xml"),
            "CPU",
            {"INFERENCE_NUM_THREADS": torch.get_num_threads()},
        )
    return lambda images: torch.from_numpy(compiled(images.contiguous().numpy())[0])


def _running(run: Run, predictor: Predictor) -> Predictor:
    """Make the predictor compute its logits with `run`, at whatever depth."""

    def logits(x: Tensor, depth: int | None = None, heads: bool = False) -> Tensor:
        return run(x)

    predictor.runners = [logits]  # type: ignore[list-item]
    return predictor


def _class_of(name: str) -> Callable[..., nn.Module]:
    module, _, last = name.rpartition(".")
    found: Callable[..., nn.Module] = getattr(importlib.import_module(module), last)
    return found


def tile_times(predictors: dict[str, Predictor], depth: int, rounds: int) -> dict[str, float]:
    """Return the median milliseconds for a batch of one tile; the first round is a warm-up."""
    plan = next(iter(predictors.values())).plan
    tile = torch.randn(1, plan.model.in_channels, *plan.predict.tile)
    spent: dict[str, list[float]] = {name: [] for name in predictors}
    for _ in range(rounds + 1):
        for name, predictor in predictors.items():
            started = time.perf_counter()
            with torch.inference_mode(), autocast(torch.device("cpu"), predictor.plan.predict.precision):
                predictor.runners[0](tile, depth=depth)
            spent[name].append(1e3 * (time.perf_counter() - started))
    return {name: statistics.median(values[1:]) for name, values in spent.items()}


def segmentations(predictor: Predictor, cases: Sequence[Case], depth: int) -> list[np.ndarray]:
    return [predictor.predict_case(case, PredictOptions(depth=depth))[depth].segmentation for case in cases]


def dice_of(segmented: Sequence[np.ndarray], cases: Sequence[Case], predictor: Predictor) -> float | None:
    data = predictor.plan.data
    labels = (read_case_classes(case, data) for case in cases)
    return mean_of(
        fast_dice(segmentation, label, data.num_classes) for segmentation, label in zip(segmented, labels, strict=True)
    )


def to_markdown(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| depth | runs in | Dice | less torch fp32 | labels unchanged | ms for a tile "
        "| torch fp32 at full depth / this |",
        "|---|---|---|---|---|---|---|",
    ]
    full = next(
        row["ms"] for row in rows if row["runs"] == REFERENCE and row["depth"] == max(other["depth"] for other in rows)
    )
    for row in rows:
        change = f"{row['change']:+.4f}"
        lines.append(
            f"| {row['depth']} | {row['runs']} | {row['dice']:.4f} | {change} | {row['same_labels']:.3%} "
            f"| {row['ms']:.1f} | {full / row['ms']:.1f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
