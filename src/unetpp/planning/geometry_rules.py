"""Rules for sizes in space: voxel size, resampling, down-samplings, kernels, and the shape of patches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil, prod
from operator import mul
from typing import Literal

from unetpp.data.resampling import THICK_RATIO, find_thick_axis
from unetpp.plan import Axes
from unetpp.planning.choice import Choice
from unetpp.words import count_noun

MIN_BOTTLENECK = 4
"""Number of voxels that the deepest level keeps along every axis."""
USUAL_DEPTH = 4
"""Number of down-samplings in the papers' networks."""
SHALLOW_SIDE, SHALLOW_DEPTH = 128, 3
"""Longest side of a patch of an image up to which short trainings have a level less; and their down-samplings."""
SHALLOW_MINUTES = 10.0
"""Minutes of a processor up to which a training is short: on nuclei two widths of three levels were 0.14 [0.02, 0.26]
points of Dice better than of four in 6 minutes, and 0.1 [-0.1, 0.3] worse in 20 (docs/log.md)."""
LARGEST_DEPTH = {2: 6, 3: 5}
"""Largest number of down-samplings that is chosen, by the number of long axes; nnU-Net's usual patches have as many."""
SIDE_OF_USUAL_DEPTH = {2: 256, 3: 96}
"""Longest side of a patch, by the number of long axes, up to which the papers' depth is kept."""
THICK = 2.0
"""An axis is not yet down-sampled, nor convolved across, if its voxels are longer than the shortest by this factor."""
SLAB = 16
"""Largest number of slices of a volume whose patches and tiles may be as wide as those of an image."""


def choose_orientation(orientation: Literal["RAS"] | None, without: int) -> Choice[Literal["RAS"] | None]:
    """Choose whether volumes are turned to the axes of the body: if the header of every one states its own.

    Args:
        orientation: that of the fingerprint.
        without: number of volumes without a stated orientation.
    """
    if orientation:
        return Choice(orientation, "every volume is turned: X to the right, Y to the front, Z to the head")
    if without:
        return Choice(None, f"{count_noun(without, 'volume')} without an orientation: axes as the files store them")
    return Choice(None, "axes as the files store them")


def choose_spacing(
    median_mm: Sequence[float] | None,
    varies: bool,
    fine_mm: Sequence[float] | None = None,
    shape: Axes | None = None,
) -> Choice[tuple[float, ...] | None]:
    """Choose the network's grid: that of the median voxel, finer across slices where most are far too thick.

    nnU-Net's rule: if voxels are more than 3 times as long along one axis as along the others, and the axis has less
    than a third of their voxels, percentile 10 of that axis, but nothing finer than the others.

    Args:
        median_mm: median voxel size; None: not every file has one.
        varies: whether voxel sizes differ between cases.
        fine_mm: percentile 10 of the voxel sizes along each axis; None: unknown.
        shape: typical size of a case in voxels; None: unknown.
    """
    if median_mm is None:
        return Choice(None, "not every file has a voxel size: pixels as they are")
    target = list(median_mm)
    if not varies:
        return Choice(tuple(target), "that of all files; new images of another are resampled")
    thick = max(range(len(target)), key=target.__getitem__)
    others = [axis for axis in range(len(target)) if axis != thick]
    longest = max(target[axis] for axis in others)
    if fine_mm and shape and target[thick] > THICK_RATIO * longest:
        finer = max(fine_mm[thick], longest)
        if shape[thick] * THICK_RATIO < min(shape[axis] for axis in others) and finer < target[thick]:
            why = f"voxel sizes differ: all cases on the median voxel, but thick slices of {finer:.3g} mm"
            target[thick] = finer
            return Choice(tuple(target), f"{why} (percentile 10; the median is {median_mm[thick]:.3g})")
    return Choice(tuple(target), "voxel sizes differ: all cases on the median voxel")


