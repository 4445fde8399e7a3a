"""Post-processing of segmentations, in memory that does not grow with the image: largest and smallest object, holes.

Objects touch at a side, an edge or a corner. A hole is background that is closed off by a class and all else that is
not background within, by sides alone. Connected parts are found slab by slab, and joined between slabs; a second pass
changes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unetpp.errors import naming_missing
from unetpp.selection import HOLES, LARGEST, Step
from unetpp.slabs import slabs

Slices = tuple[slice, ...]
Choose = Callable[[np.ndarray], np.ndarray]
"""Maps class indices to a mask."""
Free = Callable[[np.ndarray], None]


@dataclass(frozen=True, eq=False)
class Parts:
    """Connected parts of a mask."""

    numbers: np.ndarray
    """Number of the part of each piece within a slab, in the order in which slabs are labeled."""
    voxels: np.ndarray
    """(parts,) voxels of each."""
    marked: np.ndarray
    """(marks, parts) of these, voxels that each mark counts."""
    inside: np.ndarray
    """(parts,) whether it touches no side of the image."""


def clean_segmentation(segmentation: np.ndarray, steps: Sequence[Step], free: Free = lambda array: None) -> None:
    """Apply the steps of a post-processing to class indices (*spatial), in place.

    Args:
        segmentation: class indices; may lie on disk.
        steps: what is done, in this order.
        free: called with the segmentation after each slab, to release its memory.
    """
    for step in steps:
        choose, solid = choose_voxels(step)
        parts = find_parts(segmentation, choose, solid, free=free)
        unwanted = find_unwanted(step, parts)
        if unwanted.any():
            _change(segmentation, choose, solid, unwanted[parts.numbers], step, free)


def choose_voxels(step: Step) -> tuple[Choose, bool]:
    """Return what a step looks at, the classes or what is not of them, and whether corners connect it."""
    classes = np.array(step.classes)

    def choose(block: np.ndarray) -> np.ndarray:
        mask: np.ndarray = block == classes[0] if len(classes) == 1 else np.isin(block, classes)
        return ~mask if step.kind == HOLES else mask

    return choose, step.kind != HOLES


def find_unwanted(step: Step, parts: Parts) -> np.ndarray:
    """Find the parts (parts,) that a step changes: objects that it removes, or holes."""
    if step.kind == HOLES:
        return parts.inside
    if step.kind == LARGEST:
        unwanted = np.ones(len(parts.voxels), dtype=bool)
        unwanted[parts.voxels.argmax() if len(unwanted) else ()] = False
        return unwanted
    return parts.voxels < step.voxels


def find_parts(
    segmentation: np.ndarray,
    choose: Choose,
    solid: bool,
    marks: Sequence[Callable[[Slices], np.ndarray]] = (),
    free: Free = lambda array: None,
) -> Parts:
    """Find the connected parts of a mask.

    Args:
        segmentation: class indices (*spatial).
        choose: makes the mask of a block.
        solid: whether edges and corners connect, too.
        marks: mark voxels within slices, to count them.
        free: called with the segmentation after each slab.
    """
    with naming_missing("Post-processing"):
        from scipy.sparse import coo_array, csgraph

    pairs, counts, inside = [], [], []
    last, first = np.zeros(segmentation.shape[1:], dtype=np.int64), 0  # number of the piece above, from 1
    for slices, labeled, count in _label_slabs(segmentation, choose, solid):
        above, here = labeled[0], labeled[1:]
        both = above > 0
        pairs.append(np.unique(np.stack([last[both] - 1, first + above[both] - 1]), axis=1))
        counted = [here.ravel(), *(here[mark(slices)] for mark in marks)]
        counts.append(np.stack([np.bincount(each, minlength=count + 1)[1:] for each in counted]))
        inside.append(_find_inside(here, slices[0], segmentation.shape, count))
        last = np.where(here[-1] > 0, first + here[-1].astype(np.int64), 0)
        first += count
        free(segmentation)
    links = np.concatenate(pairs, axis=1)
    graph = coo_array((np.ones(links.shape[1], dtype=bool), tuple(links)), shape=(first, first))
    count, numbers = csgraph.connected_components(graph, directed=False) if first else (0, np.zeros(0, dtype=int))
    outside = np.bincount(numbers, weights=~np.concatenate(inside), minlength=count)
    sums = np.stack([np.bincount(numbers, each, minlength=count) for each in np.concatenate(counts, axis=1)])
    return Parts(numbers, sums[0].astype(np.int64), sums[1:].astype(np.int64), outside == 0)


def _label_slabs(segmentation: np.ndarray, choose: Choose, solid: bool) -> Iterator[tuple[Slices, np.ndarray, int]]:
    """Label the pieces of each slab, together with the row above it (index 0), which was chosen before any change."""
    from scipy import ndimage

    structure = ndimage.generate_binary_structure(segmentation.ndim, segmentation.ndim if solid else 1)
    last = np.zeros(segmentation.shape[1:], dtype=bool)
    for slices in slabs(segmentation.shape):
        mask = choose(np.asarray(segmentation[slices]))
        joined = np.concatenate([last[None], mask])
        last = mask[-1].copy()
        labeled, count = ndimage.label(joined, structure)
        yield slices, labeled, count


def _find_inside(here: np.ndarray, rows: slice, shape: tuple[int, ...], count: int) -> np.ndarray:
    """Find the pieces (count,) of a slab that touch no side of the image."""
    sides: list[Any] = [here[0]] if rows.start == 0 else []
    sides += [here[-1]] if rows.stop == shape[0] else []
    for axis in range(1, here.ndim):
        sides += [here.take(0, axis), here.take(-1, axis)]
    inside = np.ones(count + 1, dtype=bool)
    for side in sides:
        inside[side.ravel()] = False
    return inside[1:]


def _change(
    segmentation: np.ndarray, choose: Choose, solid: bool, unwanted: np.ndarray, step: Step, free: Free
) -> None:
    """Remove objects, or fill holes where they are background; `unwanted` has an entry for each piece of a slab."""
    first = 0
    for slices, labeled, count in _label_slabs(segmentation, choose, solid):
        mask = np.append(False, unwanted[first : first + count])[labeled[1:]]
        block = segmentation[slices]
        if step.kind == HOLES:
            block[mask & (np.asarray(block) == 0)] = step.classes[0]
        else:
            block[mask] = 0
        first += count
        free(segmentation)
