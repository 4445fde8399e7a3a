"""Changes of the intensities of a patch (C, *patch), float32, in place and on its device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from unetpp.train.separable import multiply_axes

LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}
"""Name of linear interpolation by the number of axes."""


def add_noise(image: Tensor, std: float, seed: int) -> None:
    """Add Gaussian noise, drawn from the seed alone; other numbers on another kind of device."""
    generator = torch.Generator(image.device).manual_seed(seed)
    image.add_(torch.randn(image.shape, generator=generator, device=image.device), alpha=std)


def blur(image: Tensor, sigmas: Sequence[float]) -> None:
    """Blur with a Gaussian; at the border, over the voxels that there are.

    Args:
        image: changed in place.
        sigmas: standard deviation along each axis, in voxels; 0: none.
    """
    sizes = image.shape[1:]
    matrices = [_make_blur(n, sigma, image.device) if sigma else None for n, sigma in zip(sizes, sigmas, strict=True)]
    image.copy_(multiply_axes(image, matrices))


def _make_blur(size: int, sigma: float, device: torch.device) -> Tensor:
    """Return the weight (size, size) of each voxel in each other: the integral of a Gaussian over it."""
    edges = torch.erf((torch.arange(2 * size, device=device) - (size - 0.5)) / (2**0.5 * sigma))
    weights = edges.diff().unfold(0, size, 1).flip(0)  # by the distance of two voxels, from 1 - size to size - 1
    return weights / weights.sum(1, keepdim=True)


def scale(image: Tensor, factor: float) -> None:
    """Multiply all intensities, about 0."""
    image.mul_(factor)


def shift(image: Tensor, offset: float) -> None:
    """Add a value to all intensities."""
    image.add_(offset)


def lower_resolution(image: Tensor, sizes: Sequence[int]) -> None:
    """Sample fewer voxels, and interpolate linearly between them (as nnU-Net).

    Args:
        image: changed in place.
        sizes: number of voxels that are sampled along each axis.
    """
    few = functional.interpolate(image[None], size=list(sizes), mode="nearest-exact")
    image.copy_(functional.interpolate(few, size=image.shape[1:], mode=LINEAR[len(sizes)])[0])


def correct_gamma(image: Tensor, gamma: float, inverted: bool = False) -> None:
    """Raise intensities to a power, between their least and greatest; mean and standard deviation stay (as nnU-Net).

    Args:
        image: changed in place.
        gamma: the exponent.
        inverted: of the image whose dark is bright and whose bright is dark.
    """
    if inverted:
        image.neg_()
    mean, std = image.mean(), image.std(correction=0)
    low, high = image.aminmax()
    image.sub_(low).div_(high - low + 1e-7).pow_(gamma)
    image.sub_(image.mean()).mul_(std / (image.std(correction=0) + 1e-8)).add_(mean)
    if inverted:
        image.neg_()
