"""UnetPlusPlus and Unet of segmentation_models_pytorch (https://github.com/qubvel-org/segmentation_models.pytorch).

SMP's grid starts at half the resolution: above it is one more block without a skip. So there is no X[0, 0], and one head.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import torch

from unetpp.errors import UsageError
from unetpp.model.build import make_grid, model_plan, node_width
from unetpp.model.grid import Node
from unetpp.model.network import UNetPlusPlus
from unetpp.model.timm_models import CUT
from unetpp.peers.answers import Answers, normalization_hint, scaled
from unetpp.peers.exporting import PeerModel, renamed, require_fit
from unetpp.peers.smp_encoders import PeerEncoder, encoder_weights, find_encoder
from unetpp.peers.transfer import Peer, PeerNetwork, Source, node_names
from unetpp.plan import ModelPlan, Plan

NESTED, PLAIN = "decoder.blocks.x_0_0.conv1.0.weight", "decoder.blocks.0.conv1.0.weight"

REDUCTION = 16
"""Channels for each hidden one of SMP's attention."""


def read(source: Source, answers: Answers) -> PeerNetwork:
    """Both networks. Asked: the timm model of a `tu-` encoder; by default: nearest up-sampling, the intensities of the encoder's own training."""
    nested = source.has(NESTED)
    depth = _depth(source, nested)
    encoder = find_encoder(source, answers, depth)
    hint = "SMP's default decoder_interpolation; linear: bilinear, cubic: bicubic; its area and nearest-exact are the same as nearest"
    up = answers.default("model.up", "nearest", hint, ("nearest", "linear", "cubic"))
    data: dict[str, Any] = {}
    if encoder and encoder.in_channels == 3:
        reason = (
            "those of the encoder's own training, of 8 bit images in 0..255, as SMP's get_preprocessing_fn has them"
        )
        data["data.normalization"] = answers.default(
            "data.normalization", scaled([255 * x for x in encoder.mean], [255 * x for x in encoder.std]), reason
        )
    elif encoder:
        answers.need("data.normalization", normalization_hint(encoder.in_channels))
    answers.settle(str(source.path))
    assert encoder is not None
    if not nested and source.has("decoder.center.0.0.weight"):
        raise UsageError(
            f"{source.path}: got a Unet with a block in its center, as SMP's own VGG encoders have it; expected one without. This network has no place for it."
        )
    model = _model(source, nested, depth, encoder, up)
    _require_attention(model, str(source.path))
    unused = {
        **encoder.unused,
        "classification_head.*": "the head for whole images",
        "decoder.center.*": "SMP never runs it in UnetPlusPlus",
        f"{_block(model, (0, depth))}.attention1.*": "SMP never runs it in a block without a skip",
    }
    title = f"{'UnetPlusPlus' if nested else 'Unet'} of segmentation_models_pytorch"
    return PeerNetwork(
        title, model, {**encoder.names(model), **dict(names(model, affine=_affine(source, nested)))}, unused, data=data
    )


PEER = Peer("smp", (NESTED, PLAIN), read)


def to_smp(network: UNetPlusPlus, plan: Plan) -> PeerModel:
    """The network as UnetPlusPlus or Unet of segmentation_models_pytorch, whose encoder is then timm's ("tu-").

    >>> peer = to_smp(predictor.network, predictor.plan)
    >>> net = segmentation_models_pytorch.UnetPlusPlus(**peer.arguments)
    >>> net.load_state_dict(peer.state_dict)

    Raises:
        UsageError: the class cannot be this network; every field that does not fit is named.
    """
    model = plan.model
    name = "Unet" if model.topology == "unet" else "UnetPlusPlus"
    if network.encoder is None or model.encoder is None or CUT in model.encoder or not 3 <= model.depth <= 5:
        expected = f"a whole model of timm, and 3 to 5, as SMP's {name} has no other"
        raise UsageError(
            f"plan: got model.encoder {model.encoder!r} and model.depth {model.depth}; expected {expected}. Train one with these fields set, or export to ONNX."
        )
    require_fit(model, _nearest(model), f"SMP's {name}")
    _require_attention(model, "plan")
    outer = [node_width(model, (level, model.depth - level)) for level in reversed(range(model.depth))]
    if model.attention == "scse" and min(outer) < REDUCTION:
        raise UsageError(
            f"plan: got nodes of {min(outer)} channels beside model.attention scse; expected {REDUCTION} or more, as SMP's attention has a {REDUCTION}th of them hidden."
        )
    encoder, dead = encoder_weights(model.encoder, network.encoder.body.state_dict(), model.in_channels, model.depth)
    state = {**encoder, **renamed(network.state_dict(), dict(names(model)))}
    unused = [*dead]
    if model.attention == "scse":
        for layer, shape in _dead_attention(_block(model, (0, model.depth)), outer[-2]).items():
            state[layer] = torch.zeros(shape)
            unused.append(layer)
    arguments = {
        "encoder_name": f"tu-{model.encoder}",
        "encoder_depth": model.depth,
        "encoder_weights": None,
        "decoder_use_norm": {"batch": True, "none": False}.get(model.norm, {"type": "instancenorm", "affine": True}),
        "decoder_channels": tuple(outer),
        "decoder_attention_type": None if model.attention == "none" else "scse",
        "decoder_interpolation": {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}[model.up],
        "in_channels": model.in_channels,
        "classes": model.out_channels,
    }
    return PeerModel(f"segmentation_models_pytorch.{name}", arguments, state, tuple(unused))


