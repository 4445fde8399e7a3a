"""Our network as a peer's: whether it fits, and its tensors by the peer's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from unetpp.errors import UsageError
from unetpp.model.build import node_width
from unetpp.plan import ModelPlan

WITHOUT_EFFECT = ("preset", "dropout", "encoder_weights", "divisor", "node_widths", "nested_widths")
"""Fields that do not change what a trained network computes at sizes that it divides, or that others here stand for."""


class PeerModel(NamedTuple):
    """What makes a peer's network of ours."""

    constructor: str
    """The class, such as monai.networks.nets.BasicUNetPlusPlus."""
    arguments: dict[str, Any]
    """Its keyword arguments."""
    state_dict: dict[str, Tensor]
    """For its load_state_dict, strict."""
    unused: tuple[str, ...]
    """Tensors that the class has but never runs: they are 0."""


def require_fit(model: ModelPlan, peer: ModelPlan, whose: str) -> None:
    """Refuse a network that the peer's class cannot be.

    Args:
        model: ours.
        peer: the nearest network that the peer has.
        whose: the peer's class.

    Raises:
        UsageError: every field that does not fit, by name.
    """
    ours, theirs = _effective(model), _effective(peer)
    names = (
        ["depth"] if ours["depth"] != theirs["depth"] else [name for name in ours if ours[name] != theirs[name]]
    )  # with the depth all else differs
    misfits = [text for name in names for text in _apart(f"model.{name}", ours[name], theirs[name])]
    if misfits:
        raise UsageError(
            f"plan: got a network that {whose} cannot be ({'; '.join(misfits)}); expected one that fits. Train one with these fields set, or export to ONNX."
        )


def _apart(name: str, ours: Any, theirs: Any) -> list[str]:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [
            f"{name} of {key} is {ours.get(key)}, there it is {theirs.get(key)}"
            for key in {**ours, **theirs}
            if ours.get(key) != theirs.get(key)
        ]
    return [f"{name} is {ours!r}, there it is {theirs!r}"]


def renamed(weights: Mapping[str, Tensor], names: Mapping[str, str | None]) -> dict[str, Tensor]:
    """Our weights by the peer's names; those of layers that it does not have are left out."""
    found = {}
    for name, weight in weights.items():
        layer, _, last = name.rpartition(".")
        theirs = names.get(name) or (f"{names[layer]}.{last}" if names.get(layer) else None)
        if theirs:
            found[theirs] = weight.detach().clone()
    return found


def _effective(model: ModelPlan) -> dict[str, Any]:
    """The fields that count in this network, with what their None stands for."""
    norm = model.nested_norm or model.norm
    values = {name: value for name, value in model if name not in WITHOUT_EFFECT}
    nodes = [(level, column) for level in range(model.depth + 1) for column in range(model.depth + 1 - level)]
    single = model.topology == "unet"
    values["widths"] = (
        {f"X[{i},{j}]": node_width(model, (i, j)) for i, j in nodes if model.stem or j}
        if not single
        else _widths_of_unet(model)
    )
    values["nested_norm"] = None if norm == model.norm else norm
    values["norm"] = model.norm if model.encoder is None else norm
    values["nested_kernel_sizes"] = model.nested_kernel_sizes or model.kernel_sizes[:-1]
    values["conv_bias"] = norm == "none" if model.conv_bias is None else model.conv_bias
    values["deep_supervision"] = model.deep_supervision and not single
    values["leaky_slope"] = model.leaky_slope if model.activation == "leaky_relu" else None
    values["norm_groups"] = model.norm_groups if norm == "group" else None
    weighted = model.up in ("transposed", "transposed_wide", "pixel_shuffle") or model.up_projection
    values["up_widths"] = (
        (model.up_widths or (model.nested_widths or model.widths)[: model.depth]) if weighted else None
    )
    values["up_bias"] = model.up_bias if weighted else None
    values["align_corners"] = model.align_corners if model.up in ("linear", "cubic") else None
    values["up_projection"] = model.up_projection if model.up in ("linear", "nearest", "cubic") else None
    values["concat"] = "up_skips" if single and model.concat != "skips_up" else model.concat
    return values


def _widths_of_unet(model: ModelPlan) -> dict[str, int]:
    outer = {
        f"X[{level},{model.depth - level}]": node_width(model, (level, model.depth - level))
        for level in range(model.depth)
    }
    return {f"X[{level},0]": node_width(model, (level, 0)) for level in range(model.depth + 1) if model.stem} | outer
