"""Rotation, scaling and elastic deformation of a patch: where each of its voxels is taken from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from unetpp.train.separable import multiply_axes


@dataclass(frozen=True)
class Deformation:
    """Map from the voxels of a patch to where they are taken from, both as offsets from the center of the patch."""

    matrix: np.ndarray
    """(dims, dims): the linear part."""
    shifts: np.ndarray | None = None
    """(dims, *points): further shift of each control point, in voxels, with one point along an axis that is the same
    for all; None: no shift."""
    distance: float = 1.0
    """Distance of control points in voxels."""

    def find_margin(self, patch: Sequence[int]) -> list[int]:
        """Compute how many voxels beyond either side of a patch are needed along each axis."""
        half = (np.array(patch) - 1) / 2
        reach = np.abs(self.matrix) @ half
        if self.shifts is not None:
            reach += np.abs(self.shifts).reshape(len(half), -1).max(axis=1)
        return [max(0, ceil(beyond - 1e-6)) for beyond in reach - half]

    def apply(self, image: Tensor, label: Tensor, patch: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Deform a patch: the image by linear interpolation, the label by its nearest voxel.

        Args:
            image: (C, *window) float32, the patch with its margin.
            label: (*window), of any type.
            patch: size of the patch.

        Returns:
            image (C, *patch) and label (*patch).
        """
        kept, moved = self._split_axes()
        order, count = [*kept, *moved], len(moved)
        back = np.argsort(order).tolist()
        # along axes that nothing moves along, the slices are channels of one deformation in the plane: 10 times as fast
        image, label = image.permute(0, *(axis + 1 for axis in order)), label.permute(order)
        window, size = image.shape[-count:], [patch[axis] for axis in moved]
        places = self._locate(moved, window, size, image.device)
        grid = torch.empty(1, *size, count, device=image.device)
        index = torch.zeros(size, dtype=torch.int64, device=image.device)
        for axis, (place, length) in enumerate(zip(places, window, strict=True)):
            grid[0, ..., count - 1 - axis] = place * (2 / max(1, length - 1)) - 1
            index = index.mul_(length).add_(place.round_().clamp_(0, length - 1).long())
        flat = image.reshape(1, -1, *window)
        sampled = functional.grid_sample(flat, grid, "bilinear", padding_mode="border", align_corners=True)
        picked = label.reshape(-1, prod(window)).index_select(1, index.flatten())
        varied = sampled.reshape(*image.shape[:-count], *size).permute(0, *(axis + 1 for axis in back))
        return varied, picked.reshape(*label.shape[:-count], *size).permute(back)

    def _split_axes(self) -> tuple[list[int], list[int]]:
        """Return the axes along which every voxel stays where it is, whatever the other axes, and the others."""
        axes = range(len(self.matrix))
        stays = self.matrix == np.eye(len(axes))
        kept = [axis for axis in axes if stays[axis].all() and stays[:, axis].all() and not self._shifts_along(axis)]
        moved = [axis for axis in axes if axis not in kept]
        return (kept, moved) if len(moved) > 1 else ([], list(axes))

    def _shifts_along(self, axis: int) -> bool:
        return self.shifts is not None and (self.shifts.shape[axis + 1] > 1 or bool(self.shifts[axis].any()))

    def _locate(
        self, axes: Sequence[int], window: Sequence[int], size: Sequence[int], device: torch.device
    ) -> list[Tensor]:
        """Compute where in the window each voxel is taken from: one coordinate (*size) for each axis."""
        offsets = [torch.arange(n, device=device, dtype=torch.float32) - (n - 1) / 2 for n in size]
        columns = [
            offset.reshape([-1 if each == axis else 1 for each in range(len(size))])
            for axis, offset in enumerate(offsets)
        ]
        places = []
        for axis, length in zip(axes, window, strict=True):
            row = [float(self.matrix[axis, other]) for other in axes]
            terms = [column * factor for column, factor in zip(columns, row, strict=True)]
            places.append(sum(terms[1:], terms[0] + (length - 1) / 2))
        if self.shifts is not None:
            shifts = torch.from_numpy(self.shifts[list(axes)].astype(np.float32)).to(device)
            shifts = shifts.reshape(len(axes), *(self.shifts.shape[axis + 1] for axis in axes))
            splines = [
                make_spline(offset, points, self.distance)
                for offset, points in zip(offsets, shifts.shape[1:], strict=True)
            ]
            places = [place + shift for place, shift in zip(places, multiply_axes(shifts, splines), strict=True)]
        return places


def count_points(size: int, distance: float) -> int:
    """Return how many control points cover an axis of `size` voxels."""
    return ceil((size - 1) / distance) + 3


def make_spline(offsets: Tensor, points: int, distance: float) -> Tensor:
    """Return the weights (n, points) of control points at n offsets from their center: cubic B-splines.

    They are not negative, and their sum is 1: nothing is shifted further than the points around it.
    """
    if points == 1:
        return torch.ones(len(offsets), 1, device=offsets.device)
    numbers = torch.arange(points, device=offsets.device) - (points - 1) / 2
    away = (offsets[:, None] / distance - numbers).abs()
    near, far = 2 / 3 - away**2 + away**3 / 2, (2 - away).clamp(min=0) ** 3 / 6
    return torch.where(away < 1, near, far)
