"""BasicUNetPlusPlus and BasicUNet of MONAI (https://github.com/Project-MONAI/MONAI), in 2D and 3D."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from unetpp.errors import UsageError
from unetpp.model.build import model_plan
from unetpp.model.network import UNetPlusPlus
from unetpp.model.widths import node_width
from unetpp.peers.exporting import PeerModel, find_plan, rename_weights, require_fit
from unetpp.peers.import_settings import ImportSettings
from unetpp.peers.transfer import Peer, PeerNetwork, Source, name_layers
from unetpp.plan import ModelPlan, Plan

DEPTH = 4
UPS = {
    "transposed": ("deconv", "deconv"),
    "pixel_shuffle": ("pixelshuffle", "pixelshuffle.conv_block"),
    "linear": ("nontrainable", "preconv"),
}
"""`up` -> MONAI's `upsample`, and its layer with weights."""
NORMS = {
    "instance": ("instance", {"affine": True}),
    "batch": "batch",
    "layer": ("group", {"num_groups": 1}),
    "none": None,
}
"""`norm` -> MONAI's."""
NESTED, PLAIN = "upcat_0_4.convs.conv_0.conv.weight", "upcat_1.convs.conv_0.conv.weight"


def read(source: Source, settings: ImportSettings) -> PeerNetwork:
    """Read both networks.

    Intensities are required. Instance normalization, LeakyReLU with slope 0.1 and no deep supervision are assumed.
    """
    nested = source.has(NESTED)
    first = "conv_0_0.conv_0" if nested else "conv_0.conv_0"
    norm = _read_norm(source, settings, first)
    activation = settings.get("model.activation", "leaky_relu", "MONAI's default act")
    leaky = activation == "leaky_relu"
    reason = "MONAI's default deep_supervision=False, which does not train the other heads; true: keep all heads"
    deep_supervision = nested and settings.get("model.deep_supervision", False, reason)
    conv = source.shape(f"{first}.conv.weight")
    dims = len(conv) - 2
    if dims not in (2, 3):
        raise UsageError(source.path, f"a network in {dims}D", "2D or 3D")
    ups = (up for up, (_, layer) in UPS.items() if source.has(f"{_name_up(nested, layer, 1, 3)}.weight"))
    model = _make_model(
        [source.shape(f"{_units(nested, level, 0)[0][0]}.weight")[0] for level in range(DEPTH + 1)],
        last=source.shape(NESTED if nested else PLAIN)[0],
        up=next(ups, "linear"),
        topology="unet++" if nested else "unet",
        dims=dims,
        in_channels=conv[1],
        out_channels=source.shape(f"{_name_head(nested, DEPTH)}.weight")[0],
        activation=activation,
        leaky_slope=settings.get("model.leaky_slope", 0.1, "MONAI's default act") if leaky else 0.01,
        conv_bias=source.has(f"{first}.conv.bias"),
        deep_supervision=deep_supervision,
        **norm,
    )
    settings.require_normalization(model.in_channels)
    unused = {} if deep_supervision else {"final_conv_0_[123].*": "heads that are not trained without deep supervision"}
    title = "BasicUNetPlusPlus of MONAI" if nested else "BasicUNet of MONAI"
    return PeerNetwork(title, model, _name_layers(model, affine=source.has(f"{first}.adn.N.weight")), unused)


PEER = Peer("monai", (NESTED, PLAIN), read)


