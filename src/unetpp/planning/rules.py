"""The rules that turn a fingerprint into a plan: pure functions, one for each choice. Each gives its value and its reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any, Generic, NamedTuple, TypeVar

from unetpp.plan import Normalization

T = TypeVar("T")
Axes = tuple[int, ...]

MIN_BOTTLENECK = 4
"""Voxels that the deepest level keeps along every axis."""
MAX_DEPTH = 4
"""Down-samplings of the papers' networks."""
LARGEST_PATCH = {("cpu", 2): 128, ("cpu", 3): 96, ("cuda", 2): 256, ("cuda", 3): 96}
"""Voxels of a training patch along one axis, by device and dims. On CPUs steps are dear: more and smaller patches show
a step more cases at the same cost, see docs/log.md."""
"""Voxels of a tile of prediction along one axis."""
WIDTH_LADDER = (64, 32, 16, 8)
"""First widths that are considered, widest first; 32 is the papers'. In between, convolutions of bfloat16 lose their speed on CPUs."""
VOXELS_OF_A_STEP = {("cpu", 2): 4 * 256**2, ("cpu", 3): 360_000, ("cuda", 2): 16 * 256**2, ("cuda", 3): 8 * 64**3}
"""Size of a batch, by device and dims."""
DEFAULT_EPOCHS = 100
WANTED_STEPS = 1600
"""With fewer steps a narrower network is taken. Short trainings favour narrow ones; this number itself is chosen, not measured, see docs/log.md."""
FEW_PASSES = 15
"""With fewer passes over the data there is nothing to overfit, and variation beyond flips and turns costs quality, see docs/log.md."""
THICK = 2.0
"""An axis whose voxels are this much longer than the shortest ones is not yet down-sampled, nor convolved across."""


class Choice(NamedTuple, Generic[T]):
    """A value and why it is this one."""

    value: T
    reason: str


def choose_spacing(median_spacing_mm: Sequence[float] | None, varies: bool) -> Choice[tuple[float, ...] | None]:
    """The grid of the network: the files' own where all are alike, else the median voxel."""
    if median_spacing_mm is None:
        return Choice(None, "the files carry no voxel size: pixels as they are")
    if not varies:
        return Choice(None, "all files have the same voxel size: no resampling")
    return Choice(tuple(median_spacing_mm), "voxel sizes differ: all cases on the median voxel")


def choose_normalization(name: str, foreground: tuple[float, float, float, float]) -> Choice[Normalization]:
    """CT has an absolute scale; everything else is normalised by its own mean and deviation.

    Args:
        name: of the channel, as the data set declares it.
        foreground: percentiles 0.5 and 99.5, mean and deviation of foreground voxels over all cases.
    """
    low, high, mean, std = foreground
    if name.strip().lower() in ("ct", "hu", "hounsfield"):
        plan = Normalization(per_case=False, lower=low, upper=high, mean=mean, std=max(std, 1e-6))
        return Choice(
            plan,
            f"CT: clipped to {low:.0f}..{high:.0f} (99 % of the foreground), then the mean and deviation of the foreground",
        )
    return Choice(Normalization(), "no absolute scale: mean 0 and deviation 1 in each case")


def encoder_knows(channels: Sequence[str], largest: float) -> bool:
    """Whether images are what the weights of encoders were trained on: red, green and blue in 0..255.

    Args:
        largest: value of the images.
    """
    return tuple(name.lower() for name in channels) == ("red", "green", "blue") and 1 < largest <= 255


def choose_normalization_of_encoder(
    encoder: str, mean: Sequence[float], std: Sequence[float]
) -> list[Choice[Normalization]]:
    """What the encoder's weights were trained with.

    Args:
        mean, std: of red, green and blue in 0..1.
    """
    reason = f"mean and deviation of the training of {encoder}'s weights, for values in 0..255"
    return [
        Choice(Normalization(per_case=False, mean=255 * m, std=255 * s), reason) for m, s in zip(mean, std, strict=True)
    ]


