"""The encoders of segmentation_models_pytorch as models of timm: which one it is, and how its tensors are named."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from unetpp.deploy.peers.answers import IMAGENET_MEAN, IMAGENET_STD, Answers
from unetpp.deploy.peers.transfer import Source
from unetpp.errors import UsageError, optional_package
from unetpp.model.encoders import make_encoder
from unetpp.plan import ModelPlan

RESNETS = ("resnet34", "resnet50", "resnet18", "resnet101", "resnet152", "resnext50_32x4d", *(f"resnext101_32x{width}d" for width in (8, 4, 16, 32)))
VGGS = tuple(f"vgg{layers}{norm}" for layers in (11, 13, 16, 19) for norm in ("", "_bn"))
SENETS = tuple(f"legacy_{name}" for name in ("seresnet50", "seresnet101", "seresnet152", "seresnext50_32x4d", "seresnext101_32x4d", "senet154"))
FAMILIES: dict[str, Sequence[str]] = {"conv1.weight": RESNETS, "features.0.weight": VGGS, "layer0.conv1.weight": SENETS}
"""First tensor of an encoder of SMP's own -> the models of timm that it may be, the likeliest first."""

HEADS = r"_conv_head|_bn1|_fc|conv_head|bn2|classifier"
"""Beginnings of the names of what follows the last feature map."""


@dataclass(frozen=True)
class PeerEncoder:
    """An encoder of SMP, found."""

    name: str
    """Of the model in timm."""
    prefix: str
    in_channels: int
    widths: Sequence[int]
    """Channels at level 1 to the deepest."""
    mean: Sequence[float]
    std: Sequence[float]
    tensors: Mapping[str, str]
    """Name without punctuation -> SMP's name."""
    unused: Mapping[str, str]

    def names(self, model: ModelPlan) -> dict[str, str | None]:
        """Our tensors of the encoder, and SMP's."""
        with torch.device("meta"):
            ours = make_encoder(model).state_dict()
        return {f"encoder.{name}": self.tensors.get(_plain(name.removeprefix("body.")), f"{self.prefix}{name.removeprefix('body.')}") for name in ours}


def find_encoder(source: Source, answers: Answers, depth: int) -> PeerEncoder | None:
    """The encoder whose tensors fit; None where the user has to be asked for it.

    Raises:
        UsageError: an encoder that is no model of timm, or another than the user named.
    """
    prefix = "encoder.model." if any(name.startswith("encoder.model.") for name in source.tensors) else "encoder."
    tensors = {_plain(name.removeprefix(prefix)): name for name in source.tensors if name.startswith(prefix)}
    candidates: Sequence[str] = next((names for first, names in FAMILIES.items() if prefix + first in source.tensors), ())
    if answers.is_given("model.encoder") or prefix == "encoder.model.":
        given = answers.need("model.encoder", "the name of the encoder, such as resnet34: what SMP has after tu-")
        if given is None:
            return None
        candidates = (given.removeprefix("tu-"),)
    for name in candidates:
        if _fits(name, tensors, source, whole=prefix == "encoder."):
            return _described(name, prefix, tensors, source, depth)
    raise UsageError(f"{source.path}: got an encoder whose tensors are not those of {_listed(candidates)}. Name the model of timm that it is: --set model.encoder=NAME")


def _described(name: str, prefix: str, tensors: Mapping[str, str], source: Source, depth: int) -> PeerEncoder:
    body = _timm_model(name)
    first = next(entry for entry, tensor in body.state_dict().items() if tensor.ndim == 4)
    levels = {reduction: channels for channels, reduction in zip(body.feature_info.channels(), body.feature_info.reduction(), strict=True)}
    widths = [levels[2**level] for level in range(1, depth + 1)]
    mean, std = _statistics(name)
    unused = {f"{prefix}*": "of the encoder, beyond what the network uses"}
    return PeerEncoder(name, prefix, source.shape(tensors[_plain(first)])[1], widths, mean, std, tensors, unused)


def _fits(name: str, tensors: Mapping[str, str], source: Source, whole: bool) -> bool:
    """Whether the tensors are those of a model of timm, in shape too, but for the channels of the image.

    Args:
        whole: SMP's own encoders have all layers, those of timm only what the decoder's depth needs.
    """
    theirs = {entry: source.shape(tensor) for entry, tensor in tensors.items() if not re.match(HEADS, entry)}
    ours = {_plain(entry): tuple(tensor.shape) for entry, tensor in _timm_model(name).state_dict().items()}
    first = next((entry for entry, shape in ours.items() if len(shape) == 4), "")
    if first not in theirs or not (theirs.keys() == ours.keys() if whole else theirs.keys() <= ours.keys()):
        return False
    return all(shape == ours[entry] or (entry == first and shape[2:] == ours[entry][2:]) for entry, shape in theirs.items())


@functools.cache
def _timm_model(name: str) -> Any:
    """All feature maps of a model of timm, without weights."""
    with optional_package("timm", "encoders", f"An encoder such as {name}"):
        import timm
    try:
        with torch.device("meta"):
            return timm.create_model(name, pretrained=False, features_only=True)
    except (RuntimeError, ValueError, AttributeError) as error:
        raise UsageError(f"--set model.encoder: got {name!r} ({str(error).splitlines()[0]}); expected a model of timm that gives feature maps, such as resnet34.") from None


def _statistics(name: str) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and deviation of red, green and blue in 0..1 in the training of a model of timm."""
    import timm

    config = timm.get_pretrained_cfg(name)
    return (config.mean, config.std) if config else (IMAGENET_MEAN, IMAGENET_STD)


def _plain(name: str) -> str:
    """Without punctuation: timm's feature maps have features_0 where SMP has features.0."""
    return name.replace(".", "_")


def _listed(names: Sequence[str]) -> str:
    return f"one of {', '.join(names)}" if len(names) > 1 else names[0] if names else "a known model"
