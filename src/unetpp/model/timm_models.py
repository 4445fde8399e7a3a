"""Models of timm: their feature maps, and the sizes of images that they accept.

No table lists these, so the models are run on torch's meta device, without memory. timm is an extra: it is imported
when one of its models is used.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log2
from typing import Any

import torch
from torch import Tensor, nn

from unetpp.errors import UsageError, optional_package

OPTIONS: tuple[dict[str, Any], ...] = ({}, {"dynamic_img_size": True})
"""Arguments of timm's models, tried in this order until the model accepts images of any size."""
LARGEST_DIVISOR = 512
"""Largest divisor that is tried; a model that accepts no multiple of any takes images of its default size only."""
CUT = "@"
"""Separates the name of an EfficientNet from the blocks after which another library takes feature maps.

tf_efficientnet_b2@5,8,16,23;5,8 takes them after the stem and after 5, 8, 16 and 23 blocks; blocks 5 and 8 pad both
sides alike at their stride.
"""
VALID_MARGIN = 4
"""Largest number of pixels that a feature map may lose to convolutions without padding."""


@dataclass(frozen=True)
class FeatureMap:
    """A feature map of a model."""

    number: int
    """Index among all feature maps of the model."""
    halvings: int
    """log2 of `reduction`, rounded."""
    reduction: float
    """Size of the image divided by the size of the feature map, measured."""
    channels: int


@dataclass(frozen=True)
class TimmModel:
    """Feature maps of a model, and the images that it accepts."""

    name: str
    options: Mapping[str, Any]
    """Arguments with which timm creates it."""
    maps: tuple[FeatureMap, ...]
    """The last feature map of each size, from large to small."""
    divisor: int
    """Sizes of images are multiples of this."""
    window: int | None
    """The only size of images that the model accepts; None: any multiple of `divisor`."""
    aligned: bool
    """Whether feature maps have exactly the size of the image divided by 2^halvings."""

    def create(self, in_channels: int, **weights: Any) -> Any:
        """Create the model, with random weights unless `weights`, arguments of timm, name others."""
        return _create(self.name, in_chans=in_channels, **self.options, **weights)

    def divisor_to(self, halvings: int) -> int:
        """Find the divisor if no feature maps smaller than 1/2^halvings are used."""
        maps = [each for each in self.maps if each.halvings <= halvings]
        if self.window or not maps or maps[-1] is self.maps[-1]:
            return self.divisor
        divisor, exact = _find_divisor(_create_on_meta(self.name, self.options), maps) or (self.divisor, True)
        return divisor if exact or not self.aligned else self.divisor


@functools.cache
def inspect_timm_model(name: str) -> TimmModel:
    """Find out the feature maps of timm's model of this name, and the images that it accepts.

    Raises:
        UsageError: timm has no such model (the nearest are named), or the model has no feature maps.
        MissingExtraError: timm is not installed.
    """
    require_known(name)
    size = get_pretrained_config(name).input_size[1:]
    for options in OPTIONS:
        try:
            body = _create_on_meta(name, options)
        except TypeError:  # it has no such argument
            continue
        if not hasattr(body, "forward_intermediates"):
            got = f"timm {import_timm().__version__}, whose {name} gives no feature maps"
            raise UsageError("model.encoder", got, "1.0.31 or newer", "Run: pip install --upgrade timm")
        maps = _measure_maps(body, size)
        if found := _find_divisor(body, maps):
            return TimmModel(name, options, maps, found[0], None, found[1] and _has_powers_of_2(body))
    window = size[-1]
    body = _create_on_meta(name, {})
    maps = _measure_maps(body, (window, window))
    exact = bool(_fits(body, maps, (window, window))) and window % 2 ** maps[-1].halvings == 0
    return TimmModel(name, {}, maps, window, window, exact and _has_powers_of_2(body))


def require_known(name: str) -> None:
    """Check that timm has a model of this name.

    Raises:
        UsageError: timm has no such model; the nearest are named.
        MissingExtraError: timm is not installed.
    """
    timm = import_timm()
    name, _, cut = name.partition(CUT)
    if cut and not ("efficientnet" in name and re.fullmatch(r"\d+(,\d+)*(;\d+(,\d+)*)?", cut)):
        expected = f"an EfficientNet before the {CUT}, and numbers of blocks after it"
        raise UsageError("model.encoder", repr(name + CUT + cut), expected, "Example: tf_efficientnet_b0@3,5,9,16.")
    model, _, tag = name.partition(".")
    if not timm.is_model(model):
        suggestion = _suggest(name, timm.list_models())
        raise UsageError("model.encoder", repr(name), "the name of a model of timm", suggestion)
    if tag and name not in (tagged := timm.list_pretrained(f"{model}.*")):
        raise UsageError("model.encoder", repr(name), f"{model}, alone or as one of {', '.join(tagged)}", "Change it.")


def compute_maps(body: Any, image: Tensor, numbers: Sequence[int]) -> list[Tensor]:
    """Compute the feature maps with these numbers, and nothing after the last.

    Args:
        body: model of timm.
        image: (B, in_channels, Y, X).
        numbers: indices of the feature maps, ascending.

    Returns:
        (B, channels, y, x) for each.
    """
    features: list[Tensor] = body.forward_intermediates(
        image, indices=list(numbers), norm=False, stop_early=True, output_fmt="NCHW", intermediates_only=True
    )
    return features


def cut_after(body: Any, numbers: Sequence[int]) -> None:
    """Drop the layers after the last of these feature maps."""
    body.prune_intermediate_layers(list(numbers), prune_norm=True, prune_head=True)


