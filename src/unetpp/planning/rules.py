"""Rules for patches, batches and time: a pure function for each choice, which returns a value and its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, prod

from unetpp.plan import Axes
from unetpp.planning.choice import Choice
from unetpp.planning.geometry_rules import by, shape_patch
from unetpp.words import count_noun

LARGEST_PATCH = {("cpu", 2): 128, ("cpu", 3): 96, ("cuda", 2): 256, ("cuda", 3): 96}
"""Largest side of a training patch in voxels, by device and `dims`. On CPUs more and smaller patches show a step more
cases at the same cost (docs/log.md)."""
WIDTH_LADDER = (64, 32, 16, 8)
"""First widths to choose from, widest first; 32 is the papers'. bfloat16 convolutions of widths in between are slow on
CPUs."""
VOXELS_OF_A_STEP = {("cpu", 2): 4 * 256**2, ("cpu", 3): 360_000, ("cuda", 2): 16 * 256**2, ("cuda", 3): 8 * 64**3}
"""Number of voxels of a batch, by device and `dims`."""
DEFAULT_EPOCHS = 100
NOT_TIMED = "not timed: the GPU that is planned for is not in this machine"
WANTED_STEPS = 1600
"""Number of steps below which a narrower network is chosen. Short trainings favor narrow ones; the number itself is
chosen, not measured (docs/log.md)."""
FEWEST_STEPS = {2: 100, 3: 1600}
"""Number of steps, by `dims`, below which patches are traded for steps: in 3D a few steps of many voxels teach less
(docs/log.md)."""
FINE_TUNING_RATE = 0.3
"""Learning rates with which a network is trained further on the same cases, as a fraction of the usual ones."""
FEW_PASSES = 15
"""Number of passes over the data below which there is nothing to overfit, and augmentation beyond flips and quarter
turns costs quality (docs/log.md)."""
BODY_MM = 0.1
"""Voxel size from which a volume without orientation is taken to be a body all the same."""


def choose_patch(
    median_shape: Axes, largest: int, multiples: Axes, spacing_mm: Sequence[float] | None = None
) -> Choice[Axes]:
    """Choose the typical case if it is no larger than `largest`; else as many voxels, as long in mm along every axis.

    Args:
        median_shape: typical size of a case in voxels.
        largest: largest size along one axis in voxels, if voxels are as long along all axes.
        multiples: product of the strides of each axis, so that no level is padded.
        spacing_mm: voxel size; None: the same along all axes.
    """
    voxels = prod(
        min(ceil(size / step) * step, max(step, largest // step * step))
        for size, step in zip(median_shape, multiples, strict=True)
    )
    patch = shape_patch(voxels, median_shape, spacing_mm, multiples)
    if all(size >= length for size, length in zip(patch, median_shape, strict=True)):
        return Choice(patch, f"the typical case of {by(median_shape)} fits whole")
    return Choice(patch, f"the typical case is {by(median_shape)}; patches keep a step short")


def choose_tile(
    patch: Axes, median_shape: Axes, largest: int, multiples: Axes, spacing_mm: Sequence[float] | None = None
) -> Choice[Axes]:
    """Choose a tile, which may be larger than a training patch: nothing is stored for a backward pass.

    Args:
        patch: size of a training patch in voxels.
        median_shape: typical size of a case in voxels.
        largest: largest size along one axis in voxels, if voxels are as long along all axes.
        multiples: product of the strides of each axis.
        spacing_mm: voxel size; None: the same along all axes.
    """
    tile = tuple(map(max, patch, choose_patch(median_shape, largest, multiples, spacing_mm).value))
    if tile == tuple(patch):
        return Choice(tile, "the size of a training patch")
    return Choice(tile, "larger than a training patch: fewer seams, less computed twice")


def choose_overlap(dims: int) -> Choice[float]:
    """Choose the overlap of tiles: in 2D a quarter is as good as a half; 3D tiles are smaller and have more edge."""
    if dims == 2:
        gain = "in 2D sharing half of a tile was no better, and takes up to twice the time"
        return Choice(0.25, f"neighboring tiles are blended; {gain}")
    return Choice(0.5, "neighboring tiles are blended; in 3D sharing less lost Dice")


def choose_precision(device: str, fast_bf16: bool) -> Choice[str]:
    """Choose bfloat16 where the hardware computes it faster than float32, else float16 on GPUs."""
    if fast_bf16:
        return Choice("bf16", "this hardware computes bfloat16 faster than float32")
    if device == "cuda":
        return Choice("fp16", "this GPU has no bfloat16")
    return Choice("fp32", "this processor does not gain from less")


def choose_precision_elsewhere() -> Choice[str]:
    """Choose bfloat16 for a GPU that cannot be asked."""
    return Choice("bf16", "GPUs since 2020 compute bfloat16 faster than float32; older ones: `train.precision=fp16`")


def choose_batch(patch_voxels: int, dims: int, device: str) -> Choice[int]:
    """Choose a batch large enough for a steady gradient, small enough for many steps.

    Args:
        patch_voxels: number of voxels in a patch.
        dims: number of spatial axes.
        device: "cpu" or "cuda".
    """
    value = min(16, max(2, VOXELS_OF_A_STEP[device, dims] // patch_voxels))
    return Choice(value, f"about {value * patch_voxels / 1e6:.1f} million voxels in each step")


def fit_batch_to_time(batch: int, seconds: float, minutes: float, dims: int) -> Choice[int]:
    """Choose a smaller batch where a step takes so long that the network would make few of them.

    Args:
        batch: number of patches of a step.
        seconds: time of such a step of the narrowest network.
        minutes: time of the training.
        dims: number of spatial axes.
    """
    value, steps = batch, minutes * 60 / seconds
    while value > 1 and steps * batch / value < FEWEST_STEPS[dims]:
        value //= 2
    return Choice(value, f"smaller, because {count_noun(int(steps), 'step')} of {batch} patches would be too few")


def choose_symmetries(dims: int, is_oriented: bool, voxel_mm: Sequence[float] | None) -> Choice[bool]:
    """Choose whether patches are flipped and turned by quarters: bodies are not symmetric, tissue is.

    Args:
        dims: number of spatial axes.
        is_oriented: the axes of volumes are those of a body.
        voxel_mm: typical voxel size; None: unknown.
    """
    bodies = "which have a front and a left side: no flips, no quarter turns"
    if dims == 3 and is_oriented:
        return Choice(False, f"volumes with an orientation are bodies, {bodies}")
    if dims == 3 and voxel_mm is not None and min(voxel_mm) >= BODY_MM:
        return Choice(False, f"volumes of such voxels may be bodies, {bodies}")
    return Choice(True, "no direction is special: flips and quarter turns")


def choose_variation(passes: float) -> Choice[dict[str, float]]:
    """Choose fields of `train.augment` beyond flips and turns: none if the data is seen only a few times.

    Args:
        passes: number of passes over the training data.
    """
    about = f"about {passes:.0f} passes over the data"
    if passes >= FEW_PASSES:
        return Choice({}, f"{about}: rotation, scale and intensities vary too")
    names = ("affine", "noise", "blur", "contrast", "brightness", "gamma")
    off = {f"{name}_probability": 0.0 for name in names}
    return Choice(off, f"{about}: variation beyond flips and turns would cost quality")


def choose_steps_per_epoch(cases: int, batch: int) -> Choice[int]:
    """Choose one pass over the training cases, four fifths of all, but at least 25 steps."""
    value = max(25, ceil(0.8 * cases / batch))
    if value > 25:
        return Choice(value, "one pass over the training cases")
    return Choice(value, "25 steps, as one pass over the training cases is shorter")


def choose_epochs(given: int | None, minutes: float | None) -> Choice[int]:
    """Choose the length of the schedule where no time is given."""
    if given:
        return Choice(given, "given")
    if minutes:
        return Choice(DEFAULT_EPOCHS, "not used: the given time decides")
    return Choice(DEFAULT_EPOCHS, "neither minutes nor epochs were given; patience may end it earlier")


def choose_width_by_time(step_seconds: Mapping[int, float], minutes: float) -> Choice[int]:
    """Choose the widest network that still makes enough steps in the time.

    Args:
        step_seconds: seconds of one step for each first width that fits the memory.
        minutes: time of the training.
    """
    steps = {width: int(minutes * 60 / seconds) for width, seconds in step_seconds.items()}
    value = max((width for width in steps if steps[width] >= WANTED_STEPS), default=min(steps))
    why = f"the widest that makes {WANTED_STEPS} steps"
    if steps[value] < WANTED_STEPS:
        why = f"the narrowest, though fewer than the wanted {WANTED_STEPS} steps fit"
    counted = f"{steps[value]} of {step_seconds[value]:.2f} s"
    return Choice(value, f"first width {value}: {why} in {count_noun(minutes, 'minute')} here ({counted})")


def choose_head(depth: int) -> Choice[int]:
    """Choose the head that predicts unless another is named."""
    return Choice(depth, "the largest size; the table has the cost and quality of smaller ones")
