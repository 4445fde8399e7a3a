"""Encoders of segmentation_models_pytorch as models of timm: which one it is, and the names of its tensors."""

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
from unetpp.peers.import_settings import IMAGENET_MEAN, IMAGENET_STD, ImportSettings
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
"""SMP's efficientnet-b0 to -b7."""
TIMM_EFFICIENTNETS = (
    *(f"efficientnet_b{size}" for size in range(9)),
    "efficientnet_l2",
    *(f"efficientnet_lite{size}" for size in range(5)),
)
"""SMP's timm-efficientnet-b0 to -b8, -l2 and timm-tf_efficientnet_lite0 to lite4."""
STAGE_BLOCK = re.compile(r"^blocks[._](\d+)\.(\d+)\.")
"""Prefix of a tensor in a block of timm's EfficientNets: stage, block."""
FAMILIES: dict[str, Sequence[str]] = {
    "conv1.weight": RESNETS,
    "features.0.weight": VGGS,
    "layer0.conv1.weight": SENETS,
    "_conv_stem.weight": EFFICIENTNETS,
    "conv_stem.weight": TIMM_EFFICIENTNETS,
}
"""First tensor of an encoder of SMP's own -> models of timm that it may be, the likeliest first."""
OWN, TIMM = "encoder.", "encoder.model."
"""Prefixes of the tensors of SMP's own encoders, and of those that it takes from timm."""
HEADS = r"_conv_head|_bn1_|_fc|conv_head|bn2_|classifier"
"""Prefixes of the keys of layers after the last feature map."""
STAGES_TAKEN = (2, 3, 5, 7)
"""Stages of an EfficientNet after which SMP takes a feature map; the first is that of the stem."""
CENTERED = dict(zip(EFFICIENTNETS[1:], ("16", "5,8,16", "5,18", "6", "13,27", "31", "18"), strict=True))
"""Blocks of SMP's EfficientNets whose stride pads both sides alike: SMP pads for the image size of their training."""
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
"""Layers in blocks of SMP's EfficientNets -> timm's, with and without an expansion of channels."""


@dataclass(frozen=True)
class PeerEncoder:
    """An encoder of SMP."""

    name: str
    """Name of the model in timm."""
    prefix: str
    """Prefix of its tensors in SMP."""
    in_channels: int
    """Number of channels of the image."""
    widths: Mapping[int, int]
    """Channels at each level that it has."""
    mean: Sequence[float]
    """Mean of red, green and blue in 0..1 in its training."""
    std: Sequence[float]
    """Standard deviation of the same."""
    tensors: Mapping[str, str]
    """Key of `index_names` -> SMP's name."""
    unused: Mapping[str, str]
    """Pattern of its tensors that our network does not need -> reason."""

    def name_tensors(self, model: ModelPlan) -> dict[str, str | None]:
        """Map our tensors of the encoder to SMP's; None: those that timm has without using them."""
        with torch.device("meta"):
            encoder = make_encoder(model)
        assert encoder is not None
        return {
            f"encoder.body.{name}": self.tensors.get(key, None if name in encoder.unused else f"{self.prefix}{name}")
            for key, name in index_names(encoder.body.state_dict()).items()
        }


def find_encoder(source: Source, settings: ImportSettings, depth: int) -> PeerEncoder:
    """Find the model of timm whose tensors fit.

    Args:
        source: SMP's state_dict.
        settings: where the name of a `tu-` encoder is required.
        depth: number of levels of the decoder.

    Raises:
        UsageError: an encoder that cannot be read, another than the user named, or a name that is missing.
    """
    from_timm = any(name.startswith(TIMM) for name in source.tensors)
    prefix, candidates = OWN, next((names for first, names in FAMILIES.items() if OWN + first in source.tensors), ())
    if from_timm:
        prefix, hint = TIMM, "model of timm, such as resnet34: what follows tu- in the name of SMP's encoder"
        given = settings.require("model.encoder", hint)
        settings.require_complete(source.path)
        candidates = (str(given).removeprefix("tu-"),)
    elif not candidates:
        raise UsageError(
            source.path,
            "an encoder of SMP's own without an equivalent in timm",
            "one of resnet*, resnext*, vgg*, se_resnet*, se_resnext*, senet154, efficientnet-b*, timm-efficientnet-*, "
            "or a tu- encoder",
            "It cannot be imported.",
        )
    inside = index_names(name.removeprefix(prefix) for name in source.tensors if name.startswith(prefix))
    tensors = {key: prefix + name for key, name in inside.items()}
    for name in candidates:
        if _fits(name, tensors, source, whole=not from_timm):
            return _describe(name, tensors, source, depth)
    listed = f"one of {', '.join(candidates)}" if len(candidates) > 1 else candidates[0]
    got = f"an encoder whose tensors are not those of {listed}"
    raise UsageError(source.path, got, "another encoder", "Check model.encoder and the file.", setting="model.encoder")


