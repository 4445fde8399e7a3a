"""The channels of a first stage, made of its class indices on the device of the training, and varied there."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from unetpp.data.first_stage import list_channels, split_codes
from unetpp.labels.coding_torch import RegionTensors
from unetpp.plan import Plan

FARTHEST = 2
"""Largest number of voxels by which outlines move."""
_STREAM = 1
"""Tells these random numbers from those of dropout in the same step."""
POOL = {2: functional.max_pool2d, 3: functional.max_pool3d}


class FirstStageChannels:
    """Adds the channels of the first stage to the images of a batch.

    In a training step they are varied, so that the second stage looks at the image too: outlines move outwards or
    inwards, and of some patches a class is removed, as if the first stage had missed it. (nnU-Net does the former too,
    and removes single connected objects, which have to be found on a CPU; a patch seldom has two of a class.)

    Args:
        plan: of the second stage.
    """

    def __init__(self, plan: Plan) -> None:
        channels = list_channels(plan.data)
        self._coding, self._count = RegionTensors(channels), len(channels)
        self._augment, self._seed = plan.train.augment, plan.train.seed
        mm: Sequence[float] = plan.data.voxel_mm or (1.0,) * plan.data.dims
        self._is_fine = [each <= 2 * min(mm) for each in mm]

    def __call__(self, images: Tensor, codes: Tensor, step: int | None = None, index: int = 0) -> tuple[Tensor, Tensor]:
        """Divide the labels, and add the channels.

        Args:
            images: (B, C, *patch) float32.
            codes: (B, 1, *patch) int64, see `data.first_stage`.
            step: number of the training step, on which and on the seed the variation depends; None: it is not varied.
            index: number of the first patch in its step.

        Returns:
            Images (B, C + channels, *patch) and labels (B, 1, *patch).
        """
        labels, first = split_codes(codes)
        channels = self._coding.make_targets(first, self._count)
        if step is not None:
            channels = torch.stack(
                [self._vary(each, self._seed_patch(step, number)) for number, each in enumerate(channels, index)]
            )
        return torch.cat([images, channels.to(images.dtype)], dim=1), labels

    def _seed_patch(self, step: int, index: int) -> torch.Generator:
        return torch.Generator().manual_seed(hash((self._seed, step, index, _STREAM)) % 2**63)

    def _vary(self, channels: Tensor, rng: torch.Generator) -> Tensor:
        """Vary the channels (channels, *patch) of one patch."""
        chance, other, which = torch.rand(3, generator=rng).tolist()
        distance = int(torch.randint(1, FARTHEST + 1, (), generator=rng))
        if chance < self._augment.first_stage_outlines:
            channels = self._move_outlines(channels, distance if which < 0.5 else -distance)
        if other < self._augment.first_stage_misses:
            present = channels.flatten(1).amax(1).nonzero().flatten().tolist()
            if present:
                missed = present[int(torch.randint(len(present), (), generator=rng))]
                channels = channels.index_fill(0, torch.tensor([missed], device=channels.device), 0.0)
        return channels

    def _move_outlines(self, channels: Tensor, distance: int) -> Tensor:
        """Move outlines outwards, or with a negative distance inwards; not along axes of thick voxels."""
        radii = [abs(distance) * fine for fine in self._is_fine]
        sign = 1 if distance > 0 else -1
        pool = POOL[len(radii)]
        moved: Tensor = pool(sign * channels[None], [2 * radius + 1 for radius in radii], 1, radii)
        return sign * moved[0]
