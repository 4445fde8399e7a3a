"""BasicUNetPlusPlus and BasicUNet of MONAI (https://github.com/Project-MONAI/MONAI), in 2D and 3D."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from unetpp.errors import UsageError
from unetpp.model.build import make_grid, model_plan, node_width
from unetpp.model.grid import Node
from unetpp.model.network import UNetPlusPlus
from unetpp.peers.answers import Answers, normalization_hint
from unetpp.peers.exporting import PeerModel, renamed, require_fit
from unetpp.peers.transfer import Peer, PeerNetwork, Source, node_names
from unetpp.plan import ModelPlan, Plan

DEPTH = 4
UPS = {"transposed": "deconv", "pixel_shuffle": "pixelshuffle.conv_block", "linear": "preconv"}
"""Our kinds of up-sampling, and the layer that MONAI has for each."""
NORMS = {
    "instance": ("instance", {"affine": True}),
    "batch": "batch",
    "layer": ("group", {"num_groups": 1}),
    "none": None,
}
"""Our norms, and what MONAI takes for them."""
NESTED, PLAIN = "upcat_0_4.convs.conv_0.conv.weight", "upcat_1.convs.conv_0.conv.weight"


def read(source: Source, answers: Answers) -> PeerNetwork:
    """Both networks. Asked: the intensities; by default: instance norm, LeakyReLU 0.1, no deep supervision."""
    nested = source.has(NESTED)
    first = "conv_0_0.conv_0" if nested else "conv_0.conv_0"
    norm, groups = _norm(source, answers, first)
    activation = answers.default("model.activation", "leaky_relu", "MONAI's default act")
    slope = answers.default("model.leaky_slope", 0.1, "MONAI's default act") if activation == "leaky_relu" else 0.01
    reason = (
        "MONAI's default deep_supervision=False, with which the other heads are not trained; true: all heads are kept"
    )
    deep_supervision = answers.default("model.deep_supervision", False, reason) if nested else False
    in_channels = source.shape(f"{first}.conv.weight")[1]
    answers.need("data.normalization", normalization_hint(in_channels))
    answers.settle(str(source.path))
    fields = {
        "norm": norm,
        "norm_groups": groups,
        "activation": activation,
        "leaky_slope": slope,
        "deep_supervision": deep_supervision,
    }
    model = _model(source, nested, first, fields)
    unused = {} if deep_supervision else {"final_conv_0_[123].*": "heads that are not trained without deep supervision"}
    title = "BasicUNetPlusPlus of MONAI" if nested else "BasicUNet of MONAI"
    return PeerNetwork(title, model, dict(names(model, affine=source.has(f"{first}.adn.N.weight"))), unused)


PEER = Peer("monai", (NESTED, PLAIN), read)


def to_monai(network: UNetPlusPlus, plan: Plan) -> PeerModel:
    """The network as MONAI's BasicUNetPlusPlus or BasicUNet.

    >>> peer = to_monai(predictor.network, predictor.plan)
    >>> net = monai.networks.nets.BasicUNetPlusPlus(**peer.arguments)
    >>> net.load_state_dict(peer.state_dict)

    Raises:
        UsageError: the class cannot be this network; every field that does not fit is named.
    """
    model = plan.model
    nested = model.topology != "unet"
    name = "BasicUNetPlusPlus" if nested else "BasicUNet"
    require_fit(model, _nearest(model, nested), f"MONAI's {name}")
    state = renamed(network.state_dict(), dict(names(model)))
    missing = [d for d in range(1, DEPTH) if f"final_conv_0_{d}.weight" not in state] if nested else []
    for depth in missing:
        state[f"final_conv_0_{depth}.weight"] = torch.zeros(model.out_channels, model.widths[0], *(1,) * model.dims)
        state[f"final_conv_0_{depth}.bias"] = torch.zeros(model.out_channels)
    arguments = {
        "spatial_dims": model.dims,
        "in_channels": model.in_channels,
        "out_channels": model.out_channels,
        "features": (*model.widths, node_width(model, (0, DEPTH))),
        "act": ("leakyrelu", {"negative_slope": model.leaky_slope, "inplace": True})
        if model.activation == "leaky_relu"
        else model.activation,
        "norm": NORMS[model.norm] if model.norm != "group" else ("group", {"num_groups": model.norm_groups}),
        "bias": model.norm == "none" if model.conv_bias is None else model.conv_bias,
        "upsample": {"transposed": "deconv", "pixel_shuffle": "pixelshuffle", "linear": "nontrainable"}[model.up],
    }
    arguments |= {"deep_supervision": model.deep_supervision} if nested else {}
    unused = tuple(f"final_conv_0_{depth}.{last}" for depth in missing for last in ("weight", "bias"))
    return PeerModel(f"monai.networks.nets.{name}", arguments, state, unused)


def _nearest(model: ModelPlan, nested: bool) -> ModelPlan:
    """MONAI's network that has what can be chosen there as ours has it."""
    widths = [*model.widths, *[model.widths[-1]] * DEPTH][: DEPTH + 1]
    up = model.up if model.up in UPS else "transposed"
    return model_plan(
        block="plain",
        topology="unet++" if nested else "unet",
        dims=model.dims,
        in_channels=model.in_channels,
        out_channels=model.out_channels,
        depth=DEPTH,
        widths=widths,
        node_widths={f"0_{DEPTH}": node_width(model, (0, model.depth))},
        norm=model.norm if model.norm in NORMS or model.norm_groups else "instance",
        norm_groups=model.norm_groups,
        activation=model.activation if model.activation in ("relu", "leaky_relu", "gelu") else "leaky_relu",
        leaky_slope=model.leaky_slope,
        conv_bias=model.norm == "none" if model.conv_bias is None else model.conv_bias,
        odd_sizes="floor",
        up=up,
        up_widths=[widths[1], *(width // 2 for width in widths[2:])],
        up_projection=up == "linear",
        align_corners=True,
        deep_supervision=model.deep_supervision,
    )


def names(model: ModelPlan, affine: bool = True) -> Iterator[tuple[str, str | None]]:
    """Our layers, and MONAI's."""
    for node in make_grid(model).nodes():
        block = _block(model, node)
        convs = f"{block}.convs" if sum(node) else block
        yield from node_names(
            model,
            node,
            [f"{convs}.conv_{n}.conv" for n in range(2)],
            [f"{convs}.conv_{n}.adn.N" if affine else None for n in range(2)],
        )
        if node[1]:
            part = {"transposed": "", "pixel_shuffle": ".conv", "linear": ".0"}[model.up]
            yield f"ups.x_{node[0]}_{node[1]}{part}", f"{block}.upsample.{UPS[model.up]}"
    for depth in make_grid(model).head_depths(model.deep_supervision):
        yield f"heads.{depth}", f"final_conv_0_{depth}" if model.topology == "unet++" else "final_conv"


def _block(model: ModelPlan, node: Node) -> str:
    level, column = node
    if model.topology == "unet++":
        return f"upcat_{level}_{column}" if column else f"conv_{level}_0"
    return f"upcat_{level + 1}" if column else f"down_{level}" if level else "conv_0"


def _norm(source: Source, answers: Answers, first: str) -> tuple[str, int | None]:
    if source.has(f"{first}.adn.N.running_mean"):
        return "batch", None
    if source.has(f"{first}.adn.N.weight"):
        norm = answers.default(
            "model.norm", "instance", "MONAI's default norm; a group norm has the same tensors", ("instance", "group")
        )
    else:
        norm = answers.need(
            "model.norm", "instance or none: an instance norm without affine=True has no tensors", ("instance", "none")
        )
    return norm, answers.need("model.norm_groups", "num_groups of the norm") if norm == "group" else None


def _model(source: Source, nested: bool, first: str, fields: dict[str, Any]) -> ModelPlan:
    conv = source.shape(f"{first}.conv.weight")
    dims = len(conv) - 2
    if dims not in (2, 3):
        raise UsageError(f"{source.path}: got a network in {dims}D; expected 2D or 3D.")
    below = "conv_{}_0.convs" if nested else "down_{}.convs"
    widths = [conv[0], *(source.shape(f"{below.format(level)}.conv_0.conv.weight")[0] for level in range(1, DEPTH + 1))]
    last = source.shape(f"{'upcat_0_4' if nested else 'upcat_1'}.convs.conv_0.conv.weight")[0]
    middle = "upcat_1_1" if nested else "upcat_2"
    up = next((kind for kind, layer in UPS.items() if source.has(f"{middle}.upsample.{layer}.weight")), "linear")
    head = source.shape(f"{'final_conv_0_4' if nested else 'final_conv'}.weight")
    return model_plan(
        block="plain",
        topology="unet++" if nested else "unet",
        dims=dims,
        in_channels=conv[1],
        out_channels=head[0],
        depth=DEPTH,
        widths=widths,
        node_widths={f"0_{DEPTH}": last},
        conv_bias=source.has(f"{first}.conv.bias"),
        odd_sizes="floor",
        up=up,
        up_widths=[widths[1], *(width // 2 for width in widths[2:])],
        up_projection=up == "linear",
        align_corners=True,
        **fields,
    )
