"""UnetPlusPlus and Unet of segmentation_models_pytorch (https://github.com/qubvel-org/segmentation_models.pytorch).

SMP's grid starts at half the resolution; above it is one more block without a skip. So there is no X[0, 0], and only
one head.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unetpp.errors import UsageError
from unetpp.json_files import read_json
from unetpp.model.build import make_grid, model_plan
from unetpp.model.network import UNetPlusPlus
from unetpp.model.timm_models import CUT
from unetpp.model.widths import node_width
from unetpp.peers.exporting import PeerModel, find_plan, rename_weights, require_fit
from unetpp.peers.import_settings import ImportSettings, normalize_with
from unetpp.peers.smp_encoders import PeerEncoder, convert_encoder, find_encoder
from unetpp.peers.transfer import Peer, PeerNetwork, Source, name_layers
from unetpp.plan import ModelPlan, Plan

NESTED, PLAIN = "decoder.blocks.x_0_0.conv1.0.weight", "decoder.blocks.0.conv1.0.weight"
INTERPOLATIONS = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}
"""`up` -> SMP's `decoder_interpolation`."""
NORMS: dict[str, Any] = {"batch": True, "none": False, "instance": {"type": "instancenorm", "affine": True}}
"""`norm` -> SMP's `decoder_use_norm`."""
REDUCTION = 16
"""Ratio of channels to hidden channels in SMP's attention."""


def read(source: Source, settings: ImportSettings) -> PeerNetwork:
    """Read both networks.

    The timm model of a `tu-` encoder is required, and intensities for images without three channels. Nearest
    up-sampling and the intensities of the encoder's training are assumed.
    """
    config = _read_config(source.path)
    if str(config.get("encoder_name", "")).startswith("tu-"):
        settings.given.setdefault("model.encoder", config["encoder_name"].removeprefix("tu-"))
    nested = source.has(NESTED)
    block = "decoder.blocks.x_0_{}" if nested else "decoder.blocks.{}"  # the outermost of each row
    depth = next(row for row in count() if not source.has(f"{block.format(row)}.conv1.0.weight"))
    encoder = find_encoder(source, settings, depth)
    reason = "SMP's default decoder_interpolation (linear: bilinear, cubic: bicubic; nearest: area, nearest-exact too)"
    ways = {theirs: ours for ours, theirs in INTERPOLATIONS.items()}
    if "decoder_interpolation" in config:
        settings.given.setdefault("model.up", ways.get(config["decoder_interpolation"], "nearest"))
    up = settings.get("model.up", "nearest", reason, tuple(INTERPOLATIONS))
    if not nested and source.has("decoder.center.0.0.weight"):
        raise UsageError(
            source.path, "a Unet with a block in its center, as with SMP's own VGG encoders", "one without"
        )
    outer = [source.shape(f"{block.format(depth - 1 - level)}.conv2.0.weight")[0] for level in range(depth)]
    first = block.format(0)
    model = _make_model(
        [encoder.widths.get(level, outer[min(level, depth - 1)]) for level in range(depth + 1)],
        outer,
        topology="unet++" if nested else "unet",
        in_channels=encoder.in_channels,
        out_channels=source.shape("segmentation_head.0.weight")[0],
        norm=_read_norm(source, f"{first}.conv1"),
        attention="scse" if source.has(f"{first}.attention1.attention.sSE.0.weight") else "none",
        up=up,
        encoder=encoder.name,
    )
    _require_attention(model, str(source.path))
    unused = {
        **encoder.unused,
        "classification_head.*": "the head for whole images",
        "decoder.center.*": "SMP never runs it in UnetPlusPlus",
        f"{_name_block(model, 0, depth)}.attention1.*": "SMP never runs it in a block without a skip",
    }
    title = f"{'UnetPlusPlus' if nested else 'Unet'} of segmentation_models_pytorch"
    names = encoder.name_tensors(model) | _name_layers(model, affine=source.has(f"{first}.conv1.1.weight"))
    data, sigmoids = _read_data(encoder, settings), config.get("activation") == "sigmoid"
    return PeerNetwork(title, model, names, unused, sigmoids=sigmoids, data=data)


PEER = Peer("smp", (NESTED, PLAIN), read)


def to_smp(network: UNetPlusPlus, plan: Plan | ModelPlan | None = None) -> PeerModel:
    """Convert a network to UnetPlusPlus or Unet of segmentation_models_pytorch, with an encoder of timm ("tu-").

    >>> peer = to_smp(predictor.network)
    >>> net = segmentation_models_pytorch.UnetPlusPlus(**peer.arguments)
    >>> net.load_state_dict(peer.state_dict)

    Args:
        network: a network of `build_model`, or of `load`.
        plan: its plan; None: the settings with which it was built.

    Raises:
        UsageError: the class cannot represent this network; every field that does not fit is named.
    """
    model = find_plan(network, plan)
    name = "Unet" if model.topology == "unet" else "UnetPlusPlus"
    if network.encoder is None or model.encoder is None or CUT in model.encoder or not 3 <= model.depth <= 5:
        raise UsageError(
            "plan",
            f"model.encoder {model.encoder!r} and model.depth {model.depth}",
            f"a whole model of timm, and 3 to 5, as in SMP's {name}",
            "Train one with these fields set, or export to ONNX.",
        )
    outer = [node_width(model, (level, model.depth - level)) for level in range(model.depth)]
    require_fit(model, _make_nearest(model, outer), f"SMP's {name}")
    _require_attention(model, "plan")
    if model.attention == "scse" and min(outer) < REDUCTION:
        got = f"nodes of {min(outer)} channels with model.attention scse"
        expected = f"{REDUCTION} or more: SMP's attention has a {REDUCTION}th of them as hidden channels"
        raise UsageError("plan", got, expected)
    encoder, unused = convert_encoder(model.encoder, network.encoder.body.state_dict(), model.in_channels, model.depth)
    unused |= _make_unused_attention(model, outer[1])
    arguments = {
        "encoder_name": f"tu-{model.encoder}",
        "encoder_depth": model.depth,
        "encoder_weights": None,
        "decoder_use_norm": NORMS[model.norm],
        "decoder_channels": tuple(reversed(outer)),
        "decoder_attention_type": None if model.attention == "none" else "scse",
        "decoder_interpolation": INTERPOLATIONS[model.up],
        "in_channels": model.in_channels,
        "classes": model.out_channels,
    }
    state = encoder | rename_weights(network.state_dict(), _name_layers(model)) | unused
    return PeerModel(f"segmentation_models_pytorch.{name}", arguments, state, tuple(unused))