def choose_strides_of_encoder(encoder: str, levels: Iterable[int], depth: int) -> Choice[tuple[Axes, ...]]:
    """As the encoder has them.

    Args:
        levels: those that it gives.
        depth: of the network.
    """
    return Choice(
        ((2, 2),) * depth, f"{encoder} gives X[i, 0] at level i = {', '.join(map(str, levels))}, the image at 1/2^i"
    )


def choose_strides(shape: Axes, spacing_mm: Sequence[float] | None, max_depth: int) -> Choice[tuple[Axes, ...]]:
    """Down-samplings, as long as every axis keeps enough voxels; thick axes join once the others have caught up."""
    sizes, lengths = list(shape), list(spacing_mm or [1.0] * len(shape))
    strides: list[Axes] = []
    while len(strides) < max_depth:
        finest = min(lengths)
        stride = tuple(
            2 if size >= 2 * MIN_BOTTLENECK and length < THICK * finest else 1
            for size, length in zip(sizes, lengths, strict=True)
        )
        if all(step == 1 for step in stride):
            break
        strides.append(stride)
        sizes = [ceil(size / step) for size, step in zip(sizes, stride, strict=True)]
        lengths = [length * step for length, step in zip(lengths, stride, strict=True)]
    if not strides:
        return Choice(((2,) * len(shape),), f"images of {_by(shape)} are tiny: one down-sampling")
    return Choice(
        tuple(strides), f"{len(strides)} down-samplings leave {_by(sizes)} voxels of the typical case of {_by(shape)}"
    )


def choose_kernels(spacing_mm: Sequence[float] | None, strides: Sequence[Axes]) -> Choice[tuple[Axes, ...]]:
    """3 along every axis, 1 across thick slices until the other axes are as coarse."""
    lengths = list(spacing_mm or [1.0] * len(strides[0]))
    kernels: list[Axes] = []
    for stride in [*strides, (1,) * len(lengths)]:
        finest = min(lengths)
        kernels.append(tuple(3 if length < THICK * finest else 1 for length in lengths))
        lengths = [length * step for length, step in zip(lengths, stride, strict=True)]
    flat = any(1 in kernel for kernel in kernels)
    return Choice(
        tuple(kernels),
        "thick slices are convolved across once the other axes are as coarse" if flat else "3 along every axis",
    )


