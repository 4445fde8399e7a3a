"""Augmentation of training patches: how each is varied, drawn before it is read.

What a patch needs beyond its border is thus known and read with it: no voxel of a rotated patch is invented. The rest
is computed wherever the patch is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from math import cos, radians, sin

import numpy as np
from torch import Tensor

from unetpp.data.resampling import find_thick_axis
from unetpp.plan import AugmentPlan
from unetpp.train import intensity_changes as change
from unetpp.train.deformation import Deformation, count_points

FLAT = 3
"""Longest over shortest side of a patch, above which its plane is not rotated: most of the slab would leave it."""
SHARPEST = 0.3
"""Smallest standard deviation of a blur, in voxels: that of none."""
POINT_DISTANCE = 4
"""Distance of the control points of an elastic deformation over the largest shift: at less than 2, it could fold."""


@dataclass(frozen=True)
class Variation:
    """How one patch is varied: flipped, turned, deformed, and its intensities changed, in this order."""

    flips: tuple[int, ...] = ()
    """Axes, counted from the last one, -1."""
    turns: tuple[tuple[int, int, int], ...] = ()
    """Axes of each plane, counted as well, and the number of its quarter turns."""
    deformation: Deformation | None = None
    changes: tuple[Callable[[Tensor], None], ...] = ()
    """Functions that change the intensities of an image (C, *patch) in place."""

    def find_margin(self, patch: Sequence[int]) -> list[int]:
        """Compute how many voxels beyond either side of a patch are read along each axis."""
        margin = self.deformation.find_margin(patch) if self.deformation else [0] * len(patch)
        for a, b, turns in reversed(self.turns):
            if turns % 2:
                margin[a], margin[b] = margin[b], margin[a]
        return margin

    def orient(self, array: np.ndarray) -> np.ndarray:
        """Flip and turn an image (C, *window) or a label (*window): a view of it."""
        array = np.flip(array, self.flips)
        for a, b, turns in self.turns:
            array = np.rot90(array, turns, (a, b))
        return array


class Augmentation:
    """Random variations of patches.

    Args:
        plan: probabilities and ranges.
        patch: size of a patch in voxels.
        spacing_mm: voxel size of the network's grid; None: the same along all axes.
    """

    def __init__(self, plan: AugmentPlan, patch: Sequence[int], spacing_mm: Sequence[float] | None) -> None:
        self.patch = tuple(patch)
        self._plan = plan
        pairs = list(combinations(range(len(patch)), 2))
        self._turned = [(a, b) for a, b in pairs if patch[a] == patch[b] and _same_spacing(a, b, spacing_mm)]
        # rotation only in planes whose axes have similar spacing: a rotated thick slice is no longer a slice
        self._rotated = [(a, b) for a, b in pairs if len(patch) == 2 or _can_be_rotated(a, b, patch, spacing_mm)]
        thick = find_thick_axis(spacing_mm, None)
        self._varied = np.array([size > 1 and axis != thick for axis, size in enumerate(patch)])

    def draw(self, rng: np.random.Generator) -> Variation:
        """Draw how a patch is varied."""
        dims, plan = len(self.patch), self._plan
        flips = tuple(axis - dims for axis in range(dims) if plan.mirror and rng.random() < 0.5)
        planes = self._turned if plan.quarter_turns else []
        turns = tuple((a - dims, b - dims, int(rng.integers(4))) for a, b in planes)
        return Variation(flips, turns, self._draw_deformation(rng), tuple(self._draw_changes(rng)))

    def _draw_deformation(self, rng: np.random.Generator) -> Deformation | None:
        plan, matrix = self._plan, np.eye(len(self.patch))
        is_affine, is_elastic = rng.random(2) < (plan.affine_probability, plan.elastic_probability)
        if is_affine:
            for a, b in reversed(self._rotated):
                matrix = matrix @ make_rotation(len(matrix), a, b, radians(plan.rotate_degrees) * rng.uniform(-1, 1))
            matrix /= np.where(self._varied, 1 + plan.scale * rng.uniform(-1, 1, len(matrix)), 1)
        shifts, distance = None, max(1.0, POINT_DISTANCE * plan.elastic_shift)
        if is_elastic and plan.elastic_shift:
            points = np.where(self._varied, [count_points(size, distance) for size in self.patch], 1)
            shifts = plan.elastic_shift * rng.random() * rng.uniform(-1, 1, (len(matrix), *points))
            shifts[~self._varied] = 0
        unchanged = shifts is None and (matrix == np.eye(len(matrix))).all()
        return None if unchanged else Deformation(matrix, shifts, distance)

    def _draw_changes(self, rng: np.random.Generator) -> list[Callable[[Tensor], None]]:
        """Draw changes of intensities, in the order of nnU-Net."""
        plan = self._plan
        found: list[Callable[[Tensor], None]] = []
        if rng.random() < plan.noise_probability:
            std = plan.noise_std * rng.random()
            found.append(partial(change.add_noise, std=std, seed=int(rng.integers(2**63))))
        if rng.random() < plan.blur_probability:
            sigmas = rng.uniform(SHARPEST, max(SHARPEST, plan.blur_sigma), len(self.patch))
            found.append(partial(change.blur, sigmas=np.where(np.array(self.patch) > 1, sigmas, 0).tolist()))
        if rng.random() < plan.contrast_probability:
            found.append(partial(change.scale, factor=1 + plan.contrast * rng.uniform(-1, 1)))
        if rng.random() < plan.brightness_probability:
            found.append(partial(change.shift, offset=plan.brightness * rng.uniform(-1, 1)))
        if rng.random() < plan.low_resolution_probability:
            fraction = np.where(self._varied, rng.uniform(plan.low_resolution, 1), 1)
            sizes = np.maximum(1, np.rint(self.patch * fraction)).astype(int).tolist()
            found.append(partial(change.lower_resolution, sizes=sizes))
        for probability, inverted in ((plan.inverted_gamma_probability, True), (plan.gamma_probability, False)):
            if rng.random() < probability:
                gamma = 1 + plan.gamma * rng.uniform(-1, 1)
                found.append(partial(change.correct_gamma, gamma=gamma, inverted=inverted))
        if rng.random() < plan.invert_probability:
            found.append(partial(change.scale, factor=-1.0))
        return found


def make_rotation(dims: int, a: int, b: int, angle: float) -> np.ndarray:
    """Return the matrix of a rotation in the plane of axes a and b, by an angle in radians."""
    matrix = np.eye(dims)
    matrix[a, a] = matrix[b, b] = cos(angle)
    matrix[a, b], matrix[b, a] = -sin(angle), sin(angle)
    return matrix


def _can_be_rotated(a: int, b: int, patch: Sequence[int], spacing_mm: Sequence[float] | None) -> bool:
    shorter, longer = sorted((patch[a], patch[b]))
    return _same_spacing(a, b, spacing_mm) and longer <= FLAT * shorter


def _same_spacing(a: int, b: int, spacing_mm: Sequence[float] | None) -> bool:
    return spacing_mm is None or abs(spacing_mm[a] / spacing_mm[b] - 1) < 0.1
