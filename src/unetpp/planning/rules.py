"""Rules that turn a fingerprint into a plan: a pure function for each choice, which returns a value and its reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from unetpp.plan import Axes, Normalization
from unetpp.words import count_noun

T = TypeVar("T")

MIN_BOTTLENECK = 4
"""Number of voxels that the deepest level keeps along every axis."""
MAX_DEPTH = 4
"""Number of down-samplings in the papers' networks."""
LARGEST_PATCH = {("cpu", 2): 128, ("cpu", 3): 96, ("cuda", 2): 256, ("cuda", 3): 96}
"""Largest side of a training patch in voxels, by device and `dims`. On CPUs more and smaller patches show a step more
cases at the same cost (docs/log.md)."""
WIDTH_LADDER = (64, 32, 16, 8)
"""First widths to choose from, widest first; 32 is the papers'. bfloat16 convolutions of widths in between are slow on
CPUs."""
VOXELS_OF_A_STEP = {("cpu", 2): 4 * 256**2, ("cpu", 3): 360_000, ("cuda", 2): 16 * 256**2, ("cuda", 3): 8 * 64**3}
"""Number of voxels of a batch, by device and `dims`."""
DEFAULT_EPOCHS = 100
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
THICK = 2.0
"""An axis is not yet down-sampled, nor convolved across, if its voxels are longer than the shortest by this factor."""


SLAB = 16
"""Largest number of slices of a volume whose patches and tiles may be as wide as those of an image."""
BODY_MM = 0.1
"""Voxel size from which a volume without orientation is taken to be a body all the same."""


class Choice(NamedTuple, Generic[T]):
    """A value and the reason for it."""

    value: T
    reason: str


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


def choose_spacing(median_spacing_mm: Sequence[float] | None, varies: bool) -> Choice[tuple[float, ...] | None]:
    """Choose the network's grid: that of the median voxel, to which only images of another voxel size are resampled."""
    if median_spacing_mm is None:
        return Choice(None, "not every file has a voxel size: pixels as they are")
    if not varies:
        return Choice(tuple(median_spacing_mm), "that of all files; new images of another are resampled")
    return Choice(tuple(median_spacing_mm), "voxel sizes differ: all cases on the median voxel")


def choose_normalization(name: str, foreground: tuple[float, float, float, float]) -> Choice[Normalization]:
    """Choose the normalization of a channel: CT has an absolute scale, others are normalized case by case.

    The names that nnU-Net gives a meaning keep it: CT, noNorm, rgb_to_0_1, zscore and rescale_to_0_1.

    Args:
        name: name of the channel, as the data set declares it.
        foreground: percentiles 0.5 and 99.5, mean and standard deviation of foreground voxels over all cases.
    """
    low, high, mean, std = foreground
    kind, z_score = name.strip().lower(), "mean 0 and standard deviation 1 in each case"
    if kind == "nonorm":
        return Choice(Normalization(per_case=False), "noNorm: intensities as they are")
    if kind == "rgb_to_0_1":
        return Choice(Normalization(per_case=False, std=255.0), "rgb_to_0_1: divided by 255")
    if kind == "rescale_to_0_1":
        return Choice(Normalization(), f"rescale_to_0_1 is not followed: {z_score} instead of 0 to 1")
    if kind not in ("ct", "hu", "hounsfield"):
        return Choice(Normalization(), f"no absolute scale: {z_score}")
    clipped = f"CT: clipped to {low:.0f}..{high:.0f} (99 % of the foreground)"
    plan = Normalization(per_case=False, lower=low, upper=high, mean=mean, std=max(std, 1e-6))
    return Choice(plan, f"{clipped}, then the mean and standard deviation of the foreground")


def matches_pretraining(channels: Sequence[str], largest: float) -> bool:
    """Whether images are like those of the encoders' pretraining: red, green and blue in 0..255.

    Args:
        channels: names of the channels.
        largest: largest value in the images.
    """
    return tuple(name.lower() for name in channels) == ("red", "green", "blue") and 1 < largest <= 255


def choose_encoder_normalization(
    encoder: str, mean: Sequence[float], std: Sequence[float]
) -> list[Choice[Normalization]]:
    """Choose the normalization with which an encoder was pretrained.

    Args:
        encoder: name of the model of timm.
        mean: mean of red, green and blue in 0..1.
        std: standard deviation of the same.
    """
    reason = f"mean and standard deviation of the training of {encoder}'s weights, for values in 0..255"
    return [
        Choice(Normalization(per_case=False, mean=255 * m, std=255 * s), reason) for m, s in zip(mean, std, strict=True)
    ]


def choose_encoder_strides(encoder: str, levels: Iterable[int], depth: int) -> Choice[tuple[Axes, ...]]:
    """Choose the strides of an encoder of timm.

    Args:
        encoder: name of the model.
        levels: levels at which it gives a feature map.
        depth: depth of the network.
    """
    given = ", ".join(map(str, levels))
    return Choice(((2, 2),) * depth, f"{encoder} gives X[i, 0] at level i = {given}, the image at 1/2^i")


def choose_strides(shape: Axes, spacing_mm: Sequence[float] | None, max_depth: int) -> Choice[tuple[Axes, ...]]:
    """Down-sample axes as long as they keep enough voxels; thick axes join once the others are as coarse.

    An axis that is too short to be halved does not decide whether another is thick.

    Args:
        shape: typical size of a case in voxels.
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
        return Choice((smallest,), f"images of {_by(shape)} are tiny: one down-sampling")
    left = f"{len(strides)} down-samplings leave {_by(sizes)} voxels"
    return Choice(tuple(strides), f"{left} of the typical case of {_by(shape)}")


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


def choose_patch(median_shape: Axes, largest: int, multiples: Axes) -> Choice[Axes]:
    """Choose the typical case if it is no larger than `largest`, in steps of `multiples` voxels.

    Args:
        median_shape: typical size of a case in voxels.
        largest: largest size along one axis in voxels.
        multiples: product of the strides of each axis, so that no level is padded.
    """
    patch = tuple(
        min(ceil(size / step) * step, max(step, largest // step * step))
        for size, step in zip(median_shape, multiples, strict=True)
    )
    if all(size >= length for size, length in zip(patch, median_shape, strict=True)):
        return Choice(patch, f"the typical case of {_by(median_shape)} fits whole")
    return Choice(patch, f"the typical case is {_by(median_shape)}; patches keep a step short")


def choose_tile(patch: Axes, median_shape: Axes, largest: int, multiples: Axes) -> Choice[Axes]:
    """Choose a tile, which may be larger than a training patch: nothing is stored for a backward pass.

    Args:
        patch: size of a training patch in voxels.
        median_shape: typical size of a case in voxels.
        largest: largest size along one axis in voxels.
        multiples: product of the strides of each axis.
    """
    tile = tuple(map(max, patch, choose_patch(median_shape, largest, multiples).value))
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


def choose_width_by_memory(fitting: Sequence[int], device: str) -> Choice[int]:
    """Choose the papers' width on a GPU, half of it on a CPU, or what fits the memory."""
    wanted = 32 if device == "cuda" else 16
    value = max((width for width in fitting if width <= wanted), default=fitting[-1])
    why = "the papers' width" if value == 32 else "what this machine trains well"
    return Choice(value, f"first width {value}: {why}")


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


def _by(sizes: Sequence[Any]) -> str:
    return " x ".join(map(str, sizes))