def convert_encoder(
    name: str, weights: Mapping[str, Tensor], in_channels: int, depth: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Convert our encoder to SMP's `tu-` encoder.

    Args:
        name: the model of timm.
        weights: our tensors of the encoder, by timm's names.
        in_channels: number of channels of the image.
        depth: number of levels of the decoder.

    Returns:
        The tensors by SMP's names, and those that SMP has but does not run, which are 0.
    """
    with torch.device("meta"):
        maps = sum(reduction <= 2**depth for reduction in _make_body(name).feature_info.reduction())
        body = import_timm().create_model(
            name, pretrained=False, features_only=True, in_chans=in_channels, out_indices=tuple(range(maps))
        )
    ours, theirs = index_names(weights), body.state_dict()
    names = index_names(theirs)
    state = {TIMM + names[key]: weights[ours[key]].detach().clone() for key in names if key in ours}
    unused = {
        TIMM + name: torch.zeros_like(theirs[name], device="cpu") for key, name in names.items() if key not in ours
    }
    return state, unused


def index_names(names: Iterable[str]) -> dict[str, str]:
    """Index names of tensors by keys that do not depend on how timm wraps a model.

    Keys have no prefix and no punctuation, and count the blocks of an EfficientNet through all stages.
    """
    names = list(names)
    wrapper = next((each for each in ("model.", "body.") if all(name.startswith(each) for name in names)), "")
    keys = [name.removeprefix(wrapper) for name in names]
    blocks = sorted({(int(match[1]), int(match[2])) for key in keys if (match := STAGE_BLOCK.match(key))})
    places = {f"{stage}.{block}": str(number) for number, (stage, block) in enumerate(blocks)}
    expanded = {match[1] for key in keys if (match := re.match(r"_blocks\.(\d+)\._expand_conv", key))}

    def normalize(key: str) -> str:
        counted = STAGE_BLOCK.sub(lambda match: f"blocks.{places[f'{match[1]}.{match[2]}']}.", key)
        return _name_as_timm(counted, expanded).replace(".", "_")

    return {normalize(key): name for key, name in zip(keys, names, strict=True)}


def _name_as_timm(name: str, expanded: set[str]) -> str:
    """Return timm's name of a tensor of SMP's own EfficientNet; any other name as it is."""
    if match := re.match(r"_blocks\.(\d+)\.(\w+)\.(\w+)$", name):
        layers = EXPANDED_LAYERS if match[1] in expanded else FIRST_LAYERS
        return f"blocks.{match[1]}.{layers.get(match[2], match[2])}.{match[3]}"
    return re.sub("^_conv_stem", "conv_stem", re.sub("^_bn0", "bn1", name))


def _describe(name: str, tensors: Mapping[str, str], source: Source, depth: int) -> PeerEncoder:
    first = tensors[_find_first_conv(name)]
    prefix = TIMM if first.startswith(TIMM) else OWN
    cuts = _find_cuts(name) if prefix == OWN and name in (*EFFICIENTNETS, *TIMM_EFFICIENTNETS) else ""
    widths = {level: width for level, width in encoder_shape(name + cuts, depth).widths.items() if level}
    # SMP's own encoders were trained with these, whatever weights timm now has for their equivalents
    mean, std = encoder_statistics(name) if prefix == TIMM else (IMAGENET_MEAN, IMAGENET_STD)
    unused = {f"{prefix}*": "of the encoder, beyond what the network uses"}
    return PeerEncoder(name + cuts, prefix, source.shape(first)[1], widths, mean, std, tensors, unused)


def _find_cuts(name: str) -> str:
    """Return the blocks after which SMP takes the feature maps of an EfficientNet, as they follow a name of timm."""
    ends = [0, *accumulate(len(stage) for stage in _make_body(name).blocks)]
    cuts = [ends[stage] for stage in STAGES_TAKEN]
    if name == EFFICIENTNETS[0]:  # SMP takes one of its feature maps within a stage
        cuts[2] = ends[4] + 1
    return CUT + ",".join(map(str, cuts)) + (f";{CENTERED[name]}" if name in CENTERED else "")


def _fits(name: str, tensors: Mapping[str, str], source: Source, whole: bool) -> bool:
    """Whether names and shapes of tensors are those of a model of timm, but for the channels of the image.

    Args:
        name: the model.
        tensors: key -> SMP's name.
        source: where the tensors are.
        whole: all layers have to be there, as in SMP's own encoders; those of timm have what the decoder needs.
    """
    theirs = {key: source.shape(tensor) for key, tensor in tensors.items() if not re.match(HEADS, key)}
    ours, first = _read_shapes(name), _find_first_conv(name)
    if first not in theirs or not (theirs.keys() == ours.keys() if whole else theirs.keys() <= ours.keys()):
        return False
    return all(shape == ours[key] or (key == first and shape[2:] == ours[key][2:]) for key, shape in theirs.items())


def _read_shapes(name: str) -> dict[str, tuple[int, ...]]:
    weights = _make_body(name).state_dict()
    return {key: tuple(weights[entry].shape) for key, entry in index_names(weights).items()}


def _find_first_conv(name: str) -> str:
    return next((key for key, shape in _read_shapes(name).items() if len(shape) == 4), "")


@functools.cache
def _make_body(name: str) -> Any:
    """Make the feature extractor that SMP takes from timm, without weights."""
    require_known(name)
    try:
        with torch.device("meta"):
            return import_timm().create_model(name, pretrained=False, features_only=True)
    except (RuntimeError, ValueError, AttributeError) as error:
        got = f"{name!r} ({str(error).splitlines()[0]})"
        raise UsageError("model.encoder", got, "a model of timm that gives feature maps, such as resnet34") from None
