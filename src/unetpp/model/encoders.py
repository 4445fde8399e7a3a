"""Encoders from timm as the first column of the grid.

Level i of the grid is the image at 1/2^i. The encoder computes X[i, 0] at the levels that it has; the others, such as
level 0 of most encoders, are ordinary nodes. So every X[0, j] has full resolution, a head and one width, and deep
supervision and pruning mean the same with every encoder.
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
from unetpp.model.encoder_weights import make_pretrained_body
from unetpp.model.timm_models import (
    FeatureMap,
    TimmModel,
    compute_maps,
    cut_after,
    find_unused_weights,
    get_pretrained_config,
    inspect_timm_model,
    require_known,
)
from unetpp.plan import ModelPlan


@dataclass(frozen=True)
class EncoderShape:
    """Levels, channels and divisor of an encoder in a network."""

    depth: int
    """Depth of the network; by default the deepest level of the encoder."""
    widths: Mapping[int, int]
    """Channels of X[i, 0] at each level i that the encoder has."""
    divisor: int
    """Images are padded to a multiple of this."""


class Encoder(nn.Module):
    """A model of timm that computes some of the X[i, 0].

    Args:
        model: the model of timm.
        in_channels: number of channels of the image.
        maps: the feature map of the model for each level.
        output_stride: pixels of the image for one pixel of level 0.

    Attributes:
        body: the model, cut after its last used feature map; its tensors are named as in timm.
        frozen: whether weights and batch statistics stay as they are in training.
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
                module.register_forward_pre_hook(_use_running_statistics)
                module.register_forward_hook(_restore_batch_statistics)
        self._use_maps(maps)

    @property
    def levels(self) -> tuple[int, ...]:
        """Levels whose X[i, 0] the encoder computes."""
        return tuple(self.numbers)

    def forward(self, image: Tensor, depth: int) -> dict[int, Tensor]:
        """Compute the feature maps of levels up to `depth`, and nothing beyond.

        Args:
            image: (B, in_channels, Y, X), padded to a multiple of the divisor of its shape.
            depth: deepest level.

        Returns:
            (B, channels, Y / 2^i, X / 2^i) for each level i, with `output_stride` 1.
        """
        levels = [level for level in self.numbers if level <= depth]
        if not levels:
            return {}
        numbers, window = [self.numbers[level] for level in levels], self.model.window
        features = compute_maps(self.body, _cut_windows(image, window) if window else image, numbers)
        if window:
            features = [_join_windows(feature, *(size // window for size in image.shape[2:])) for feature in features]
        return {level: self._on_grid(feature, image, level) for level, feature in zip(levels, features, strict=True)}

    def prune(self, depth: int) -> Encoder | None:
        """Make an encoder of the levels up to `depth`; None if it has none of them."""
        maps = {level: each for level, each in self.maps.items() if level <= depth}
        if not maps:
            return None
        pruned = copy.deepcopy(self)
        pruned._use_maps(maps)
        return pruned

    def freeze(self, frozen: bool) -> None:
        """Freeze or unfreeze weights and batch statistics in training; frozen weights have no gradient."""
        self.frozen = frozen
        self.train()
        for name, weight in self.body.named_parameters():
            weight.requires_grad_(not frozen and name not in self.unused)

    def train(self, mode: bool = True) -> Encoder:
        """Switch to training mode, unless the encoder is frozen."""
        return super().train(mode and not self.frozen)

    def load_pretrained(self, source: str) -> None:
        """Load weights that timm downloads ("pretrained"), or those of a file.

        Raises:
            UsageError: timm has no weights, or they cannot be downloaded; the message names the file to get.
            ModelFileError: the file cannot be read, or its weights are not those of this model.
        """
        needed = [name for name, _ in self.body.named_parameters()]
        body = make_pretrained_body(self.model, self.in_channels, source, needed)
        cut_after(body, list(self.numbers.values()))
        self.body.load_state_dict(body.state_dict())

    def _use_maps(self, maps: Mapping[int, FeatureMap]) -> None:
        """Drop all that these feature maps do not depend on; weights that timm cannot drop are not trained."""
        self.maps = dict(maps)
        self.numbers = {level: each.number for level, each in maps.items()}
        cut_after(self.body, list(self.numbers.values()))
        self.unused = find_unused_weights(self.model.name, tuple(self.numbers.values()))
        for name in self.unused:
            self.body.get_parameter(name).requires_grad_(False)

    def _on_grid(self, feature: Tensor, image: Tensor, level: int) -> Tensor:
        """Interpolate a feature map to the size of its level.

        (Convolutions without padding, and patches that are no power of 2, give other sizes.)
        """
        if self.model.aligned and torch.compiler.is_compiling():  # comparing sizes would tie a graph to some of them
            return feature
        step = self.output_stride * 2**level
        size = [(length + step - 1) // step for length in image.shape[2:]]
        return feature if list(feature.shape[2:]) == size else functional.interpolate(feature, size, mode="bilinear")


@functools.cache
def encoder_shape(name: str, depth: int | None = None, output_stride: int = 1) -> EncoderShape:
    """Find out which levels a model of timm has in a network, without allocating its weights.

    Args:
        name: name of the model of timm.
        depth: depth of the network; None: the deepest level of the model.
        output_stride: pixels of the image for one pixel of level 0.

    Returns:
        Depth, channels of each level, and divisor.

    Raises:
        UsageError: timm has no such model (the nearest are named), or it has no level up to `depth`.
        MissingExtraError: timm is not installed.
    """
    model = inspect_timm_model(name)
    levels = _levels(model, output_stride)
    if not levels:
        largest = 2 ** max(each.halvings for each in model.maps)
        expected = f"{largest} or less, the stride of the last feature map of {name}"
        raise UsageError("model.output_stride", str(output_stride), expected, "Change it.")
    depth = max(levels) if depth is None else depth
    widths = {level: each.channels for level, each in levels.items() if level <= depth}
    if not widths:
        expected = f"{min(levels)} or more: the first feature map of {name} is at level {min(levels)}"
        raise UsageError("model.depth", str(depth), expected, "Change it.")
    return EncoderShape(depth, widths, model.divisor_to(levels[max(widths)].halvings))


def encoder_statistics(name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Look up the mean and standard deviation of red, green and blue (0 to 1) with which a model was trained.

    Raises:
        UsageError: timm has no such model.
        MissingExtraError: timm is not installed.
    """
    require_known(name)
    config = get_pretrained_config(name)
    return tuple(config.mean), tuple(config.std)


def make_encoder(plan: ModelPlan) -> Encoder | None:
    """Make the encoder of a plan, with random weights; None for a plan without an encoder of timm.

    Raises:
        PlanError: the plan has another width at a level than the encoder.
    """
    if plan.encoder is None or plan.encoder == "resenc":
        return None
    model, first = inspect_timm_model(plan.encoder), 0 if plan.stem else 1
    maps = {level: each for level, each in _levels(model, plan.output_stride).items() if first <= level <= plan.depth}
    for level, each in maps.items():
        width = plan.node_widths.get(f"{level}_0", plan.widths[level])
        if width != each.channels:
            expected = f"{each.channels}, the channels of {plan.encoder}"
            action = "Create the plan again with this model.encoder."
            raise PlanError("model.widths", f"{width} at level {level}", expected, action)
    return Encoder(model, plan.in_channels, maps, plan.output_stride) if maps else None


def _levels(model: TimmModel, output_stride: int) -> dict[int, FeatureMap]:
    shift = output_stride.bit_length() - 1
    return {each.halvings - shift: each for each in model.maps if each.halvings >= shift}


def _cut_windows(image: Tensor, length: int) -> Tensor:
    """Cut (B, C, rows * length, columns * length) into (B * rows * columns, C, length, length)."""
    batch, channels, height, width = image.shape
    cut = image.reshape(batch, channels, height // length, length, width // length, length)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, length, length)


def _join_windows(windows: Tensor, rows: int, columns: int) -> Tensor:
    """Invert `_cut_windows`, for windows of any size."""
    _, channels, height, width = windows.shape
    placed = windows.reshape(-1, rows, columns, channels, height, width)
    return placed.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, rows * height, columns * width)


def _use_running_statistics(norm: Any, inputs: tuple[Tensor, ...]) -> None:
    """Use running statistics for this call if each channel has one value only, which torch refuses in training."""
    if norm.training and inputs[0].numel() == inputs[0].shape[1]:
        norm.training, norm.was_training = False, True


def _restore_batch_statistics(norm: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    if getattr(norm, "was_training", False):
        norm.training, norm.was_training = True, False
