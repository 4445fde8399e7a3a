"""Baseline for `unetpp train`: a short, competent training script, on the same cases and in the same minutes.

python benchmarks/plain_training.py DATA RUN [--minutes 20] [--seed 0]

It trains a plain UNet++ (batch norm, one head) with flips and quarter turns, AdamW with a cosine schedule,
cross entropy plus Dice, in float32. RUN is a finished `unetpp train` of the same DATA: its split, preprocessing and
scores are used, so that only the training differs. Its loss is MONAI's (the extra `peers`).
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from monai.losses import DiceCELoss

from unetpp.data.folds import read_splits
from unetpp.data.patches import PatchSampler
from unetpp.data.store import StoredCase, store_cases
from unetpp.layouts.cases import find_cases
from unetpp.measure.validation import DepthValidation
from unetpp.model.build import build_model
from unetpp.plan import Plan, read_plan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    plan = read_plan(arguments.run / "plan.json").changed({"predict.precision": "fp32"})
    split = read_splits(arguments.run / "splits.json")[0]
    cases = {
        case.id: case for case in store_cases(find_cases(arguments.data).cases, plan.data, arguments.run / "cache")
    }
    network = train(plan, [cases[i] for i in split.train], 60 * arguments.minutes, arguments.seed)
    score = DepthValidation([cases[i] for i in split.validation], plan, torch.device("cpu"))(network.eval())
    print(
        f"mean Dice of {len(split.validation)} validation cases after {arguments.minutes:g} minutes: {score.dice:.4f}"
    )


def train(plan: Plan, cases: list[StoredCase], seconds: float, seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    model, patch = plan.model, plan.train.patch
    network = build_model(
        topology="unet++",
        dims=model.dims,
        in_channels=model.in_channels,
        out_channels=model.out_channels,
        strides=model.strides,
        kernel_sizes=model.kernel_sizes,
        widths=[16 * 2**level for level in range(model.depth + 1)],
        norm="batch",
        activation="relu",
        deep_supervision=False,
    )
    sampler = PatchSampler(cases, patch, plan.train.batch, 0.0, seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-4)
    loss = DiceCELoss(softmax=True, to_onehot_y=True)
    started, step = time.perf_counter(), 0
    while (done := (time.perf_counter() - started) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * 0.5 * (1 + math.cos(math.pi * done))
        pairs = [
            augment(*sampler.read(sampler.draw(step, index)), seed=step * 100 + index)
            for index in range(plan.train.batch)
        ]
        images, labels = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*pairs, strict=True))
        optimizer.zero_grad()
        loss(network(images), labels[:, None].long()).backward()
        optimizer.step()
        step += 1
    print(f"{step} steps")
    return network


def augment(image: np.ndarray, label: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    for axis in range(label.ndim):
        if rng.random() < 0.5:
            image, label = np.flip(image, axis + 1), np.flip(label, axis)
    if label.shape[-1] == label.shape[-2]:
        turns = int(rng.integers(4))
        image, label = np.rot90(image, turns, (-2, -1)), np.rot90(label, turns, (-2, -1))
    return image.copy(), label.copy()


if __name__ == "__main__":
    main()
