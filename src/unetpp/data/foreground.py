"""Positions of some voxels of each class, on which patches are centered."""

from __future__ import annotations

import hashlib

import numpy as np

from unetpp.scratch import release
from unetpp.slabs import slabs

LOCATIONS_PER_CLASS = 4096
"""Largest number of positions of each class of a case: enough to center patches on."""


def sample_positions(label: np.ndarray, name: str, ignored: int | None) -> np.ndarray:
    """Sample positions of each foreground class, in two passes over slabs.

    Args:
        label: class indices (*spatial).
        name: of the case, on which the choice depends.
        ignored: index of voxels that nobody labeled; None: there are none.

    Returns:
        Rows (class, *position) int32, ordered by class and position. With voxels that nobody labeled, class 0 stands
        for labeled voxels of any class.
    """
    counts = np.zeros(int(np.iinfo(label.dtype).max) + 1, np.int64)
    for slices in slabs(label.shape):
        counts += np.bincount(label[slices].ravel(), minlength=len(counts))
        release(label)
    found = [int(index) for index in np.flatnonzero(counts[1:]) + 1 if index != ignored]
    sizes = {index: int(counts[index]) for index in found}
    if ignored is not None and counts[ignored]:
        sizes = {0: int(counts.sum() - counts[ignored]), **sizes}
    rng = np.random.default_rng(list(hashlib.sha256(name.encode(errors="surrogateescape")).digest()))
    ranks = {index: _choose_ranks(rng, size) for index, size in sizes.items()}
    rows: dict[int, list[np.ndarray]] = {index: [] for index in sizes}
    passed = dict.fromkeys(sizes, 0)
    for slices in slabs(label.shape):
        block = label[slices]
        present = np.bincount(block.ravel(), minlength=len(counts))
        for index in sizes:
            count = int(present[index] if index else block.size - present[ignored])
            low, high = np.searchsorted(ranks[index], (passed[index], passed[index] + count))
            if low < high:
                places = np.flatnonzero(block == index if index else block != ignored)
                chosen = places[ranks[index][low:high] - passed[index]]
                position = np.stack(np.unravel_index(chosen, block.shape), axis=1)
                position[:, 0] += slices[0].start
                rows[index].append(np.column_stack([np.full(len(chosen), index), position]).astype(np.int32))
            passed[index] += count
        release(label)
    empty = np.empty((0, 1 + label.ndim), np.int32)
    return np.concatenate([empty, *(part for parts in rows.values() for part in parts)])


def _choose_ranks(rng: np.random.Generator, size: int) -> np.ndarray:
    if size <= LOCATIONS_PER_CLASS:
        return np.arange(size)
    return np.sort(rng.choice(size, LOCATIONS_PER_CLASS, replace=False))
