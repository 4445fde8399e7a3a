"""Rules for stages: one network on the grid of the images, one at low resolution, or low resolution first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from unetpp.data.resampling import THICK_RATIO
from unetpp.data_plan import Resolution
from unetpp.plan import Axes
from unetpp.planning.choice import Choice
from unetpp.words import count_noun

LOW_RESOLUTION_FROM = 4.0
"""Number of patches in the typical volume from which a low resolution shows more context (nnU-Net trains one there)."""
CASCADE_FROM = 27.0
"""Number of patches in the typical volume from which low resolution comes first unless the user decides: three along
each axis, so that most patches see no border of a body. Chosen, not measured."""
FEWEST_CASES = 10
"""Number of cases below which low resolution is not put first unasked: each of its networks has half of them."""
LONG_MINUTES = 600
"""Minutes from which a training may be divided into three unasked; in less, each would make few steps, and one network
can be pruned and exported. Chosen, not measured."""
FIRST_SHARE = 0.4
"""Fraction of the time of a fold for the two networks of the first stage: a patch of theirs holds a large part of a
volume, so that they learn in few steps."""
GROWTH = 1.01
"""Factor by which voxels grow until a patch holds enough, as in nnU-Net."""


def count_patches(shape: Axes, patch: Axes) -> float:
    """Return the number of patches in a volume; along an axis that is shorter than a patch there is one.

    Args:
        shape: size of the volume in voxels.
        patch: size of a patch in voxels.
    """
    return prod(size / min(size, side) for size, side in zip(shape, patch, strict=True))


def choose_low_spacing(
    spacing_mm: Sequence[float], find_sizes: Callable[[tuple[float, ...]], tuple[Axes, Axes]]
) -> Choice[tuple[float, ...]]:
    """Choose the voxels of low resolution: the finest at which a patch holds a quarter of the typical volume.

    nnU-Net's rule: voxels grow in small steps; while the longest side is more than twice as long as others, those alone
    do.

    Args:
        spacing_mm: voxel size of full resolution.
        find_sizes: returns the typical shape and the patch, in voxels, for a voxel size.
    """
    before = patches = count_patches(*find_sizes(tuple(spacing_mm)))
    enough, few = 0, -1  # numbers of small steps: with the former a patch holds enough, with the latter not
    while patches > LOW_RESOLUTION_FROM:
        few, enough = enough, max(1, 2 * enough)
        patches = count_patches(*find_sizes(_grow(spacing_mm, enough)))
    while enough - few > 1:
        middle = (enough + few) // 2
        found = count_patches(*find_sizes(_grow(spacing_mm, middle)))
        if found > LOW_RESOLUTION_FROM:
            few = middle
        else:
            enough, patches = middle, found
    reason = f"low resolution: the typical volume is {patches:.1f} patches instead of {before:.1f}"
    return Choice(_grow(spacing_mm, enough), reason)


def _grow(spacing_mm: Sequence[float], steps: int) -> tuple[float, ...]:
    """Make voxels larger in small steps, those of the short sides first."""
    sizes = tuple(spacing_mm)
    for _ in range(steps):
        behind = [2 * mm < max(sizes) for mm in sizes]
        grows = behind if any(behind) else [True] * len(sizes)
        sizes = tuple(mm * (GROWTH if each else 1) for mm, each in zip(sizes, grows, strict=True))
    return tuple(float(f"{mm:.4g}") for mm in sizes) if steps else sizes


def choose_resolution(
    patches: float, spacing_mm: Sequence[float] | None, cases: int, minutes: float | None
) -> Choice[Resolution]:
    """Choose low resolution first for volumes far larger than a patch, if cases and time are enough for two stages.

    Args:
        patches: number of patches in the typical volume; of an image 1.
        spacing_mm: voxel size of the network's grid; None: unknown.
        cases: number of cases.
        minutes: wall time of the training; None: not limited.
    """
    if patches < CASCADE_FROM:
        return Choice("full", "")
    far = f"the typical volume is {patches:.0f} patches, far more than a network sees at once"
    if spacing_mm is None:
        return Choice("full", f"{far}, but without voxel sizes there is no coarser grid")
    if cases < FEWEST_CASES:
        return Choice("full", f"{far}, but {count_noun(cases, 'case')} are few to divide among two first networks")
    if minutes is not None and minutes < LONG_MINUTES:
        return Choice("full", f"{far}, but {minutes:g} minutes are short for three trainings one after another")
    return Choice("cascade", f"{far}: a first stage sees a quarter of it and tells the second where things are")


def find_obstacle(dims: int, patches: float, spacing_mm: Sequence[float] | None, is_started: bool) -> str:
    """Say why a low resolution that the user asks for cannot be; empty: it can.

    Args:
        dims: number of spatial axes that the network has.
        patches: number of patches in the typical volume.
        spacing_mm: voxel size of the network's grid; None: unknown.
        is_started: whether a cascade is asked for that starts from a model.
    """
    if dims == 2:
        return "for images in 2D: it is for volumes"
    if spacing_mm is None:
        return "for volumes without voxel sizes in every file"
    if patches <= LOW_RESOLUTION_FROM:
        return f"where a patch holds {1 / patches:.0%} of the typical volume: no coarser grid shows more"
    return "with a model to start from, which has one stage" if is_started else ""


def consider_stages(
    dims: int, shape: Axes, spacing_mm: Sequence[float] | None, patch: Axes, resolution: Resolution = "full"
) -> tuple[str, ...]:
    """Say which configurations there are for this data, which is chosen, and why: a line for each, the chosen first.

    Args:
        dims: number of spatial axes that the network has.
        shape: typical size of a case on the network's grid, in voxels.
        spacing_mm: voxel size; None: unknown.
        patch: size of a patch in voxels.
        resolution: what is chosen.
    """
    patches = count_patches(shape, patch)
    sees = f"a patch holds {1 / patches:.0%} of the typical {'image' if dims == 2 else 'volume'}"
    if dims == 2:
        return (f"2D, chosen: the network is given images; {sees}",)
    thick = spacing_mm is not None and max(spacing_mm) > THICK_RATIO * min(spacing_mm)
    flat = "kernels are flat as long as slices are thick" if thick else "slices are as fine as their neighbors"
    why = f"neighboring slices say what a slice shows; {flat}; {sees}"
    if min(shape) == 1:
        plane = "2D, as good: the volumes are single slices, for which 3D is the network of an image"
    elif thick:
        plane = "2D, worth a comparison: slices are thick (`data.dims=2`)"
    else:
        plane = "2D, not chosen: it sees nothing of the slices above and below (`data.dims=2`)"
    if resolution == "low":
        full = "3D at full resolution, worth a comparison: outlines are sharper (`data.resolution=full`)"
        return f"3D at low resolution, chosen: {why}", plane, full
    if resolution == "cascade":
        first = (
            f"low resolution first, chosen: the typical volume is {patches:.1f} patches, and a first stage sees more"
        )
        return first, f"3D alone, worth a comparison: {why} (`data.resolution=full`)", plane
    if patches <= LOW_RESOLUTION_FROM:
        low = f"low resolution first, not needed: the typical volume is {patches:.1f} patches"
    elif spacing_mm is None:
        low = f"low resolution first, not possible: {patches:.1f} patches, but no voxel sizes to make larger"
    else:
        low = (
            f"low resolution first, worth a comparison: the typical volume is {patches:.1f} patches, and a network "
            "sees one (`data.resolution=cascade`, or `low` for a coarse network alone)"
        )
    return f"3D, chosen: {why}", plane, low
