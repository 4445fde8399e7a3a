"""The encoders of segmentation_models_pytorch as models of timm: which one it is, and how its tensors are named."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from unetpp.errors import UsageError
from unetpp.model.encoders import encoder_shape, encoder_statistics, make_encoder
from unetpp.model.timm_models import CUT, import_timm, require_known
from unetpp.peers.answers import IMAGENET_MEAN, IMAGENET_STD, Answers
from unetpp.peers.transfer import Source
from unetpp.plan import ModelPlan

RESNETS = (
    "resnet34",
    "resnet50",
    "resnet18",
    "resnet101",
    "resnet152",
    "resnext50_32x4d",
    *(f"resnext101_32x{width}d" for width in (8, 4, 16, 32)),
)
VGGS = tuple(f"vgg{layers}{norm}" for layers in (11, 13, 16, 19) for norm in ("", "_bn"))
SENETS = tuple(
    f"legacy_{name}"
    for name in ("seresnet50", "seresnet101", "seresnet152", "seresnext50_32x4d", "seresnext101_32x4d", "senet154")
)
EFFICIENTNETS = tuple(f"tf_efficientnet_b{size}" for size in range(8))
"""SMP's efficientnet-b0..7."""
TIMM_EFFICIENTNETS = (
    *(f"efficientnet_b{size}" for size in range(9)),
    "efficientnet_l2",
    *(f"efficientnet_lite{size}" for size in range(5)),
)
"""SMP's timm-efficientnet-b0..8, -l2 and timm-tf_efficientnet_lite0..4."""
FAMILIES: dict[str, Sequence[str]] = {
    "conv1.weight": RESNETS,
    "features.0.weight": VGGS,
    "layer0.conv1.weight": SENETS,
    "_conv_stem.weight": EFFICIENTNETS,
    "conv_stem.weight": TIMM_EFFICIENTNETS,
}
"""First tensor of an encoder of SMP's own -> the models of timm that it may be, the likeliest first."""
OWN, TIMM = "encoder.", "encoder.model."
"""Beginnings of the names in SMP's own encoders, and in those that it takes from timm."""
HEADS = r"_conv_head|_bn1_|_fc|conv_head|bn2_|classifier"
"""Beginnings of the names of what follows the last feature map."""
STAGES_TAKEN = (2, 3, 5, 7)
"""Stages of an EfficientNet after which SMP takes a feature map; the first is that of the stem."""
CENTRED = dict(zip(EFFICIENTNETS[1:], ("16", "5,8,16", "5,18", "6", "13,27", "31", "18"), strict=True))
"""Blocks of SMP's EfficientNets whose stride pads both sides alike: SMP pads for one size of image, that of their training."""
EFFICIENTNET_LAYERS = {"_depthwise_conv": "conv_dw", "_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
FIRST_LAYERS = {**EFFICIENTNET_LAYERS, "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
EXPANDED_LAYERS = {
    **EFFICIENTNET_LAYERS,
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
"""Layers of the blocks of SMP's EfficientNets and timm's, in those that do not expand their channels and in those that do."""


@dataclass(frozen=True)
class PeerEncoder:
    """An encoder of SMP, found."""

    name: str
    """Of the model in timm."""
    prefix: str
    """Of its tensors' names in SMP."""
    in_channels: int
    widths: Mapping[int, int]
    """Channels at each level that it gives."""
    mean: Sequence[float]
    std: Sequence[float]
    tensors: Mapping[str, str]
    """Key -> SMP's name."""
    unused: Mapping[str, str]

    def names(self, model: ModelPlan) -> dict[str, str | None]:
        """Our tensors of the encoder, and SMP's; None: those that timm keeps without using them."""
        with torch.device("meta"):
            encoder = make_encoder(model)
        assert encoder is not None
        keys = {name: key for key, name in keyed(encoder.body.state_dict()).items()}
        return {
            f"encoder.body.{name}": self.tensors.get(key, None if name in encoder.unused else f"{self.prefix}{name}")
            for name, key in keys.items()
        }


def find_encoder(source: Source, answers: Answers, depth: int) -> PeerEncoder | None:
    """The encoder whose tensors fit; None where the user has to be asked for it.

    Raises:
        UsageError: an encoder that cannot be read, or another than the user named.
    """
    prefix = TIMM if any(name.startswith(TIMM) for name in source.tensors) else OWN
    tensors = {
        key: prefix + name
        for key, name in keyed(name.removeprefix(prefix) for name in source.tensors if name.startswith(prefix)).items()
    }
    if prefix == TIMM:
        given = answers.need(
            "model.encoder", "the model of timm that the encoder is, such as resnet34: what comes after tu- in SMP"
        )
        candidates: Sequence[str] = () if given is None else (given.removeprefix("tu-"),)
        if given is None:
            return None
    else:
        candidates = next((names for first, names in FAMILIES.items() if prefix + first in source.tensors), ())
    for name in candidates:
        if _fits(name, tensors, source, whole=prefix == OWN):
            return _described(name, tensors, source, depth)
    if not candidates:
        raise UsageError(
            f"{source.path}: got an encoder of SMP's own that timm has no twin of; expected one of resnet*, resnext*, vgg*, se_resnet*, se_resnext*, senet154, efficientnet-b*, "
            "timm-efficientnet-*, or a tu- encoder. It cannot be imported."
        )
    raise UsageError(
        f"{source.path}: got an encoder whose tensors are not those of {_listed(candidates)}; expected another encoder. Check --set model.encoder, and the file."
    )


def encoder_weights(
    name: str, weights: Mapping[str, Tensor], in_channels: int, depth: int
) -> tuple[dict[str, Tensor], list[str]]:
    """Our tensors of an encoder by SMP's names, and the names of those that SMP has but does not run, which are 0."""
    with torch.device("meta"):
        maps = sum(reduction <= 2**depth for reduction in _body(name).feature_info.reduction())
        body = import_timm().create_model(
            name, pretrained=False, features_only=True, in_chans=in_channels, out_indices=tuple(range(maps))
        )
    ours, theirs = keyed(weights), body.state_dict()
    state = {
        TIMM + entry: weights[ours[key]].detach().clone()
        if key in ours
        else torch.zeros(theirs[entry].shape, dtype=theirs[entry].dtype)
        for key, entry in keyed(theirs).items()
    }
    return state, [TIMM + entry for key, entry in keyed(theirs).items() if key not in ours]


def keyed(names: Iterable[str]) -> dict[str, str]:
    """Names by what does not depend on how timm wraps a model: without punctuation, and with the blocks of an EfficientNet counted through."""
    names = list(names)
    wrapper = next(
        (wrapper for wrapper in ("model.", "body.") if names and all(name.startswith(wrapper) for name in names)), ""
    )
    places = [(name, re.match(r"blocks[._](\d+)\.(\d+)\.(.*)", name.removeprefix(wrapper))) for name in names]
    lengths: dict[int, int] = {}
    for _, place in places:
        if place:
            lengths[int(place[1])] = max(lengths.get(int(place[1]), 0), int(place[2]) + 1)
    starts = dict(
        zip(sorted(lengths), accumulate((lengths[stage] for stage in sorted(lengths)), initial=0), strict=False)
    )
    expanded = {match[1] for name in names if (match := re.match(r"_blocks\.(\d+)\._expand_conv", name))}
    keys = {}
    for name, place in places:
        flat = (
            f"blocks.{starts[int(place[1])] + int(place[2])}.{place[3]}"
            if place
            else _as_timm(name.removeprefix(wrapper), expanded)
        )
        keys[flat.replace(".", "_")] = name
    return keys


def _as_timm(name: str, expanded: set[str]) -> str:
    """The name in timm of a tensor of SMP's own EfficientNet; any other as it is."""
    if match := re.match(r"_blocks\.(\d+)\.(\w+)\.(\w+)$", name):
        layers = EXPANDED_LAYERS if match[1] in expanded else FIRST_LAYERS
        return f"blocks.{match[1]}.{layers.get(match[2], match[2])}.{match[3]}"
    return re.sub("^_conv_stem", "conv_stem", re.sub("^_bn0", "bn1", name))


def _described(name: str, tensors: Mapping[str, str], source: Source, depth: int) -> PeerEncoder:
    first = next(key for key, shape in _shapes(name).items() if len(shape) == 4)
    taken = (
        name + CUT + _cuts(name)
        if name in (*EFFICIENTNETS, *TIMM_EFFICIENTNETS) and tensors[first].startswith((f"{OWN}_conv", f"{OWN}conv"))
        else name
    )
    widths = {level: width for level, width in encoder_shape(taken, depth).widths.items() if level}
    prefix = TIMM if tensors[first].startswith(TIMM) else OWN
    # SMP's own were trained with these, whatever the weights are that timm now has for their twins
    mean, std = encoder_statistics(name) if prefix == TIMM else (IMAGENET_MEAN, IMAGENET_STD)
    unused = {f"{prefix}*": "of the encoder, beyond what the network uses"}
    return PeerEncoder(taken, prefix, source.shape(tensors[first])[1], widths, mean, std, tensors, unused)


def _cuts(name: str) -> str:
    """Blocks after which SMP takes the feature maps of an EfficientNet."""
    ends = [0, *accumulate(len(stage) for stage in _body(name).blocks)]
    cuts = [ends[stage] for stage in STAGES_TAKEN]
    if name == EFFICIENTNETS[0]:  # SMP takes one of its feature maps within a stage
        cuts[2] = ends[4] + 1
    return ",".join(map(str, cuts)) + (f";{CENTRED[name]}" if name in CENTRED else "")


def _fits(name: str, tensors: Mapping[str, str], source: Source, whole: bool) -> bool:
    """Whether the tensors are those of a model of timm, in shape too, but for the channels of the image.

    Args:
        whole: SMP's own encoders have all layers, those of timm only what the decoder's depth needs.
    """
    theirs = {key: source.shape(tensor) for key, tensor in tensors.items() if not re.match(HEADS, key)}
    ours = _shapes(name)
    first = next((key for key, shape in ours.items() if len(shape) == 4), "")
    if first not in theirs or not (theirs.keys() == ours.keys() if whole else theirs.keys() <= ours.keys()):
        return False
    return all(shape == ours[key] or (key == first and shape[2:] == ours[key][2:]) for key, shape in theirs.items())


def _shapes(name: str) -> dict[str, tuple[int, ...]]:
    weights = _body(name).state_dict()
    return {key: tuple(weights[entry].shape) for key, entry in keyed(weights).items()}


@functools.cache
def _body(name: str) -> Any:
    """What SMP asks of timm: the feature maps, here without weights."""
    require_known(name)
    try:
        with torch.device("meta"):
            return import_timm().create_model(name, pretrained=False, features_only=True)
    except (RuntimeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"--set model.encoder: got {name!r} ({str(error).splitlines()[0]}); expected a model of timm that gives feature maps, such as resnet34."
        ) from None


def _listed(names: Sequence[str]) -> str:
    return f"one of {', '.join(names)}" if len(names) > 1 else names[0]
