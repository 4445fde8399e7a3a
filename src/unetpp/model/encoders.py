"""Encoders from timm as the first column of the grid. timm is an extra: it is imported when an encoder is asked for.

Level i of the grid is the image at 1/2^i. The encoder gives X[i, 0] at the levels that it has; the others, such as
level 0 of most encoders, are nodes of our own. So every X[0, j] has full resolution, its own head and one width, and
deep supervision and pruning mean the same with every encoder.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unetpp.errors import optional_package
from unetpp.plan import ModelPlan


@dataclass(frozen=True)
class EncoderShape:
    """What an encoder gives."""

    widths: Mapping[int, int]
    """Channels of X[i, 0] at each level i that it has."""
    strides: tuple[int, ...]
    """Down-sampling to level 1, 2, ... the deepest."""
    divisor: int
    """Sizes are extended to a multiple of it."""


class Encoder(nn.Module):
    """A timm model that gives some of the X[i, 0].

    Args:
        name: of the model in timm.
        in_channels: of the image.
        indices: its feature maps that are used, by level.
    """

    def __init__(self, name: str, in_channels: int, indices: Mapping[int, int]) -> None:
        super().__init__()
        self.name = name
        self.in_channels = in_channels
        self.indices = dict(indices)
        self.body = _create(name, in_channels, out_indices=tuple(self.indices.values()))

    @property
    def levels(self) -> tuple[int, ...]:
        """Levels that it gives."""
        return tuple(self.indices)

    def forward(self, x: Tensor, depth: int) -> dict[int, Tensor]:
        """Features by level, up to level `depth`."""
        return {level: feature for level, feature in zip(self.levels, self.body(x), strict=True) if level <= depth}

    def pruned(self, depth: int) -> Encoder:
        """The part that gives the levels up to `depth`."""
        smaller = Encoder(self.name, self.in_channels, {level: index for level, index in self.indices.items() if level <= depth})
        weights = self.state_dict()
        smaller.load_state_dict({name: weights[name] for name in smaller.state_dict()})
        return smaller

    def load_pretrained(self, source: str) -> None:
        """Take the weights that timm downloads ("pretrained"), or those of a file."""
        raise NotImplementedError


def encoder_shape(name: str, in_channels: int) -> EncoderShape:
    """What a timm model gives, without allocating its weights."""
    levels = _levels(name)
    deepest = max(levels)
    channels = _feature_info(name).channels()
    return EncoderShape({level: channels[index] for level, index in levels.items()}, (2,) * deepest, 2**deepest)


def make_encoder(plan: ModelPlan) -> Encoder:
    """The encoder of a plan, with random weights."""
    assert plan.encoder is not None
    return Encoder(plan.encoder, plan.in_channels, {level: index for level, index in _levels(plan.encoder).items() if level <= plan.depth})


def _levels(name: str) -> dict[int, int]:
    """Level -> index of the last feature map of that size."""
    return {reduction.bit_length() - 1: index for index, reduction in enumerate(_feature_info(name).reduction())}


@functools.cache
def _feature_info(name: str) -> Any:
    with torch.device("meta"):
        return _create(name, 3).feature_info


def _create(name: str, in_channels: int, **options: Any) -> Any:
    with optional_package("timm", "encoders", f"model.encoder {name}"):
        import timm
    return timm.create_model(name, pretrained=False, features_only=True, in_chans=in_channels, **options)
