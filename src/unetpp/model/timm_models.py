"""Models of timm, asked what feature maps they give and which images they take.

They are run without memory, on torch's meta device, as no table says this of each of them. timm is an extra: it is
imported when a model of it is asked for.
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
"""Arguments of timm's models that are tried until one takes images of any size."""
LARGEST_DIVISOR = 512
"""A model that takes no multiple of less is one that takes its own size only."""
CUT = "@"
"""Between the name of an EfficientNet and where another library takes its feature maps: tf_efficientnet_b2@5,8,16,23;5,8 gives
those after the stem and after 5, 8, 16 and 23 of its blocks, of which number 5 and 8 pad both sides alike at their stride."""
VALID_MARGIN = 4
"""Pixels of a feature map that convolutions without padding may cost."""


@dataclass(frozen=True)
class FeatureMap:
    """One of those that a model gives."""

    number: int
    """Among all of the model."""
    halvings: int
    """log2 of the image's size over its own, rounded."""
    reduction: float
    """The image's size over its own, measured."""
    channels: int


@dataclass(frozen=True)
class TimmModel:
    """What a model gives, and with which images."""

    name: str
    options: Mapping[str, Any]
    """With which it is created."""
    maps: tuple[FeatureMap, ...]
    """One for each size, from large to small: of several, the last."""
    divisor: int
    """It takes images whose sizes are multiples of this."""
    window: int | None
    """The only size that it takes, if there is but one."""
    aligned: bool
    """Its feature maps have exactly the image's size over 2^halvings."""

    def create(self, in_channels: int, **weights: Any) -> Any:
        """The model, with random weights unless timm is told of others."""
        return _created(self.name, in_chans=in_channels, **self.options, **weights)

    def divisor_to(self, halvings: int) -> int:
        """The divisor where smaller feature maps than these are not used."""
        maps = [each for each in self.maps if each.halvings <= halvings]
        if self.window or not maps or maps[-1] is self.maps[-1]:
            return self.divisor
        divisor, exact = _divisor(_without_memory(self.name, self.options), maps) or (self.divisor, True)
        return divisor if exact or not self.aligned else self.divisor


@functools.cache
def timm_model(name: str) -> TimmModel:
    """What timm's model of this name gives.

    Raises:
        UsageError: timm has no such model; the nearest are named.
        MissingExtraError: timm is not installed.
    """
    require_known(name)
    size = pretrained_config(name).input_size[1:]
    for options in OPTIONS:
        try:
            body = _without_memory(name, options)
        except TypeError:  # it knows no such option
            continue
        if not hasattr(body, "forward_intermediates"):
            raise UsageError(
                f"model.encoder: got timm {import_timm().__version__}, whose {name} gives no feature maps; expected 1.0.31 or newer. Run: pip install --upgrade timm"
            )
        maps = _maps(body, size)
        if found := _divisor(body, maps):
            return TimmModel(name, options, maps, found[0], None, found[1] and _regular(body))
    window = size[-1]
    body = _without_memory(name, {})
    maps = _maps(body, (window, window))
    exact = bool(_fit(body, maps, (window, window))) and window % 2 ** maps[-1].halvings == 0
    return TimmModel(name, {}, maps, window, window, exact and _regular(body))


def require_known(name: str) -> None:
    """Check the name of a model.

    Raises:
        UsageError: timm has no such model; the nearest are named.
    """
    timm = import_timm()
    name, _, cut = name.partition(CUT)
    if cut and not ("efficientnet" in name and re.fullmatch(r"\d+(,\d+)*(;\d+(,\d+)*)?", cut)):
        raise UsageError(
            f"model.encoder: got {name + CUT + cut!r}; expected an EfficientNet before the {CUT}, and numbers of blocks after it, as in tf_efficientnet_b0@3,5,9,16."
        )
    model, _, tag = name.partition(".")
    if not timm.is_model(model):
        raise UsageError(
            f"model.encoder: got {name!r}; expected the name of a model of timm. {_nearest(name, timm.list_models())}"
        )
    if tag and name not in (tagged := timm.list_pretrained(f"{model}.*")):
        raise UsageError(f"model.encoder: got {name!r}; expected {model}, alone or as one of {', '.join(tagged)}.")


def intermediates(body: Any, image: Tensor, numbers: Sequence[int]) -> list[Tensor]:
    """The feature maps of these numbers; what follows the last is not computed."""
    features: list[Tensor] = body.forward_intermediates(
        image, indices=list(numbers), norm=False, stop_early=True, output_fmt="NCHW", intermediates_only=True
    )
    return features


def keep_intermediates(body: Any, numbers: Sequence[int]) -> None:
    """Drop what follows the last of these feature maps."""
    body.prune_intermediate_layers(list(numbers), prune_norm=True, prune_head=True)


