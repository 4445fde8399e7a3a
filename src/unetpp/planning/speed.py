"""How fast this machine trains a network: measured, because no table knows it."""

from __future__ import annotations

import time

import torch

from unetpp.model.build import from_plan
from unetpp.model.execution import autocast, memory_format
from unetpp.plan import ModelPlan


def measure_step_seconds(plan: ModelPlan, patch: tuple[int, ...], batch: int, precision: str, device: torch.device, repeats: int = 2) -> float:
    """Seconds of one training step (forward, backward, update) after one to warm up; the fastest of `repeats`."""
    layout = memory_format(plan, device)
    with torch.random.fork_rng(devices=[]):
        network = from_plan(plan).to(device).to(memory_format=layout).train()
        images = torch.randn(batch, plan.in_channels, *patch, device=device).to(memory_format=layout)
    optimizer = torch.optim.AdamW(network.parameters())
    seconds = []
    for _ in range(repeats + 1):
        _synchronize(device)
        started = time.perf_counter()
        with autocast(device, precision):
            outputs = network(images, heads=True)
        sum(logits.float().log_softmax(1)[:, 0].mean() for logits in outputs.logits).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        _synchronize(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
