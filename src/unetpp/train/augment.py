"""Variation of training patches with the plan's numbers: flips and quarter turns, which are views of an array, then MONAI's transforms.

Drawn from the seed that is given, nothing else.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from itertools import combinations
from math import radians
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unetpp.plan import AugmentPlan

IMAGE, LABEL = "image", "label"


class Augmentation:
    """Varies one patch at a time.

    Args:
        plan: probabilities and ranges.
        patch: size of a patch in voxels.
        spacing_mm: of the network's grid; None: the same along all axes.
    """

    def __init__(self, plan: AugmentPlan, patch: Sequence[int], spacing_mm: Sequence[float] | None) -> None:
        from monai.transforms import Compose

        dims = len(patch)
        self._mirrored = range(dims) if plan.mirror else range(0)
        self._turned = [
            pair for pair in combinations(range(dims), 2) if plan.quarter_turns and _alike(pair, patch, spacing_mm)
        ]
        transforms = [*_affine(plan, dims, spacing_mm), *_intensity(plan)]
        self._compose = Compose(transforms) if transforms else None
        self._local = threading.local()
        """Transforms hold their random state, so that each thread has its own."""

    def __call__(self, image: np.ndarray, label: np.ndarray, seed: int) -> tuple[Tensor, Tensor]:
        """Vary a patch.

        Args:
            image: (C, *patch) float32.
            label: (*patch) class indices.
            seed: 32 bits.

        Returns:
            image (C, *patch) float32 and label (1, *patch) int64.
        """
        image, label = self._oriented(image, label, np.random.default_rng(seed))
        if self._compose is None:
            return torch.from_numpy(image), torch.from_numpy(label[None].astype(np.int64))
        compose = self._local.compose = getattr(self._local, "compose", None) or copy.deepcopy(self._compose)
        compose.set_random_state(seed=seed)
        out = compose({IMAGE: torch.from_numpy(image), LABEL: torch.from_numpy(label[None].astype(np.float32))})
        return _plain(out[IMAGE]), _plain(out[LABEL]).long()

    def _oriented(
        self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """The patch flipped and turned; MONAI's transforms for this take a tenth of a training step on CPUs."""
        for axis in self._mirrored:
            if rng.random() < 0.5:
                image, label = np.flip(image, axis + 1), np.flip(label, axis)
        for first, second in self._turned:
            turns = int(rng.integers(4))
            image, label = np.rot90(image, turns, (first + 1, second + 1)), np.rot90(label, turns, (first, second))
        return np.ascontiguousarray(image), np.ascontiguousarray(label)


def _plain(tensor: Tensor) -> Tensor:
    return (
        torch.as_tensor(getattr(tensor, "array", tensor)).contiguous()
        if type(tensor) is not Tensor
        else tensor.contiguous()
    )


def _affine(plan: AugmentPlan, dims: int, spacing_mm: Sequence[float] | None) -> list[Any]:
    from monai.transforms import RandAffined

    if not plan.affine_probability:
        return []
    # turns only in planes whose axes have like spacing: a turned thick slice is no slice
    angle = radians(plan.rotate_degrees)
    turns = (
        [angle]
        if dims == 2
        else [angle if _same_spacing(pair, spacing_mm) else 0.0 for pair in ((1, 2), (0, 2), (0, 1))]
    )
    return [
        RandAffined(
            [IMAGE, LABEL],
            prob=plan.affine_probability,
            rotate_range=turns,
            scale_range=[plan.scale] * dims,
            mode=["bilinear", "nearest"],
            padding_mode="reflection",
        )
    ]


def _intensity(plan: AugmentPlan) -> list[Any]:
    from monai.transforms import (
        RandAdjustContrastd,
        RandGaussianNoised,
        RandGaussianSmoothd,
        RandScaleIntensityd,
        RandShiftIntensityd,
    )

    sigma = (0.3, max(0.3, plan.blur_sigma))
    chance = [
        (plan.noise_probability, lambda p: RandGaussianNoised(IMAGE, prob=p, std=plan.noise_std)),
        (plan.blur_probability, lambda p: RandGaussianSmoothd(IMAGE, sigma, sigma, sigma, prob=p)),
        (plan.contrast_probability, lambda p: RandScaleIntensityd(IMAGE, factors=plan.contrast, prob=p)),
        (plan.brightness_probability, lambda p: RandShiftIntensityd(IMAGE, offsets=plan.brightness, prob=p)),
        (
            plan.gamma_probability,
            lambda p: RandAdjustContrastd(IMAGE, prob=p, gamma=(1 - plan.gamma, 1 + plan.gamma), retain_stats=True),
        ),
        (plan.invert_probability, lambda p: RandScaleIntensityd(IMAGE, factors=(-2.0, -2.0), prob=p)),  # x * (1 - 2)
    ]
    return [make(probability) for probability, make in chance if probability]


def _alike(pair: tuple[int, int], patch: Sequence[int], spacing_mm: Sequence[float] | None) -> bool:
    return patch[pair[0]] == patch[pair[1]] and _same_spacing(pair, spacing_mm)


def _same_spacing(pair: tuple[int, int], spacing_mm: Sequence[float] | None) -> bool:
    return spacing_mm is None or abs(spacing_mm[pair[0]] / spacing_mm[pair[1]] - 1) < 0.1