@functools.cache
def unused_weights(name: str, numbers: tuple[int, ...]) -> frozenset[str]:
    """Weights on which these feature maps do not depend, and that timm keeps all the same."""
    model = timm_model(name)
    body = _without_memory(name, model.options)
    keep_intermediates(body, numbers)
    with torch.device("meta"), torch.enable_grad():
        features = intermediates(body, torch.empty(1, 3, model.divisor, model.divisor, requires_grad=True), numbers)
        torch.stack([feature.sum() for feature in features]).sum().backward()
    return frozenset(weight for weight, tensor in body.named_parameters() if tensor.grad is None)


def pretrained_config(name: str) -> Any:
    """What timm knows of the weights that it has for a model."""
    return import_timm().get_pretrained_cfg(name.partition(CUT)[0])


def import_timm() -> Any:
    """The package, imported when it is needed.

    Raises:
        MissingExtraError: it is not installed.
        UsageError: the torchvision that it needs does not work.
    """
    with optional_package("timm", "encoders", "model.encoder"):
        try:
            import timm
        except RuntimeError as error:
            raise UsageError(
                f"model.encoder: got a torchvision that does not work with this torch ({first_line(error)}); expected both of one build. Install them together."
            ) from None
    return timm


def first_line(error: Exception) -> str:
    """What another library's error says, in one line."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no reason given'])[0]}"


def _without_memory(name: str, options: Mapping[str, Any]) -> Any:
    with torch.device("meta"):
        return _created(name, **options).eval()


def _created(name: str, **options: Any) -> Any:
    """A model of timm, cut where its name says so."""
    base, _, cut = name.partition(CUT)
    body = import_timm().create_model(base, **options)
    if cut:
        ends, _, centred = cut.partition(";")
        blocks = [block for stage in body.blocks for block in stage]
        for number in map(int, centred.split(",") if centred else ()):
            blocks[number].conv_dw = _centred(blocks[number].conv_dw)
        stages = [blocks[start:end] for start, end in pairwise((0, *map(int, ends.split(","))))]
        body.blocks = nn.Sequential(*(nn.Sequential(*stage) for stage in stages))
        body.stage_ends = list(range(len(stages) + 1))
        widths = [body.conv_stem.out_channels, *(stage[-1].feature_info("bottleneck")["num_chs"] for stage in stages)]
        body.feature_info = [{"num_chs": width, "reduction": 2 ** (number + 1)} for number, width in enumerate(widths)]
    return body


def _centred(conv: Any) -> nn.Conv2d:
    """A depthwise convolution that pads both sides alike, whatever the size of the image."""
    padding = tuple(size // 2 for size in conv.kernel_size)
    alike = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        padding,
        groups=conv.groups,
        bias=False,
        device=conv.weight.device,
    )
    alike.weight = conv.weight
    return alike


def _maps(body: Any, size: tuple[int, int]) -> tuple[FeatureMap, ...]:
    """Of an image of the model's own size."""
    maps: dict[int, FeatureMap] = {}
    for number, feature in enumerate(_run_without_memory(body, size, range(len(body.feature_info)))):
        reduction = size[0] / feature.shape[2]
        halvings = max(0, round(log2(reduction)))
        maps[halvings] = FeatureMap(number, halvings, reduction, feature.shape[1])
    return tuple(maps.values())


def _regular(body: Any) -> bool:
    """Whether the model means to give maps of the image's size over powers of 2."""
    return all(log2(body.feature_info[number]["reduction"]).is_integer() for number in range(len(body.feature_info)))


def _divisor(body: Any, maps: Sequence[FeatureMap]) -> tuple[int, bool] | None:
    """The smallest divisor of the images that the model takes, and whether its feature maps have the exact sizes; for that it may be twice as large."""
    step, found = 2 ** maps[-1].halvings, None
    for divisor in range(step, LARGEST_DIVISOR + 1, step):
        if found and divisor > 2 * found:
            break
        square, oblong = (_fit(body, maps, size) for size in ((divisor, divisor), (3 * divisor, 2 * divisor)))
        if square and oblong:
            return divisor, True
        if square is not None and oblong is not None:
            found = found or divisor
    return (found, False) if found else None


def _fit(body: Any, maps: Sequence[FeatureMap], size: tuple[int, int]) -> bool | None:
    """Whether the feature maps of such an image have just the sizes of their levels; None: it is not taken, or they do not follow its size."""
    try:
        features = _run_without_memory(body, size, [each.number for each in maps])
    except (RuntimeError, AssertionError, ValueError):  # each model has its own way to refuse
        return None
    exact = True
    for each, feature in zip(maps, features, strict=True):
        for got, length in zip(feature.shape[2:], size, strict=True):
            if got == 0 or abs(got - length / each.reduction) > VALID_MARGIN:
                return None
            exact = exact and got == -(-length // 2**each.halvings)
    return exact


def _run_without_memory(body: Any, size: tuple[int, int], numbers: Sequence[int]) -> list[Tensor]:
    with torch.device("meta"), torch.no_grad():
        return intermediates(body, torch.empty(1, 3, *size), numbers)


def _nearest(name: str, names: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return (
        f"Did you mean {' or '.join(close)}?"
        if close
        else f"There are {len(names)}, such as resnet34, efficientnet_b4 and convnextv2_tiny."
    )