def _read_config(checkpoint: Path) -> dict[str, Any]:
    """Read the arguments of the network that SMP's `save_pretrained` wrote beside it; nothing without them."""
    try:
        found = read_json(checkpoint.parent / "config.json")
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and "encoder_name" in found else {}


def _read_data(encoder: PeerEncoder, settings: ImportSettings) -> dict[str, Any]:
    if encoder.in_channels != 3:
        settings.require_normalization(encoder.in_channels)
        return {}
    reason = "those of the encoder's training on 8 bit images in 0..255, as in SMP's get_preprocessing_fn"
    normalization = normalize_with([255 * mean for mean in encoder.mean], [255 * std for std in encoder.std])
    return {"data.normalization": settings.get("data.normalization", normalization, reason)}


def _require_attention(model: ModelPlan, where: str) -> None:
    """Above the first level of its encoder, SMP's nodes have attention to empty skips, which ours lack."""
    if model.attention == "scse" and make_grid(model).first_encoder_level > 1:
        got = f"scSE attention with {model.encoder}, which begins at a quarter of the image"
        raise UsageError(where, got, "an encoder that begins at half of it, or no attention")


def _make_nearest(model: ModelPlan, outer: Sequence[int]) -> ModelPlan:
    """Return SMP's network with our values of all that can be chosen there."""
    norm = model.nested_norm or model.norm
    return _make_model(
        model.widths,
        outer,
        topology="unet" if model.topology == "unet" else "unet++",
        norm=norm if norm in NORMS else "batch",
        up=model.up if model.up in INTERPOLATIONS else "nearest",
        **model.model_dump(include={"in_channels", "out_channels", "attention", "encoder"}),
    )


def _make_model(widths: Sequence[int], outer: Sequence[int], **fields: Any) -> ModelPlan:
    """Return SMP's network.

    Args:
        widths: channels of each level.
        outer: channels of the outermost node of each level but the deepest.
        fields: the other fields that can be chosen.
    """
    depth = len(outer)
    return model_plan(
        block="plain",
        depth=depth,
        widths=widths,
        nested_widths=widths[:-1],
        node_widths={f"{level}_{depth - level}": width for level, width in enumerate(outer)},
        activation="relu",
        concat="up_skips_reversed",
        deep_supervision=False,
        head_kernel=3,
        stem=False,
        **fields,
    )


def _make_unused_attention(model: ModelPlan, channels: int) -> dict[str, Tensor]:
    """Return the attention that SMP makes but never runs in the block without a skip."""
    if model.attention == "none":
        return {}
    hidden, block = channels // REDUCTION, _name_block(model, 0, model.depth)
    layers = {"cSE.1": (hidden, channels), "cSE.3": (channels, hidden), "sSE.0": (1, channels)}
    return {
        f"{block}.attention1.attention.{layer}.{last}": torch.zeros(shape)
        for layer, (out, received) in layers.items()
        for last, shape in {"weight": (out, received, 1, 1), "bias": (out,)}.items()
    }


def _name_layers(model: ModelPlan, affine: bool = True) -> dict[str, str | None]:
    """Map our layers of decoder and head to SMP's.

    Attention comes before and after the convolutions of a node; on level 0, which has no skips, only after.
    """
    names = name_layers(model, partial(_units, model), "segmentation_head.0".format, affine=affine)
    layers = {"channel.0": "cSE.1", "channel.2": "cSE.3", "place.0": "sSE.0"}
    attention = {
        f"nodes.x_{i}_{j}.units.{unit}.{ours}": f"{_name_block(model, i, j)}.attention{number}.attention.{theirs}"
        for i, j in make_grid(model).nodes()
        for unit, number in enumerate((1, 2, 2))
        for ours, theirs in layers.items()
    }
    return names | attention


def _units(model: ModelPlan, level: int, column: int) -> list[tuple[str, str]]:
    block = _name_block(model, level, column)
    return [(f"{block}.conv{n}.0", f"{block}.conv{n}.1") for n in (1, 2)]


def _name_block(model: ModelPlan, level: int, column: int) -> str:
    """SMP counts blocks from the deepest level, and columns from the right."""
    row = model.depth - 1 - level
    return f"decoder.blocks.x_{row + 1 - column}_{row}" if model.topology == "unet++" else f"decoder.blocks.{row}"


def _read_norm(source: Source, conv: str) -> str:
    """SMP's layernorm does not run; its instancenorm has weights only with affine=True."""
    if source.has(f"{conv}.1.running_mean"):
        return "batch"
    return "none" if source.has(f"{conv}.0.bias") else "instance"