def choose_resampling(
    varies: bool, spacings_mm: Iterable[Sequence[float] | None], target_mm: Sequence[float] | None
) -> Choice[Literal["linear", "cubic"]]:
    """Choose how images are resampled: as nnU-Net does where cases need it.

    Args:
        varies: whether voxel sizes differ between cases.
        spacings_mm: typical voxel sizes of files.
        target_mm: voxel size of the network's grid; None: each case keeps its own.
    """
    if target_mm is None:
        return Choice("linear", "nothing is resampled")
    if not varies:
        return Choice("linear", "no case of this data is resampled; of new ones, what lies between voxels is a mean")
    known = [sizes for sizes in spacings_mm if sizes is not None]
    if any(find_thick_axis(sizes, target_mm) is not None for sizes in known):
        return Choice("cubic", "sharp within slices; between thick ones nothing is invented: the nearest slice")
    return Choice("cubic", "sharper than linear where cases are resampled")


def choose_encoder_strides(encoder: str, levels: Iterable[int], depth: int) -> Choice[tuple[Axes, ...]]:
    """Choose the strides of an encoder of timm.

    Args:
        encoder: name of the model.
        levels: levels at which it gives a feature map.
        depth: depth of the network.
    """
    given = ", ".join(map(str, levels))
    return Choice(((2, 2),) * depth, f"{encoder} gives X[i, 0] at level i = {given}, the image at 1/2^i")


def choose_depth(patch: Axes, is_short: bool = False) -> Choice[int]:
    """Choose the largest number of down-samplings: the papers' for patches of usual size, more for larger ones.

    Beyond the size for which the papers' depth was measured, until the longest side keeps 4 to 7 voxels, as in nnU-Net.

    Args:
        patch: size of a patch in voxels.
        is_short: whether the training is short, of a network whose depths are no sizes to choose from.
    """
    axes, side = count_long_axes(patch), max(patch)
    if is_short and side <= SHALLOW_SIDE and sum(size > 1 for size in patch) <= 2:
        why = f"in {SHALLOW_MINUTES:g} minutes a level less is as good or better, and faster"
        return Choice(SHALLOW_DEPTH, f"at most {SHALLOW_DEPTH} for patches of {by(patch)} voxels: {why}")
    if side <= SIDE_OF_USUAL_DEPTH[axes]:
        return Choice(USUAL_DEPTH, f"at most the papers' {USUAL_DEPTH}: enough for patches of {by(patch)} voxels")
    halvings = 0
    while side >= 2 * MIN_BOTTLENECK:
        side, halvings = ceil(side / 2), halvings + 1
    value = min(LARGEST_DEPTH[axes], max(USUAL_DEPTH, halvings))
    return Choice(value, f"patches of {by(patch)} voxels are large enough for {value}")


def choose_strides(shape: Axes, spacing_mm: Sequence[float] | None, max_depth: int) -> Choice[tuple[Axes, ...]]:
    """Down-sample axes as long as they keep enough voxels; thick axes join once the others are as coarse.

    An axis that is too short to be halved does not decide whether another is thick.

    Args:
        shape: typical size of a case, or of a patch if that is smaller, in voxels.
        spacing_mm: voxel size; None: the same along all axes.
        max_depth: largest number of down-samplings.
    """
    sizes, lengths = list(shape), list(spacing_mm or [1.0] * len(shape))
    strides: list[Axes] = []
    while len(strides) < max_depth and any(map(_can_be_halved, sizes)):
        fine = find_fine_axes(sizes, lengths)
        stride = tuple(2 if _can_be_halved(size) and each else 1 for size, each in zip(sizes, fine, strict=True))
        strides.append(stride)
        sizes = [ceil(size / step) for size, step in zip(sizes, stride, strict=True)]
        lengths = [length * step for length, step in zip(lengths, stride, strict=True)]
    if not strides:
        smallest = tuple(2 if size > 1 or max(shape) == 1 else 1 for size in shape)
        return Choice((smallest,), f"images of {by(shape)} are tiny: one down-sampling")
    left = f"{len(strides)} down-samplings leave {by(sizes)} voxels"
    return Choice(tuple(strides), f"{left} of {by(shape)} in a patch")


