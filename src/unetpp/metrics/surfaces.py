"""Distances between the surfaces of two segmentations, as MONAI computes them: HD95 and surface Dice.

A surface is the centers of the voxels of a mask that have a face in common with a voxel outside it; beyond the border
of the image is outside. Values equal those of MONAI's `compute_hausdorff_distance` and `compute_surface_dice` (a test
compares them). Where two surfaces coincide the distance is 0, and only the other voxels are looked up in a k-d tree.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unetpp.volume import find_box

AT_ONCE = 50_000
"""Voxels whose distances are searched at once."""


def score_surfaces(
    predicted: np.ndarray, expected: np.ndarray, spacing: Sequence[float] | None, tolerance: float
) -> tuple[float, float]:
    """Compute HD95 and surface Dice.

    Args:
        predicted: mask (*spatial), not empty.
        expected: mask (*spatial), not empty.
        spacing: size of a voxel along each axis; None: 1.
        tolerance: largest distance of surfaces that agree, in the unit of `spacing`.

    Returns:
        The larger 95th percentile of the distances in both directions, in the unit of `spacing`; and the fraction of
        both surfaces that is within `tolerance` of the other one.
    """
    box = find_box(predicted | expected) or ()
    one, other = (_find_surface(mask[box]) for mask in (predicted, expected))
    both = [_measure_distances(*pair, spacing) for pair in ((one, other), (other, one))]
    hd95 = max(np.percentile(distances, 95) for distances in both)
    return float(hd95), float(np.mean(np.concatenate(both) <= tolerance))


def _find_surface(mask: np.ndarray) -> np.ndarray:
    """Mark the voxels of a mask that have a face in common with a voxel outside it."""
    inner = mask.copy()
    for axis in range(mask.ndim):
        there, here = np.moveaxis(mask, axis, 0), np.moveaxis(inner, axis, 0)
        here[1:] &= there[:-1]
        here[:-1] &= there[1:]
        here[[0, -1]] = False
    surface: np.ndarray = mask ^ inner
    return surface


def _measure_distances(source: np.ndarray, target: np.ndarray, spacing: Sequence[float] | None) -> np.ndarray:
    """Measure the distance of each voxel of a surface from the nearest of another, float32 in no order."""
    from scipy.spatial import KDTree

    scale = np.ones(source.ndim) if spacing is None else np.asarray(spacing, dtype=np.float64)
    apart = source & ~target
    distances = np.zeros(np.count_nonzero(source), dtype=np.float32)
    if apart.any():
        tree = KDTree(np.argwhere(target) * scale, leafsize=32, balanced_tree=False, compact_nodes=False)
        points = np.argwhere(apart) * scale
        for start in range(0, len(points), AT_ONCE):  # Ctrl-C waits for one search
            found = tree.query(points[start : start + AT_ONCE])[0]
            distances[start : start + len(found)] = found
    return distances
