"""Encoders from timm as the first column of the grid.

Level i of the grid is the image at 1/2^i. The encoder gives X[i, 0] at the levels that it has; the others, such as
level 0 of most encoders, are nodes of our own. So every X[0, j] has full resolution, its own head and one width, and
deep supervision and pruning mean the same with every encoder.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from unetpp.errors import PlanError, UsageError
from unetpp.model.encoder_weights import pretrained_body
from unetpp.model.timm_models import (
    FeatureMap,
    TimmModel,
    intermediates,
    keep_intermediates,
    pretrained_config,
    require_known,
    timm_model,
    unused_weights,
)
from unetpp.plan import ModelPlan


@dataclass(frozen=True)
class EncoderShape:
    """What an encoder gives to a network."""

    depth: int
    """The network's, or the encoder's deepest level where none was asked for."""
    widths: Mapping[int, int]
    """Channels of X[i, 0] at each level i that the encoder has."""
    divisor: int
    """Sizes of images are extended to a multiple of it."""


class Encoder(nn.Module):
    """A model of timm that gives some of the X[i, 0].

    Args:
        model: of timm.
        in_channels: of the image.
        maps: its feature map for each level.
        output_stride: size of a voxel of level 0 in voxels of the image.

    Attributes:
        body: the model, without what follows its last used feature map; its tensors are named as in timm.
    """

    def __init__(
        self, model: TimmModel, in_channels: int, maps: Mapping[int, FeatureMap], output_stride: int = 1
    ) -> None:
        super().__init__()
        self.model = model
        self.in_channels = in_channels
        self.output_stride = output_stride
        self.frozen = False
        self.body = model.create(in_channels)
        for module in self.body.modules():
            if isinstance(module, _BatchNorm):
                module.register_forward_pre_hook(_before_norm)
                module.register_forward_hook(_after_norm)
        self._keep(maps)

    @property
    def levels(self) -> tuple[int, ...]:
        """Levels that it gives."""
        return tuple(self.numbers)

    def forward(self, image: Tensor, depth: int) -> dict[int, Tensor]:
        """Features by level, up to level `depth`; what lies beyond is not computed.

        Args:
            image: (B, in_channels, Y, X), extended to a multiple of the divisor of its shape.
        """
        levels = [level for level in self.numbers if level <= depth]
        if not levels:
            return {}
        numbers, window = [self.numbers[level] for level in levels], self.model.window
        features = intermediates(self.body, _windows(image, window) if window else image, numbers)
        if window:
            features = [_joined(feature, *(length // window for length in image.shape[2:])) for feature in features]
        return {level: self._on_grid(feature, image, level) for level, feature in zip(levels, features, strict=True)}

    def pruned(self, depth: int) -> Encoder | None:
        """The part that gives the levels up to `depth`; None where it gives none."""
        maps = {level: each for level, each in self.maps.items() if level <= depth}
        if not maps:
            return None
        smaller = copy.deepcopy(self)
        smaller._keep(maps)
        return smaller

    def freeze(self, frozen: bool) -> None:
        """In training: while it rests, weights and batch statistics stay as they are, and no gradient is computed for them."""
        self.frozen = frozen
        self.train()
        for name, weight in self.body.named_parameters():
            weight.requires_grad_(not frozen and name not in self.unused)

    def train(self, mode: bool = True) -> Encoder:
        return super().train(mode and not self.frozen)

    def load_pretrained(self, source: str) -> None:
        """Take the weights that timm downloads ("pretrained"), or those of a file.

        Raises:
            UsageError: there are none, or they cannot be downloaded; the message names the file to get.
            ModelFileError: the file cannot be read, or its weights are not those of this model.
        """
        body = pretrained_body(
            self.model, self.in_channels, source, needed=[name for name, _ in self.body.named_parameters()]
        )
        keep_intermediates(body, list(self.numbers.values()))
        self.body.load_state_dict(body.state_dict())

    def _keep(self, maps: Mapping[int, FeatureMap]) -> None:
        """Drop what these feature maps do not depend on; what timm cannot drop is not trained."""
        self.maps = dict(maps)
        self.numbers = {level: each.number for level, each in maps.items()}
        keep_intermediates(self.body, list(self.numbers.values()))
        self.unused = unused_weights(self.model.name, tuple(self.numbers.values()))
        for name in self.unused:
            self.body.get_parameter(name).requires_grad_(False)

    def _on_grid(self, feature: Tensor, image: Tensor, level: int) -> Tensor:
        """Feature maps of convolutions without padding, and of patches that are no power of 2, are interpolated to the size of their level."""
        if self.model.aligned and torch.compiler.is_compiling():  # to compare sizes would tie a graph to some of them
            return feature
        step = self.output_stride * 2**level
        size = [(length + step - 1) // step for length in image.shape[2:]]
        return feature if list(feature.shape[2:]) == size else functional.interpolate(feature, size, mode="bilinear")


@functools.cache
def encoder_shape(name: str, depth: int | None = None, output_stride: int = 1) -> EncoderShape:
    """What a model of timm gives to a network of this depth (None: of its own), without allocating its weights.

    Raises:
        UsageError: timm has no such model (the nearest are named), or it gives no level up to `depth`.
        MissingExtraError: timm is not installed.
    """
    model = timm_model(name)
    levels = _levels(model, output_stride)
    if not levels:
        raise UsageError(
            f"model.output_stride: got {output_stride}; expected {2 ** max(each.halvings for each in model.maps)} or less, the stride of the last feature map of {name}."
        )
    depth = max(levels) if depth is None else depth
    widths = {level: each.channels for level, each in levels.items() if level <= depth}
    if not widths:
        raise UsageError(
            f"model.depth: got {depth}; expected {min(levels)} or more: the first feature map of {name} is at level {min(levels)}."
        )
    return EncoderShape(depth, widths, model.divisor_to(levels[max(widths)].halvings))


def encoder_statistics(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of red, green and blue in 0..1 in the training of a model's weights."""
    require_known(name)
    config = pretrained_config(name)
    return tuple(config.mean), tuple(config.std)


