"""A step of `unetpp train` on a GPU as torch runs it, recorded as a CUDA graph, and compiled and recorded.

python -m benchmarks.network.steps [--dims 2] [--batch 16] [--patch 256] [--norm group] [--width 32] [--checkpointing cheap]

The network is the default one with heads at every depth, the loss, the optimiser and the running mean of the weights are the trainer's; the batch stays. Times
are medians; memory is the most that the allocator held.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from unetpp.losses.supervision import DeepSupervisionLoss
from unetpp.model.build import build_model
from unetpp.plan import TrainPlan
from unetpp.runtime.cuda_graph import WARM_UPS, Recorded
from unetpp.runtime.device import CHANNELS_LAST
from unetpp.train.loop import gradients
from unetpp.train.optimizer import make_optimizer, update_average

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
                f"| {how} | {layout} | {statistics.median(milliseconds):.1f} | {first:.5f} | {torch.cuda.max_memory_allocated() / 1e9:.2f} | {began:.0f} |",
                flush=True,
            )


def make_step(options: argparse.Namespace, how: str, last: bool) -> Callable[[], float]:
    torch.manual_seed(0)
    shape = (options.patch,) * options.dims
    network = build_model(dims=options.dims, first_width=options.width, norm=options.norm).cuda().train()
    network.checkpointing = {"cheap": "cheap", "whole": True}.get(options.checkpointing, False)
    layout = CHANNELS_LAST[options.dims + 2] if last else torch.contiguous_format
    network = network.to(memory_format=layout)
    average = copy.deepcopy(network)
    images = torch.randn(options.batch, 1, *shape, device="cuda").contiguous(memory_format=layout)
    labels = (images > 0).long()
    optimizer = make_optimizer(
        network, TrainPlan(patch=shape, batch=options.batch, steps_per_epoch=1, epochs=1, precision="bf16")
    )
    for group in optimizer.param_groups:
        group["lr"] = 1e-4
    run = torch.compile(network, dynamic=False) if "compiled" in how else network
    scaler = torch.amp.GradScaler(enabled=False)
    plain = gradients(
        run,
        DeepSupervisionLoss(),
        optimizer,
        gradient_clip=1.0,
        autocast=partial(torch.autocast, "cuda", torch.bfloat16),
        scaler=scaler,
    )

    def turned(images: Tensor, labels: Tensor) -> Tensor:
        value = plain(images, labels)
        optimizer.turn()
        return value

    work = plain if how == "torch" else Recorded(turned, list(network.parameters()))

    def step() -> float:
        value = work(images, labels)
        optimizer.step(turned=how != "torch")
        update_average(average, network, 100, 0.99)
        return float(value)

    return step


def timed_ms(step: Callable[[], float]) -> float:
    torch.cuda.synchronize()
    started = time.perf_counter()
    step()
    torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - started)


if __name__ == "__main__":
    main()