def to_monai(network: UNetPlusPlus, plan: Plan | ModelPlan | None = None) -> PeerModel:
    """Convert a network to MONAI's BasicUNetPlusPlus or BasicUNet.

    >>> peer = to_monai(predictor.network)
    >>> net = monai.networks.nets.BasicUNetPlusPlus(**peer.arguments)
    >>> net.load_state_dict(peer.state_dict)

    Args:
        network: a network of `build_model`, or of `load`.
        plan: its plan; None: the settings with which it was built.

    Raises:
        UsageError: the class cannot represent this network; every field that does not fit is named.
    """
    model = find_plan(network, plan)
    nested = model.topology != "unet"
    name = "BasicUNetPlusPlus" if nested else "BasicUNet"
    require_fit(model, _make_nearest(model), f"MONAI's {name}")
    state = rename_weights(network.state_dict(), _name_layers(model))
    shapes = {"weight": (model.out_channels, model.widths[0], *(1,) * model.dims), "bias": (model.out_channels,)}
    heads = [f"{_name_head(nested, depth)}.{last}" for depth in range(1, DEPTH) for last in shapes] if nested else []
    unused = {head: torch.zeros(shapes[head.rpartition(".")[2]]) for head in heads if head not in state}
    arguments = {
        "spatial_dims": model.dims,
        "in_channels": model.in_channels,
        "out_channels": model.out_channels,
        "features": (*model.widths, node_width(model, (0, DEPTH))),
        "act": model.activation,
        "norm": NORMS.get(model.norm, ("group", {"num_groups": model.norm_groups})),
        "bias": model.norm == "none" if model.conv_bias is None else model.conv_bias,
        "upsample": UPS[model.up][0],
    }
    if model.activation == "leaky_relu":
        arguments["act"] = ("leakyrelu", {"negative_slope": model.leaky_slope, "inplace": True})
    if nested:
        arguments["deep_supervision"] = model.deep_supervision
    return PeerModel(f"monai.networks.nets.{name}", arguments, state | unused, tuple(unused))


def _make_nearest(model: ModelPlan) -> ModelPlan:
    """Return MONAI's network with our values of all that can be chosen there."""
    same = {"dims", "in_channels", "out_channels", "norm_groups", "leaky_slope", "conv_bias", "deep_supervision"}
    return _make_model(
        [*model.widths, *[model.widths[-1]] * DEPTH][: DEPTH + 1],
        last=node_width(model, (0, model.depth)),
        up=model.up if model.up in UPS else "transposed",
        topology="unet" if model.topology == "unet" else "unet++",
        norm=model.norm if model.norm in NORMS or model.norm_groups else "instance",
        activation=model.activation if model.activation in ("relu", "leaky_relu", "gelu") else "leaky_relu",
        **model.model_dump(include=same),
    )


def _make_model(widths: Sequence[int], last: int, up: str, **fields: Any) -> ModelPlan:
    """Return MONAI's network.

    Args:
        widths: channels of each level.
        last: channels of the outermost node X[0, 4].
        up: kind of up-sampling.
        fields: the other fields that can be chosen.
    """
    return model_plan(
        block="plain",
        depth=DEPTH,
        widths=widths,
        node_widths={f"0_{DEPTH}": last},
        odd_sizes="floor",
        up=up,
        up_widths=[widths[1], *(width // 2 for width in widths[2:])],
        up_projection=up == "linear",
        align_corners=True,
        **fields,
    )


def _name_layers(model: ModelPlan, affine: bool = True) -> dict[str, str | None]:
    nested = model.topology == "unet++"
    up = partial(_name_up, nested, UPS[model.up][1])
    return name_layers(model, partial(_units, nested), partial(_name_head, nested), up, affine)


def _name_head(nested: bool, depth: int) -> str:
    return f"final_conv_0_{depth}" if nested else "final_conv"


def _name_up(nested: bool, layer: str, level: int, column: int) -> str:
    return f"{_name_block(nested, level, column)}.upsample.{layer}"


def _units(nested: bool, level: int, column: int) -> list[tuple[str, str]]:
    convs = _name_block(nested, level, column) + (".convs" if level or column else "")
    return [(f"{convs}.conv_{n}.conv", f"{convs}.conv_{n}.adn.N") for n in (0, 1)]


def _name_block(nested: bool, level: int, column: int) -> str:
    if nested:
        return f"upcat_{level}_{column}" if column else f"conv_{level}_0"
    return f"upcat_{level + 1}" if column else f"down_{level}" if level else "conv_0"


def _read_norm(source: Source, settings: ImportSettings, first: str) -> dict[str, Any]:
    if source.has(f"{first}.adn.N.running_mean"):
        return {"norm": "batch"}
    if source.has(f"{first}.adn.N.weight"):
        reason = "MONAI's default norm; a group norm has the same tensors"
        norm = settings.get("model.norm", "instance", reason, ("instance", "group"))
    else:
        hint = "instance or none: an instance norm without affine=True has no tensors"
        norm = settings.require("model.norm", hint, ("instance", "none"))
    groups = settings.require("model.norm_groups", "num_groups of the norm") if norm == "group" else None
    return {"norm": norm, "norm_groups": groups}
