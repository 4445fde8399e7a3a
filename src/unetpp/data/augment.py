"""Variation of training patches, by MONAI's transforms with the plan's numbers. Drawn from the seed that is given, nothing else."""

from __future__ import annotations

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

        self._compose = Compose([*_spatial(plan, patch, spacing_mm), *_intensity(plan)])

    def __call__(self, image: np.ndarray, label: np.ndarray, seed: int) -> tuple[Tensor, Tensor]:
        """Vary a patch.

        Args:
            image: (C, *patch) float32.
            label: (*patch) class indices.
            seed: 32 bits.

        Returns:
            image (C, *patch) float32 and label (1, *patch) int64.
        """
        self._compose.set_random_state(seed=seed)
        out = self._compose({IMAGE: torch.from_numpy(image), LABEL: torch.from_numpy(label[None].astype(np.float32))})
        return _plain(out[IMAGE]), _plain(out[LABEL]).long()


def _plain(tensor: Tensor) -> Tensor:
    return torch.as_tensor(getattr(tensor, "array", tensor)).contiguous() if type(tensor) is not Tensor else tensor.contiguous()


def _spatial(plan: AugmentPlan, patch: Sequence[int], spacing_mm: Sequence[float] | None) -> list[Any]:
    from monai.transforms import RandAffined, RandFlipd, RandRotate90d

    dims = len(patch)
    both = [IMAGE, LABEL]
    steps: list[Any] = []
    if plan.mirror:
        steps += [RandFlipd(both, prob=0.5, spatial_axis=axis) for axis in range(dims)]
    square = [pair for pair in combinations(range(dims), 2) if _alike(pair, patch, spacing_mm)]
    if plan.quarter_turns:
        steps += [RandRotate90d(both, prob=0.5, spatial_axes=pair) for pair in square]
    if plan.affine_probability:
        # turns only in planes whose axes have like spacing: a turned thick slice is no slice
        angle = radians(plan.rotate_degrees)
        turns = [angle] if dims == 2 else [angle if _same_spacing(pair, spacing_mm) else 0.0 for pair in ((1, 2), (0, 2), (0, 1))]
        steps.append(RandAffined(both, prob=plan.affine_probability, rotate_range=turns, scale_range=[plan.scale] * dims, mode=["bilinear", "nearest"], padding_mode="reflection"))
    return steps


def _intensity(plan: AugmentPlan) -> list[Any]:
    from monai.transforms import RandAdjustContrastd, RandGaussianNoised, RandGaussianSmoothd, RandScaleIntensityd, RandShiftIntensityd

    sigma = (0.3, max(0.3, plan.blur_sigma))
    chance = [
        (plan.noise_probability, lambda p: RandGaussianNoised(IMAGE, prob=p, std=plan.noise_std)),
        (plan.blur_probability, lambda p: RandGaussianSmoothd(IMAGE, sigma, sigma, sigma, prob=p)),
        (plan.contrast_probability, lambda p: RandScaleIntensityd(IMAGE, factors=plan.contrast, prob=p)),
        (plan.brightness_probability, lambda p: RandShiftIntensityd(IMAGE, offsets=plan.brightness, prob=p)),
        (plan.gamma_probability, lambda p: RandAdjustContrastd(IMAGE, prob=p, gamma=(1 - plan.gamma, 1 + plan.gamma), retain_stats=True)),
        (plan.invert_probability, lambda p: RandScaleIntensityd(IMAGE, factors=(-2.0, -2.0), prob=p)),  # x * (1 - 2)
    ]
    return [make(probability) for probability, make in chance if probability]


def _alike(pair: tuple[int, int], patch: Sequence[int], spacing_mm: Sequence[float] | None) -> bool:
    return patch[pair[0]] == patch[pair[1]] and _same_spacing(pair, spacing_mm)


def _same_spacing(pair: tuple[int, int], spacing_mm: Sequence[float] | None) -> bool:
    return spacing_mm is None or abs(spacing_mm[pair[0]] / spacing_mm[pair[1]] - 1) < 0.1