@functools.cache
def find_unused_weights(name: str, numbers: tuple[int, ...]) -> frozenset[str]:
    """Find the weights on which these feature maps do not depend, although timm does not drop them."""
    model = inspect_timm_model(name)
    body = _create_on_meta(name, model.options)
    cut_after(body, numbers)
    with torch.device("meta"), torch.enable_grad():
        features = compute_maps(body, torch.empty(1, 3, model.divisor, model.divisor, requires_grad=True), numbers)
        torch.autograd.backward([feature.sum() for feature in features])
    return frozenset(weight for weight, tensor in body.named_parameters() if tensor.grad is None)


def get_pretrained_config(name: str) -> Any:
    """Look up timm's entry for the weights of a model."""
    return import_timm().get_pretrained_cfg(name.partition(CUT)[0])


def import_timm() -> Any:
    """Import timm, when it is needed.

    Raises:
        MissingExtraError: timm is not installed.
        UsageError: torchvision, which timm needs, does not work.
    """
    with optional_package("timm", "encoders", "model.encoder"):
        try:
            import timm
        except RuntimeError as error:
            got = f"a torchvision that does not work with this torch ({format_error(error)})"
            raise UsageError("model.encoder", got, "both of one build", "Install them together.") from None
    return timm


def format_error(error: Exception) -> str:
    """Format an error of another library in one line."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason given'])[0]}"


def _create_on_meta(name: str, options: Mapping[str, Any]) -> Any:
    with torch.device("meta"):
        return _create(name, **options).eval()


def _create(name: str, **options: Any) -> Any:
    """Create a model of timm, with the feature maps after `CUT` in its name."""
    base, _, cut = name.partition(CUT)
    body = import_timm().create_model(base, **options)
    if cut:
        ends, _, centered = cut.partition(";")
        blocks = [block for stage in body.blocks for block in stage]
        for number in map(int, centered.split(",") if centered else ()):
            blocks[number].conv_dw = _center(blocks[number].conv_dw)
        stages = [blocks[start:end] for start, end in pairwise((0, *map(int, ends.split(","))))]
        body.blocks = nn.Sequential(*(nn.Sequential(*stage) for stage in stages))
        body.stage_ends = list(range(len(stages) + 1))
        widths = [body.conv_stem.out_channels, *(stage[-1].feature_info("bottleneck")["num_chs"] for stage in stages)]
        body.feature_info = [{"num_chs": width, "reduction": 2 ** (number + 1)} for number, width in enumerate(widths)]
    return body


def _center(conv: Any) -> nn.Conv2d:
    """Make a depthwise convolution that pads both sides alike for any size of the image."""
    padding = tuple(size // 2 for size in conv.kernel_size)
    centered = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        padding,
        groups=conv.groups,
        bias=False,
        device=conv.weight.device,
    )
    centered.weight = conv.weight
    return centered


def _measure_maps(body: Any, size: tuple[int, int]) -> tuple[FeatureMap, ...]:
    """Measure the feature maps for an image of the model's default size."""
    maps: dict[int, FeatureMap] = {}
    for number, feature in enumerate(_run_on_meta(body, size, range(len(body.feature_info)))):
        reduction = size[0] / feature.shape[2]
        halvings = max(0, round(log2(reduction)))
        maps[halvings] = FeatureMap(number, halvings, reduction, feature.shape[1])
    return tuple(maps.values())


def _has_powers_of_2(body: Any) -> bool:
    """Say whether all nominal reductions of the feature maps are powers of 2."""
    return all(log2(body.feature_info[number]["reduction"]).is_integer() for number in range(len(body.feature_info)))


def _find_divisor(body: Any, maps: Sequence[FeatureMap]) -> tuple[int, bool] | None:
    """Find the smallest divisor of the images that the model accepts, and whether feature maps then have exact sizes.

    A divisor with exact sizes may be up to twice as large.
    """
    step, found = 2 ** maps[-1].halvings, None
    for divisor in range(step, LARGEST_DIVISOR + 1, step):
        if found and divisor > 2 * found:
            break
        square, oblong = (_fits(body, maps, size) for size in ((divisor, divisor), (3 * divisor, 2 * divisor)))
        if square and oblong:
            return divisor, True
        if square is not None and oblong is not None:
            found = found or divisor
    return (found, False) if found else None


def _fits(body: Any, maps: Sequence[FeatureMap], size: tuple[int, int]) -> bool | None:
    """Say whether the feature maps of an image of this size have exactly the sizes of their levels.

    None: the model does not accept the image, or the sizes of its feature maps do not follow that of the image.
    """
    try:
        features = _run_on_meta(body, size, [each.number for each in maps])
    except (RuntimeError, AssertionError, ValueError):  # models refuse an image in different ways
        return None
    exact = True
    for each, feature in zip(maps, features, strict=True):
        for got, length in zip(feature.shape[2:], size, strict=True):
            if got == 0 or abs(got - length / each.reduction) > VALID_MARGIN:
                return None
            exact = exact and got == -(-length // 2**each.halvings)
    return exact


def _run_on_meta(body: Any, size: tuple[int, int], numbers: Sequence[int]) -> list[Tensor]:
    with torch.device("meta"), torch.no_grad():
        return compute_maps(body, torch.empty(1, 3, *size), numbers)


def _suggest(name: str, names: Sequence[str]) -> str:
    if close := difflib.get_close_matches(name, names, n=3, cutoff=0.5):
        return f"Did you mean {' or '.join(close)}?"
    return f"There are {len(names)}, such as resnet34, efficientnet_b4 and convnextv2_tiny."
