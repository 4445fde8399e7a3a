"""Rules for intensities: how each channel is normalized, by its name and by how much of the images is empty."""

from __future__ import annotations

import re
from collections.abc import Sequence

from unetpp.plan import Normalization
from unetpp.planning.choice import Choice

LARGEST_INSIDE = 0.75
"""Fraction of an image in the box around what is not 0, below which statistics are those of what is not 0 (as in
nnU-Net)."""
_SCHEMES = {
    "none": {"none", "no", "nonorm", "identity"},
    "rgb": {"rgbto01", "rgb01"},
    "range": {"rescaleto01", "rescale01", "rescale", "minmax"},
    "z_score": {"zscore"},
}
"""Spellings of what nnU-Net calls noNorm, rgb_to_0_1, rescale_to_0_1 and zscore, without signs between the letters."""
_HOUNSFIELD = {"ct", "cta", "ctpa", "ncct", "cect", "hu", "hounsfield"}
_SUV = {"suv", "suvbw", "suvlbm"}
_PER_CASE = {
    "counts of PET differ with dose and time; if the files hold SUV, name the channel SUV": r"pet|pt|spect",
    "MR has no absolute scale": r"mri?|t[12]\w*|flair|dwi|adc|pdw?|swi|tof|dixon|dce",
    "light and stain differ between images": r"rgb|red|green|blue|dapi|hoechst|[a-z]*fp|cy\d|fitc|fluo\w*|h|e|em",
}
"""Reasons for normalizing each case by itself, with words in the names of channels to which they apply,
as regular expressions."""


def choose_normalization(
    name: str, foreground: tuple[float, float, float, float], inside: float = 1.0
) -> Choice[Normalization]:
    """Choose the normalization of a channel: CT and SUV have an absolute scale, others are normalized case by case.

    The names that nnU-Net gives a meaning keep it, in any spelling: CT, noNorm, rgb_to_0_1, zscore, rescale_to_0_1.

    Args:
        name: name of the channel, as the data set declares it.
        foreground: percentiles 0.5 and 99.5, mean and standard deviation of foreground voxels over all cases.
        inside: median fraction of an image in the box around its voxels that are not 0 in every channel.
    """
    scheme, words = _find_scheme(name), set(re.split(r"[^a-z0-9]+", name.strip().lower()))
    if scheme == "none":
        return Choice(Normalization(per_case=False), f"{name}: intensities as they are")
    if scheme == "rgb":
        return Choice(Normalization(per_case=False, std=255.0), f"{name}: divided by 255")
    if scheme == "range":
        return Choice(Normalization(scale="0_to_1"), f"{name}: 0 at the smallest value of each case, 1 at the largest")
    if words & _HOUNSFIELD and not words & {"pet", "pt"}:
        return _clip("CT", foreground)
    if words & _SUV:
        return _clip("SUV", foreground)
    reasons = [reason for reason, known in _PER_CASE.items() if any(re.fullmatch(known, word) for word in words)]
    why = reasons[0] if reasons and scheme is None else "no absolute scale"
    if inside >= LARGEST_INSIDE:
        return Choice(Normalization(), f"{why}: mean 0 and standard deviation 1 in each case")
    empty = f"of what is not 0, because {1 - inside:.0%} of the typical image is empty around it"
    return Choice(Normalization(nonzero=True), f"{why}: mean 0 and standard deviation 1 in each case, {empty}")


def _find_scheme(name: str) -> str | None:
    """Find the scheme that the name of a channel is, as nnU-Net's data sets have them; None: none."""
    spelled = re.sub(r"[^a-z0-9]", "", name.lower()).removesuffix("normalization")
    return next((scheme for scheme, spellings in _SCHEMES.items() if spelled in spellings), None)


def _clip(scale: str, foreground: tuple[float, float, float, float]) -> Choice[Normalization]:
    low, high, mean, std = foreground
    plan = Normalization(per_case=False, lower=low, upper=high, mean=mean, std=max(std, 1e-6))
    ends = f"{low:.0f}..{high:.0f}" if high - low >= 10 else f"{low:.3g}..{high:.3g}"
    clipped = f"{scale}: clipped to {ends} (99 % of the foreground)"
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