def _require_attention(model: ModelPlan, where: str) -> None:
    """Above the first level of an encoder SMP has nodes with attention to skips that are empty; ours have none there."""
    if model.attention == "scse" and make_grid(model).first_encoder_level > 1:
        raise UsageError(
            f"{where}: got scSE attention beside {model.encoder}, which begins at a quarter of the image; expected an encoder that begins at half of it, or no attention."
        )


def _nearest(model: ModelPlan) -> ModelPlan:
    """SMP's network that has what can be chosen there as ours has it."""
    norm = model.nested_norm or model.norm
    return model_plan(
        block="plain",
        topology="unet" if model.topology == "unet" else "unet++",
        in_channels=model.in_channels,
        out_channels=model.out_channels,
        depth=model.depth,
        widths=model.widths,
        nested_widths=model.widths[:-1],
        node_widths={
            f"{level}_{model.depth - level}": node_width(model, (level, model.depth - level))
            for level in range(model.depth)
        },
        norm=norm if norm in ("batch", "none", "instance") else "batch",
        activation="relu",
        attention=model.attention,
        up=model.up if model.up in ("nearest", "linear", "cubic") else "nearest",
        concat="up_skips_reversed",
        deep_supervision=False,
        head_kernel=3,
        encoder=model.encoder,
        stem=False,
    )


def _dead_attention(block: str, channels: int) -> dict[str, tuple[int, ...]]:
    """The attention that SMP makes but never runs in the block without a skip."""
    hidden, place = channels // REDUCTION, f"{block}.attention1.attention"
    squeezed = {f"{place}.cSE.1.weight": (hidden, channels, 1, 1), f"{place}.cSE.1.bias": (hidden,)}
    expanded = {f"{place}.cSE.3.weight": (channels, hidden, 1, 1), f"{place}.cSE.3.bias": (channels,)}
    return {**squeezed, **expanded, f"{place}.sSE.0.weight": (1, channels, 1, 1), f"{place}.sSE.0.bias": (1,)}


def names(model: ModelPlan, affine: bool = True) -> Iterator[tuple[str, str | None]]:
    """Our layers of decoder and head, and SMP's."""
    for node in make_grid(model).needed((model.depth,)):
        if node[1]:
            block = _block(model, node)
            yield from node_names(
                model,
                node,
                [f"{block}.conv{n}.0" for n in (1, 2)],
                [f"{block}.conv{n}.1" if affine else None for n in (1, 2)],
            )
            yield from _attention_names(model, node, block)
    yield f"heads.{model.depth}", "segmentation_head.0"


def _attention_names(model: ModelPlan, node: Node, block: str) -> Iterator[tuple[str, str]]:
    if model.attention == "none":
        return
    ours = f"nodes.x_{node[0]}_{node[1]}.units"
    places = (
        {f"{ours}.0": f"{block}.attention1", f"{ours}.2": f"{block}.attention2"}
        if node[0]
        else {f"{ours}.1": f"{block}.attention2"}
    )
    for mine, theirs in places.items():
        yield from [
            (f"{mine}.channel.0", f"{theirs}.attention.cSE.1"),
            (f"{mine}.channel.2", f"{theirs}.attention.cSE.3"),
            (f"{mine}.place.0", f"{theirs}.attention.sSE.0"),
        ]


def _block(model: ModelPlan, node: Node) -> str:
    """SMP counts blocks from the deepest level, and columns from the right."""
    row = model.depth - 1 - node[0]
    return f"decoder.blocks.x_{row + 1 - node[1]}_{row}" if model.topology == "unet++" else f"decoder.blocks.{row}"


def _first(nested: bool, row: int) -> str:
    """The outermost block of a row."""
    return f"decoder.blocks.x_0_{row}" if nested else f"decoder.blocks.{row}"


def _depth(source: Source, nested: bool) -> int:
    return next(row for row in count() if not source.has(f"{_first(nested, row)}.conv1.0.weight"))


def _affine(source: Source, nested: bool) -> bool:
    return source.has(f"{_first(nested, 0)}.conv1.1.weight")


def _norm(source: Source, nested: bool) -> str:
    """Its layernorm does not run; its instancenorm has no weights unless it is told affine=True."""
    first = f"{_first(nested, 0)}.conv1"
    if source.has(f"{first}.1.running_mean"):
        return "batch"
    return "none" if source.has(f"{first}.0.bias") else "instance"


def _model(source: Source, nested: bool, depth: int, encoder: PeerEncoder, up: str) -> ModelPlan:
    outer = [source.shape(f"{_first(nested, depth - 1 - level)}.conv2.0.weight")[0] for level in range(depth)]
    widths = [encoder.widths.get(level, outer[min(level, depth - 1)]) for level in range(depth + 1)]
    return model_plan(
        block="plain",
        topology="unet++" if nested else "unet",
        in_channels=encoder.in_channels,
        out_channels=source.shape("segmentation_head.0.weight")[0],
        depth=depth,
        widths=widths,
        nested_widths=widths[:-1],
        node_widths={f"{level}_{depth - level}": width for level, width in enumerate(outer)},
        norm=_norm(source, nested),
        activation="relu",
        attention="scse" if source.has(f"{_first(nested, 0)}.attention1.attention.sSE.0.weight") else "none",
        up=up,
        concat="up_skips_reversed",
        deep_supervision=False,
        head_kernel=3,
        encoder=encoder.name,
        stem=False,
    )