def find_fine_axes(sizes: Sequence[int], lengths: Sequence[float]) -> list[bool]:
    """Tell which axes are not thick: their voxels are not much longer than the shortest of those that can be halved.

    Args:
        sizes: number of voxels along each axis.
        lengths: length of a voxel along each axis.
    """
    halvable = [length for size, length in zip(sizes, lengths, strict=True) if _can_be_halved(size)]
    return [not halvable or length < THICK * min(halvable) for length in lengths]


def _can_be_halved(size: int) -> bool:
    return size >= 2 * MIN_BOTTLENECK


def choose_kernels(
    shape: Axes, spacing_mm: Sequence[float] | None, strides: Sequence[Axes]
) -> Choice[tuple[Axes, ...]]:
    """Choose a kernel size for each level: 3, but 1 across thick slices until the other axes are as coarse.

    Args:
        shape: typical size of a case in voxels; along an axis of one voxel there is nothing to look at.
        spacing_mm: voxel size; None: the same along all axes.
        strides: of each down-sampling.
    """
    sizes, lengths = list(shape), list(spacing_mm or [1.0] * len(shape))
    kernels: list[Axes] = []
    for stride in [*strides, (1,) * len(shape)]:
        fine = find_fine_axes(sizes, lengths)
        kernels.append(tuple(3 if each and size > 1 else 1 for each, size in zip(fine, shape, strict=True)))
        sizes = [ceil(size / step) for size, step in zip(sizes, stride, strict=True)]
        lengths = [length * step for length, step in zip(lengths, stride, strict=True)]
    if any(1 in kernel for kernel in kernels):
        thick = "thick slices are convolved across once the other axes are as coarse"
        return Choice(tuple(kernels), "3 within the slice" if 1 in shape else thick)
    return Choice(tuple(kernels), "3 along every axis")


def count_long_axes(shape: Axes) -> int:
    """Count the axes that decide the size of patches and tiles: a slice and a slab have the two of an image."""
    return max(2, sum(size > SLAB for size in shape))


def shape_patch(voxels: int, median_shape: Axes, spacing_mm: Sequence[float] | None, multiples: Axes) -> Axes:
    """Shape a patch of a number of voxels: as long in mm along every axis, as far as the typical case is.

    What the case does not have along one axis goes to the others. Sides grow in steps of `multiples`, the shortest in
    mm first and equal ones together (so that patches can be turned), as long as the voxels suffice.

    Args:
        voxels: largest number of voxels; a patch of one step along each axis may have more.
        median_shape: typical size of a case on the network's grid, in voxels.
        spacing_mm: voxel size; None: the same along all axes.
        multiples: product of the strides of each axis, so that no level is padded.
    """
    steps = [(step, step * mm) for step, mm in zip(multiples, spacing_mm or (1.0,) * len(multiples), strict=True)]
    counts = [1] * len(steps)
    growing = {axis for axis, size in enumerate(median_shape) if size > multiples[axis]}
    while growing:
        shortest = min(growing, key=lambda axis: counts[axis] * steps[axis][1])
        alike = {axis for axis in growing if (counts[axis], steps[axis]) == (counts[shortest], steps[shortest])}
        grown = [count + (axis in alike) for axis, count in enumerate(counts)]
        if prod(map(mul, grown, multiples)) > voxels:
            growing -= alike
            continue
        counts = grown
        growing -= {axis for axis in alike if counts[axis] * multiples[axis] >= median_shape[axis]}
    return tuple(map(mul, counts, multiples))


def by(sizes: Sequence[object]) -> str:
    """Write sizes as a text, such as 24 x 48."""
    return " x ".join(map(str, sizes))
