"""Mirrored copies for test-time augmentation. Mirroring twice along the same axes returns the original.

Imports no torch.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def mirrorings(dims: int) -> tuple[tuple[int, ...], ...]:
    """Return all 2^dims subsets of the spatial axes, the empty one first; axes count from the last (-1)."""
    spatial = range(-dims, 0)
    return tuple(axes for count in range(dims + 1) for axes in itertools.combinations(spatial, count))


def mirror(tensor: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Flip along `axes`; its own inverse."""
    return tensor.flip(axes) if axes else tensor