def choose_patch(median_shape: Axes, largest: int, multiples: Axes) -> Choice[Axes]:
    """The typical case, where it is no larger than `largest`, in steps of `multiples` voxels.

    Args:
        largest: along one axis.
        multiples: product of the strides of each axis, so that no level is padded.
    """
    patch = tuple(
        min(ceil(size / step) * step, max(step, largest // step * step))
        for size, step in zip(median_shape, multiples, strict=True)
    )
    whole = all(size >= length for size, length in zip(patch, median_shape, strict=True))
    return Choice(
        patch,
        f"the typical case of {_by(median_shape)} fits whole"
        if whole
        else f"the typical case is {_by(median_shape)}; patches keep a step short",
    )


def choose_tile(patch: Axes, median_shape: Axes, largest: int, multiples: Axes) -> Choice[Axes]:
    """Tile of prediction: it may be larger than a training patch, as nothing is kept for a backward pass."""
    tile = tuple(max(sizes) for sizes in zip(patch, choose_patch(median_shape, largest, multiples).value, strict=True))
    return Choice(
        tile,
        "the size of a training patch"
        if tile == tuple(patch)
        else "larger than a training patch: fewer seams, less computed twice",
    )


def choose_overlap(dims: int) -> Choice[float]:
    """What a tile shares with its neighbour: in 2D a quarter loses nothing against a half; volumes come in smaller tiles, of which more is edge (docs/log.md)."""
    if dims == 2:
        return Choice(
            0.25,
            "neighbouring tiles are blended; in 2D sharing half of a tile was no better, and takes up to twice the time",
        )
    return Choice(0.5, "neighbouring tiles are blended; in 3D sharing less lost Dice")


def choose_precision(device: str, has_fast_bf16: bool) -> Choice[str]:
    """bfloat16 where the hardware computes it faster; float16 on older GPUs."""
    if has_fast_bf16:
        return Choice("bf16", "this hardware computes bfloat16 faster than float32")
    return (
        Choice("fp16", "this GPU has no bfloat16")
        if device == "cuda"
        else Choice("fp32", "this processor does not gain from less")
    )


def choose_batch(patch_voxels: int, dims: int, device: str) -> Choice[int]:
    """Patches of one step: enough for a steady gradient, few enough for many steps."""
    value = min(16, max(2, VOXELS_OF_A_STEP[device, dims] // patch_voxels))
    return Choice(value, f"about {value * patch_voxels / 1e6:.1f} million voxels in each step")


def choose_symmetries(dims: int, spacing_mm: Sequence[float] | None) -> Choice[bool]:
    """Whether patches are flipped and turned by quarters: bodies have a front and a left side, tissue under a microscope has neither."""
    if dims == 3 and spacing_mm is not None:
        return Choice(
            False, "volumes in millimetres are bodies, which have a front and a left side: no flips, no quarter turns"
        )
    return Choice(True, "no direction is special: flips and quarter turns")


def choose_variation(passes: float) -> Choice[dict[str, float]]:
    """Fields of `train.augment` beyond flips and turns: none where the data are seen a few times only.

    Args:
        passes: how often the whole training data will be seen.
    """
    if passes >= FEW_PASSES:
        return Choice({}, f"about {passes:.0f} passes over the data: rotation, scale and intensities vary too")
    names = ("affine", "noise", "blur", "contrast", "brightness", "gamma")
    return Choice(
        {f"{name}_probability": 0.0 for name in names},
        f"about {passes:.0f} passes over the data: variation beyond flips and turns would cost quality",
    )


def choose_steps_per_epoch(cases: int, batch: int) -> Choice[int]:
    """An epoch is one pass over the training cases, four fifths of all; at least 25 steps, so that epochs mean something."""
    value = max(25, ceil(0.8 * cases / batch))
    return Choice(
        value,
        "one pass over the training cases"
        if value > 25
        else "25 steps, as one pass over the training cases is shorter",
    )


def choose_epochs(given: int | None, minutes: float | None) -> Choice[int]:
    """The length of the schedule where no time is given."""
    if minutes and not given:
        return Choice(DEFAULT_EPOCHS, "not used: the time that was given decides")
    return (
        Choice(given, "given")
        if given
        else Choice(DEFAULT_EPOCHS, "no --minutes and no --epochs were given; patience may end it earlier")
    )


def choose_width_by_memory(fitting: Sequence[int], device: str) -> Choice[int]:
    """Without a time: the papers' width on a GPU, half of it on a CPU, or what fits the memory."""
    wanted = 32 if device == "cuda" else 16
    value = max((width for width in fitting if width <= wanted), default=fitting[-1])
    return Choice(
        value, f"first width {value}: " + ("the papers' width" if value == 32 else "what this machine trains well")
    )


def choose_width_by_time(step_seconds: Mapping[int, float], minutes: float) -> Choice[int]:
    """The widest network that still makes enough steps in the time.

    Args:
        step_seconds: seconds of one step for each first width that fits the memory.
    """
    steps = {width: int(minutes * 60 / seconds) for width, seconds in step_seconds.items()}
    value = max((width for width in steps if steps[width] >= WANTED_STEPS), default=min(steps))
    why = (
        f"the widest that makes {WANTED_STEPS} steps"
        if steps[value] >= WANTED_STEPS
        else f"the narrowest, though fewer than the wanted {WANTED_STEPS} steps fit"
    )
    return Choice(
        value, f"first width {value}: {why} in {minutes:g} minutes here ({steps[value]} of {step_seconds[value]:.2f} s)"
    )


def choose_head(depth: int) -> Choice[int]:
    """The head that predicts unless another is named."""
    return Choice(depth, "the deepest head; the depth table says what a shallower one costs")


def _by(sizes: Sequence[Any]) -> str:
    return " x ".join(str(size) for size in sizes)
