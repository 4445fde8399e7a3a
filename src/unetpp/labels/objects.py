"""Sizes and numbers of the connected objects of each class, in memory that does not grow with the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unetpp.labels.classes import find_region, list_regions
from unetpp.slabs import slabs


@dataclass(frozen=True)
class ClassSize:
    """How much of a class is in a segmentation."""

    voxels: int
    objects: int | None
    """Number of connected objects; neighbors touch at a side, an edge or a corner. None: scipy is not installed."""


def measure_classes(
    segmentation: np.ndarray, num_classes: int, regions: Sequence[Sequence[int]] | None = None
) -> list[ClassSize]:
    """Count the voxels and the connected objects of each foreground class or region, slab by slab.

    Args:
        segmentation: class indices (*spatial).
        num_classes: number of classes, background included.
        regions: class indices of each region; None: every foreground class.

    Returns:
        One entry for each class 1, 2, ..., or each region.
    """
    parts = list_regions(num_classes, regions)
    voxels = np.zeros(len(parts), dtype=np.int64)
    counters = [_Counter() for _ in parts]
    for slices in slabs(segmentation.shape):
        block = np.asarray(segmentation[slices])
        here = np.bincount(block.ravel(), minlength=num_classes)[:num_classes]
        for number, part in enumerate(parts):
            voxels[number] += (count := here[list(part)].sum())
            if count:
                counters[number].add(find_region(block, part))
            else:
                counters[number].end_objects()
    found = zip(voxels.tolist(), counters, strict=True)
    return [ClassSize(count, counter.objects) for count, counter in found]


class _Counter:
    """Counts the connected objects of a mask that arrives in slabs along its first axis."""

    def __init__(self) -> None:
        self.objects: int | None = 0
        self._last: np.ndarray | None = None
        """The last row: 0, or a number for each object that reaches it."""

    def add(self, mask: np.ndarray) -> None:
        """Add a slab. The row before it is labeled again with it, and says which objects are continued."""
        try:
            from scipy import ndimage
            from scipy.sparse import coo_array, csgraph
        except ImportError:  # on machines that only run exported files
            self.objects = None
        if self.objects is None:
            return
        last = np.zeros_like(mask[0], dtype=np.int32) if self._last is None else self._last
        labeled, count = ndimage.label(np.concatenate([last[None] > 0, mask]), np.ones((3,) * mask.ndim))
        continued, inside = int(last.max(initial=0)), last > 0
        pairs = np.unique(np.stack([last[inside] - 1, continued + labeled[0][inside] - 1]), axis=1)
        links = coo_array((np.ones(pairs.shape[1]), tuple(pairs)), shape=(continued + count,) * 2)
        joined, numbers = csgraph.connected_components(links, directed=False)
        self.objects += joined - continued
        row = np.where(labeled[-1] > 0, 1 + numbers[continued + labeled[-1] - 1], 0)
        self._last = np.unique(np.append(row, 0), return_inverse=True)[1][:-1].reshape(row.shape).astype(np.int32)

    def end_objects(self) -> None:
        """Forget the last row: the next slab has nothing of it."""
        self._last = None
