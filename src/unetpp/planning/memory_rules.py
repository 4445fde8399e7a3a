"""Rules for what fits a memory: patches from the typical case downwards, as in nnU-Net, batches and widths."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from math import prod

from unetpp.plan import Axes, PredictPlan
from unetpp.planning.choice import Choice
from unetpp.planning.geometry_rules import by, count_long_axes, shape_patch

FEWEST_PATCHES = 2
"""Number of patches of a step for which a patch is made to fit."""
LARGEST_VOXELS = {2: 2048**2, 3: 256**3}
"""Number of voxels of the largest patch that is tried, by the number of long axes; nnU-Net begins there too."""
SMALLEST_VOXELS = {2: 64**2, 3: 32**3}
"""Number of voxels of the smallest patch that is tried."""
SHRINKING = 0.9
"""Each patch that is tried has so many of the voxels of the one before."""
SHARE_OF_DATA = 0.05
"""Largest share of all voxels that a step sees, as in nnU-Net."""
USUAL_WIDTH = {"cuda": 32, "cpu": 16}
"""First width that is chosen by memory alone: the papers' on a GPU, half of it on a CPU."""


def list_patch_voxels(shape: Axes, largest: int | None = None) -> list[int]:
    """List numbers of voxels of the patches to try, the largest first: that of the typical case, if that is not huge.

    Args:
        shape: typical size of a case on the network's grid, in voxels.
        largest: number of voxels to begin with; None: as many as patches have at most.
    """
    axes = count_long_axes(shape)
    voxels = [min(prod(shape), largest or LARGEST_VOXELS[axes])]
    while voxels[-1] * SHRINKING >= SMALLEST_VOXELS[axes]:
        voxels.append(int(voxels[-1] * SHRINKING))
    return voxels


def choose_filling_patch(
    median_shape: Axes, voxels: int, memory: str, multiples: Axes, spacing_mm: Sequence[float] | None = None
) -> Choice[Axes]:
    """Shape the patch of a number of voxels that fits the memory.

    Args:
        median_shape: typical size of a case in voxels.
        voxels: number of voxels that fit.
        memory: the memory that a training may take, for the reason.
        multiples: product of the strides of each axis.
        spacing_mm: voxel size; None: the same along all axes.
    """
    whole = pad_case(median_shape, multiples)
    # the typical case, padded to multiples, is the typical case
    patch = shape_patch(prod(whole) if voxels >= prod(median_shape) else voxels, median_shape, spacing_mm, multiples)
    if patch == whole:
        return Choice(patch, f"the typical case of {by(median_shape)} fits whole")
    if voxels >= LARGEST_VOXELS[count_long_axes(median_shape)]:
        return Choice(patch, f"the typical case is {by(median_shape)}; as large as patches get here")
    return Choice(patch, f"the typical case is {by(median_shape)}; as much of it as {memory} hold")


def pad_case(shape: Axes, multiples: Axes) -> Axes:
    """Return the smallest multiples that hold a case, in voxels."""
    return tuple(-(-size // step) * step for size, step in zip(shape, multiples, strict=True))


def choose_filling_batch(patch_voxels: int, most: int, memory: str, fits: Callable[[int], bool]) -> Choice[int]:
    """Choose as many patches as fit the memory, at least 2, but no more than a twentieth of the data.

    Args:
        patch_voxels: number of voxels of a patch.
        most: largest batch for the data, see `limit_batch`.
        memory: the memory that a training may take, for the reason.
        fits: whether a batch fits it; if one does, smaller ones do.
    """
    low, high = FEWEST_PATCHES, most + 1  # low is taken, high is too many
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    seen = f"{low * patch_voxels / 1e6:.2g} million voxels in each step"
    if low == most == FEWEST_PATCHES:
        return Choice(low, f"the smallest batch: {seen} are {SHARE_OF_DATA:.0%} of the data or more")
    if low == most:
        return Choice(low, f"{SHARE_OF_DATA:.0%} of all voxels in each step, as in nnU-Net; the memory may hold more")
    return Choice(low, f"as many as {memory} hold: {seen}")


def list_smaller_tiles(planned: PredictPlan, patch: Axes) -> Iterator[PredictPlan]:
    """List what may fit the memory, the fastest first: as planned, one tile at a time, one like a training patch."""
    yield planned
    yield planned.model_copy(update={"batch": 1})
    yield planned.model_copy(update={"batch": 1, "tile": tuple(patch)})


def limit_batch(patch_voxels: int, data_voxels: int) -> int:
    """Return the largest batch that shows a step no more than its share of the data; at least 2.

    Args:
        patch_voxels: number of voxels of a patch.
        data_voxels: number of voxels of all cases on the network's grid.
    """
    return max(FEWEST_PATCHES, int(SHARE_OF_DATA * data_voxels / patch_voxels))


def limit_width(device: str, is_full: bool) -> float:
    """Return the widest first width for which there may be time: on a GPU patches grow before it exceeds the papers'.

    Args:
        device: "cpu" or "cuda".
        is_full: patches and batches cannot grow any further.
    """
    return math.inf if device == "cpu" or is_full else USUAL_WIDTH[device]


def choose_width_by_memory(fitting: Sequence[int], device: str, is_full: bool = False) -> Choice[int]:
    """Choose the papers' width on a GPU, half of it on a CPU, or what fits the memory.

    Args:
        fitting: first widths that fit the memory, or the narrowest if none does.
        device: "cpu" or "cuda".
        is_full: patches and batches cannot grow any further, and the memory is there for width.
    """
    usual = USUAL_WIDTH[device]
    value = max((width for width in fitting if is_full or width <= usual), default=min(fitting))
    if value > usual:
        return Choice(value, f"first width {value}: whole cases and the largest batch leave memory for it")
    if value == USUAL_WIDTH["cuda"]:
        return Choice(value, f"first width {value}: the papers' width")
    if device == "cuda":
        return Choice(value, f"first width {value}: the widest that fits the memory")
    return Choice(value, f"first width {value}: what this machine trains well")
