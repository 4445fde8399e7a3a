"""Conversion of our networks to a peer's: whether one fits, and its tensors by the peer's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from unetpp.errors import UsageError
from unetpp.model.grid import Grid
from unetpp.model.network import UNetPlusPlus
from unetpp.model.resampling import INTERPOLATION
from unetpp.model.widths import node_width
from unetpp.plan import ModelPlan, Plan
from unetpp.words import shorten

WITHOUT_EFFECT = ("preset", "dropout", "encoder_weights", "divisor", "node_widths", "nested_widths")
"""Fields that do not change the output of a trained network, or that `widths` in `_effective_fields` stands for."""


class PeerModel(NamedTuple):
    """A network of ours as a peer's: `constructor(**arguments).load_state_dict(state_dict)`."""

    constructor: str
    """Name of the class, such as monai.networks.nets.BasicUNetPlusPlus."""
    arguments: dict[str, Any]
    """Keyword arguments of the class."""
    state_dict: dict[str, Tensor]
    """Tensors for a strict `load_state_dict`."""
    unused: tuple[str, ...]
    """Names of tensors that the class has but never runs: they are 0."""


def find_plan(network: object, plan: object) -> ModelPlan:
    """Find the settings of a network that is to be converted.

    Args:
        network: what the user gave as one.
        plan: its plan, or the section `model` of it; None: those with which it was built.

    Raises:
        UsageError: no network of ours, or no plan.
    """
    if not isinstance(network, UNetPlusPlus):
        action = "Give `net` of `unetpp.build_model`, or `unetpp.load(path).network`."
        raise UsageError("network", shorten(repr(network)), "a network of unetpp", action)
    found = network.plan if plan is None else plan
    found = found.model if isinstance(found, Plan) else found
    if not isinstance(found, ModelPlan):
        expected = "the plan of the network, such as `unetpp.load(path).plan`"
        raise UsageError("plan", shorten(repr(found)), expected, "A network of `unetpp.build_model` needs none.")
    return found


def require_fit(model: ModelPlan, peer: ModelPlan, peer_class: str) -> None:
    """Refuse a network that a peer's class cannot represent.

    Args:
        model: our network.
        peer: the nearest network that the class can represent.
        peer_class: name of the class.

    Raises:
        UsageError: a field differs; every such field is named.
    """
    ours, theirs = _effective_fields(model), _effective_fields(peer)
    names = ["depth"] if ours["depth"] != theirs["depth"] else list(ours)  # all sizes follow from the depth
    differences = [text for name in names for text in _list_differences(f"model.{name}", ours[name], theirs[name])]
    if differences:
        raise UsageError(
            "plan",
            f"a network that {peer_class} cannot represent ({'; '.join(differences)})",
            "one that fits",
            "Train one with these fields set, or export to ONNX.",
        )


def _list_differences(name: str, ours: Any, theirs: Any) -> list[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [
            text
            for key in {**ours, **theirs}
            for text in _list_differences(f"{name} of {key}", ours.get(key), theirs.get(key))
        ]
    return [] if ours == theirs else [f"{name} is {ours!r}, there it is {theirs!r}"]


def rename_weights(weights: Mapping[str, Tensor], names: Mapping[str, str | None]) -> dict[str, Tensor]:
    """Copy our weights under the peer's names of their layers; layers that the peer lacks are left out."""
    places = {name: name.rpartition(".") for name in weights}
    return {
        f"{theirs}.{last}": weights[name].detach().clone()
        for name, (layer, _, last) in places.items()
        if (theirs := names.get(layer))
    }


def _effective_fields(model: ModelPlan) -> dict[str, Any]:
    """Return the fields that affect this network, with the value that a null stands for; others are None."""
    norm, unet = model.nested_norm or model.norm, model.topology == "unet"
    interpolates = model.up in INTERPOLATION
    up_has_weights = not interpolates or model.up_projection
    values = {
        "widths": {
            f"X[{i},{j}]": node_width(model, (i, j))
            for i, j in Grid(model.topology, model.depth).nodes()
            if model.stem or j
        },
        "norm": norm if model.encoder else model.norm,
        "nested_norm": None if norm == model.norm else norm,
        "nested_kernel_sizes": model.nested_kernel_sizes or model.kernel_sizes[:-1],
        "conv_bias": norm == "none" if model.conv_bias is None else model.conv_bias,
        "deep_supervision": model.deep_supervision and not unet,
        "up_widths": model.up_widths or (model.nested_widths or model.widths)[: model.depth],
        "concat": model.concat.removesuffix("_reversed") if unet else model.concat,  # of a single skip
    }
    has_effect = {
        "leaky_slope": model.activation == "leaky_relu",
        "norm_groups": norm == "group",
        "up_widths": up_has_weights,
        "up_bias": up_has_weights,
        "align_corners": model.up in ("linear", "cubic"),
        "up_projection": interpolates,
    }
    fields = {name: value for name, value in model if name not in WITHOUT_EFFECT} | values
    return {name: value if has_effect.get(name, True) else None for name, value in fields.items()}
