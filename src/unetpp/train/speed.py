"""How fast this machine trains a network: measured, because no table knows it."""

from __future__ import annotations

import torch
from torch import Tensor

from unetpp.model.build import from_plan
from unetpp.plan import ModelPlan
from unetpp.runtime.cuda_graph import WARM_UPS, Recorded
from unetpp.runtime.device import autocast, memory_format
from unetpp.runtime.stopwatch import time_calls


def measure_step_seconds(
    plan: ModelPlan, patch: tuple[int, ...], batch: int, precision: str, device: torch.device
) -> float:
    """Seconds of one training step (forward, backward, update) after one to warm up: the fastest of a few, of one where it is long."""
    layout = memory_format(plan, device)
    with torch.random.fork_rng(devices=[]):
        network = from_plan(plan).to(device).to(memory_format=layout).train()
        images = torch.randn(batch, plan.in_channels, *patch, device=device).to(memory_format=layout)
    optimizer = torch.optim.AdamW(network.parameters(), fused=device.type == "cuda" or None)

    def gradients(images: Tensor, labels: Tensor) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with autocast(device, precision):
            outputs = network(images, heads=True)
        loss = torch.stack([logits.float().log_softmax(1)[:, 0].mean() for logits in outputs.logits]).sum()
        loss.backward()
        return loss.detach()

    work = (
        Recorded(gradients, list(network.parameters())) if device.type == "cuda" else gradients
    )  # as the trainer does

    def step() -> None:
        work(images, images)
        optimizer.step()

    for _ in range(WARM_UPS + 1 if device.type == "cuda" else 1):
        step()
    return min(time_calls(step, device))