def make_encoder(plan: ModelPlan) -> Encoder | None:
    """The encoder of a plan, with random weights; None where all nodes are our own.

    Raises:
        PlanError: the plan has another width at a level than the encoder gives there.
    """
    if plan.encoder is None or plan.encoder == "resenc":
        return None
    model, first = timm_model(plan.encoder), 0 if plan.stem else 1
    maps = {level: each for level, each in _levels(model, plan.output_stride).items() if first <= level <= plan.depth}
    for level, each in maps.items():
        width = plan.node_widths.get(f"{level}_0", plan.widths[level])
        if width != each.channels:
            raise PlanError(
                f"model.widths: got {width} at level {level}; expected {each.channels}, the channels of {plan.encoder}. Plan anew with this model.encoder."
            )
    return Encoder(model, plan.in_channels, maps, plan.output_stride) if maps else None


def _levels(model: TimmModel, output_stride: int) -> dict[int, FeatureMap]:
    shift = output_stride.bit_length() - 1
    return {each.halvings - shift: each for each in model.maps if each.halvings >= shift}


def _windows(image: Tensor, length: int) -> Tensor:
    """(B, C, rows * length, columns * length) -> (B * rows * columns, C, length, length)"""
    batch, channels, height, width = image.shape
    cut = image.reshape(batch, channels, height // length, length, width // length, length)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, length, length)


def _joined(windows: Tensor, rows: int, columns: int) -> Tensor:
    """The inverse of `_windows`, for windows of any size."""
    _, channels, height, width = windows.shape
    placed = windows.reshape(-1, rows, columns, channels, height, width)
    return placed.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, rows * height, columns * width)


def _before_norm(norm: Any, inputs: tuple[Tensor, ...]) -> None:
    """One value for each channel has no statistics, and torch refuses it: the running ones stand in for this call."""
    if norm.training and inputs[0].numel() == inputs[0].shape[1]:
        norm.training, norm.stands_in = False, True


def _after_norm(norm: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    if getattr(norm, "stands_in", False):
        norm.training, norm.stands_in = True, False
