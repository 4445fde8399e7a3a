"""Time a step of `unetpp train` on a GPU: as torch runs it, recorded as a CUDA graph, and compiled and recorded.

python -m benchmarks.network.steps [--dims 2] [--batch 16] [--patch 256] [--norm group] [--width 32]
                                   [--checkpointing cheap]

The network is the default one with heads at every depth. The step is that of the trainer, always with the same batch.
Times are medians; memory is the peak of the allocator.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch

from unetpp.model.build import build_from_plan, model_plan
from unetpp.plan import TrainPlan
from unetpp.runtime.cuda_graph import WARM_UPS
from unetpp.runtime.device import CHANNELS_LAST
from unetpp.train.step import TrainingStep

STEPS = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dims", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--patch", type=int, default=256)
    parser.add_argument("--norm", default="group")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--checkpointing", choices=["cheap", "whole"])
    options = parser.parse_args()
    print("| step | layout | ms | loss of the first | memory, GB | until the sixth, s |\n|---|---|---|---|---|---|")
    for how in ("torch", "recorded", "compiled, recorded"):
        for last in (False, True):
            if options.checkpointing and how != "torch":
                continue
            torch._dynamo.reset()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            started = time.perf_counter()
            step = make_step(options, how, last)
            first = next(step() for _ in range(WARM_UPS + 2))
            began = time.perf_counter() - started
            milliseconds = [timed_ms(step) for _ in range(STEPS)]
            layout = "channels last" if last else "contiguous"
            print(
                f"| {how} | {layout} | {statistics.median(milliseconds):.1f} | {first:.5f} "
                f"| {torch.cuda.max_memory_allocated() / 1e9:.2f} | {began:.0f} |",
                flush=True,
            )


def make_step(options: argparse.Namespace, how: str, last: bool) -> Callable[[], float]:
    torch.manual_seed(0)
    shape = (options.patch,) * options.dims
    model = model_plan(topology="unet++", dims=options.dims, first_width=options.width, norm=options.norm)
    train = TrainPlan(
        patch=shape,
        batch=options.batch,
        steps_per_epoch=1,
        epochs=1,
        precision="bf16",
        checkpointing={"cheap": "cheap", "whole": True}.get(options.checkpointing, False),
        compile="compiled" in how,
    )
    step = TrainingStep(
        build_from_plan(model), model, train, torch.device("cuda"), record=how != "torch", warn=sys.exit
    )
    step.use_memory_format(CHANNELS_LAST[options.dims + 2] if last else torch.contiguous_format)
    images = torch.randn(options.batch, model.in_channels, *shape, device="cuda")
    batch = images, (images > 0).long()
    return lambda: step(batch, 100, 0.5)


def timed_ms(step: Callable[[], float]) -> float:
    torch.cuda.synchronize()
    started = time.perf_counter()
    step()
    torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - started)


if __name__ == "__main__":
    main()
