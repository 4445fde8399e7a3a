"""Augmentation of training patches: flips and quarter turns as views of the array, then MONAI's random transforms.

Every variation is drawn from the seed of its patch alone.
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
FLAT = 3
"""Longest over shortest side of a patch, above which its plane is not rotated: most of the slab would leave it."""


class Augmentation:
    """Random variation of one patch at a time.

    Args:
        plan: probabilities and ranges.
        patch: size of a patch in voxels.
        spacing_mm: voxel size of the network's grid; None: the same along all axes.
    """

    def __init__(self, plan: AugmentPlan, patch: Sequence[int], spacing_mm: Sequence[float] | None) -> None:
        from monai.transforms import Compose

        dims = len(patch)
        self._flip_axes = range(dims) if plan.mirror else range(0)
        self._planes = [
            (a, b)
            for a, b in combinations(range(dims), 2)
            if plan.quarter_turns and patch[a] == patch[b] and _same_spacing(a, b, spacing_mm)
        ]
        transforms = _make_transforms(plan, patch, spacing_mm)
        self._compose = Compose(transforms) if transforms else None
        self._local = threading.local()
        """Copy of the transforms for each thread, because they hold their random state."""

    def __call__(self, image: np.ndarray, label: np.ndarray, seed: int) -> tuple[Tensor, Tensor]:
        """Vary a patch.

        Args:
            image: (C, *patch) float32.
            label: (*patch) class indices.
            seed: 32 bits.

        Returns:
            image (C, *patch) float32 and label (1, *patch) int64.
        """
        image, label = self._orient(image, label, np.random.default_rng(seed))
        if self._compose is None:
            return torch.from_numpy(image), torch.from_numpy(label[None].astype(np.int64))
        compose = self._local.compose = getattr(self._local, "compose", None) or copy.deepcopy(self._compose)
        compose.set_random_state(seed=seed)
        out = compose({IMAGE: torch.from_numpy(image), LABEL: torch.from_numpy(label[None].astype(np.float32))})
        # a MetaTensor becomes a plain tensor
        return out[IMAGE].as_subclass(Tensor).contiguous(), out[LABEL].as_subclass(Tensor).long().contiguous()

    def _orient(self, image: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Flip and rotate a patch; MONAI's transforms for this take a tenth of a training step on CPUs."""
        for axis in self._flip_axes:
            if rng.random() < 0.5:
                image, label = np.flip(image, axis + 1), np.flip(label, axis)
        for a, b in self._planes:
            turns = int(rng.integers(4))
            image, label = np.rot90(image, turns, (a + 1, b + 1)), np.rot90(label, turns, (a, b))
        # copied, because an axis of one voxel that was flipped counts as contiguous, which torch refuses
        return image.copy(), label.copy()


def _make_transforms(plan: AugmentPlan, patch: Sequence[int], spacing_mm: Sequence[float] | None) -> list[Any]:
    """Make the transforms whose probability is not 0; along an axis of one voxel there is nothing to vary."""
    from monai import transforms

    dims = len(patch)
    # rotation only in planes whose axes have similar spacing: a rotated thick slice is no longer a slice
    angle, planes = radians(plan.rotate_degrees), [(0, 1)] if dims == 2 else [(1, 2), (0, 2), (0, 1)]
    angles = [angle if dims == 2 or _can_be_rotated(a, b, patch, spacing_mm) else 0.0 for a, b in planes]
    sigma = [(0.3, max(0.3, plan.blur_sigma)) if size > 1 else (0.01, 0.01) for size in patch]
    gamma = (1 - plan.gamma, 1 + plan.gamma)
    every: list[Any] = [
        transforms.RandAffined(
            [IMAGE, LABEL],
            prob=plan.affine_probability,
            rotate_range=angles,
            scale_range=[plan.scale if size > 1 else 0.0 for size in patch],
            mode=["bilinear", "nearest"],
            padding_mode="reflection",
        ),
        transforms.RandGaussianNoised(IMAGE, prob=plan.noise_probability, std=plan.noise_std),
        transforms.RandGaussianSmoothd(IMAGE, *sigma, prob=plan.blur_probability),
        transforms.RandScaleIntensityd(IMAGE, factors=plan.contrast, prob=plan.contrast_probability),
        transforms.RandShiftIntensityd(IMAGE, offsets=plan.brightness, prob=plan.brightness_probability),
        transforms.RandAdjustContrastd(IMAGE, prob=plan.gamma_probability, gamma=gamma, retain_stats=True),
        transforms.RandScaleIntensityd(IMAGE, factors=(-2.0, -2.0), prob=plan.invert_probability),  # x * (1 - 2)
    ]
    return [each for each in every if each.prob]


def _can_be_rotated(a: int, b: int, patch: Sequence[int], spacing_mm: Sequence[float] | None) -> bool:
    shorter, longer = sorted((patch[a], patch[b]))
    return _same_spacing(a, b, spacing_mm) and longer <= FLAT * shorter


def _same_spacing(a: int, b: int, spacing_mm: Sequence[float] | None) -> bool:
    return spacing_mm is None or abs(spacing_mm[a] / spacing_mm[b] - 1) < 0.1
