"""From names and numbers to a network: the only file of the package that holds a network's numbers."""

from __future__ import annotations

from typing import Any

from torch import nn

from unetpp.errors import UsageError
from unetpp.model.blocks import CONV, CONV_LAYERS, CONV_TRANSPOSED, MAX_POOL, ConvUnit, PlainBlock, ResidualBlock
from unetpp.model.grid import Node, head_depths, needed_nodes, skips
from unetpp.model.network import UNetPlusPlus
from unetpp.plan import ModelPlan, checked, dotted_names, nearest_name

PRESETS: dict[str, dict[str, Any]] = {
    # Zhou et al. 2018, section 4: filters 32 * 2^i, two 3x3 convolutions with ReLU and dropout, no normalisation
    "paper": {"depth": 4, "first_width": 32, "max_width": 32 * 2**9, "norm": "none", "activation": "relu", "dropout": 0.5},
    # what trains best in equal time on the three real data sets, see docs/log.md
    "default": {"depth": 4, "first_width": 16, "max_width": 320, "norm": "group", "activation": "leaky_relu", "dropout": 0.0},
}


def model_plan(*, preset: str = "default", dims: int = 2, in_channels: int = 1, out_channels: int = 2, first_width: int | None = None, **fields: Any) -> ModelPlan:
    """Every number of a network, from a preset and the fields of `plan.model` that are given.

    Args:
        first_width: channels of level 0, doubled at each further one; `widths` gives each by itself.

    Raises:
        UsageError: an unknown preset, or an unknown field (the nearest known one is named).
        PlanError: a field whose value does not fit.
    """
    if preset not in PRESETS:
        raise UsageError(f"preset: got {preset!r}; expected one of {sorted(PRESETS)}.")
    known = dotted_names(ModelPlan)
    for name in fields:
        if name not in known:
            raise UsageError(f"{name}: got an unknown field of a network. {nearest_name(name, known)}")
    given = {name: value for name, value in fields.items() if value is not None}
    values = {**PRESETS[preset], **given}
    depth = values["depth"] = len(given["widths"]) - 1 if "widths" in given and "depth" not in given else values["depth"]
    first, largest = first_width or values["first_width"], values["max_width"]
    del values["first_width"], values["max_width"]
    values.setdefault("widths", [min(first * 2**level, largest) for level in range(depth + 1)])
    values.setdefault("strides", [[2] * dims] * depth)
    values.setdefault("kernel_sizes", [[3] * dims] * (depth + 1))
    return checked(ModelPlan, {**values, "preset": preset, "dims": dims, "in_channels": in_channels, "out_channels": out_channels}, "plan.model")


def build_model(**fields: Any) -> UNetPlusPlus:
    """Build a network from keywords; see `model_plan` for them.

    >>> net = build_model(in_channels=1, out_channels=2, dims=2)
    >>> net = build_model(preset="paper", in_channels=1, out_channels=1, depth=4)
    """
    return from_plan(model_plan(**fields))


def from_plan(plan: ModelPlan) -> UNetPlusPlus:
    """Build the network that a plan describes, freshly initialised from torch's global generator."""
    heads = head_depths(plan.topology, plan.depth, plan.deep_supervision)
    nodes = needed_nodes(plan.topology, plan.depth, heads)
    network = UNetPlusPlus(
        plan.topology,
        plan.depth,
        nodes={node: _block(plan, node) for node in nodes},
        downs=[_down(plan, level) for level in range(plan.depth)],
        ups={node: _up(plan, node) for node in nodes if node[1] > 0},
        heads={d: CONV[plan.dims](plan.widths[0], plan.out_channels, 1) for d in heads},
    )
    network.apply(_initialise)
    return network


def pruned_plan(plan: ModelPlan, depth: int) -> ModelPlan:
    """The plan of `from_plan(plan).prune(depth)`."""
    return plan.model_copy(
        update={"depth": depth, "widths": plan.widths[: depth + 1], "strides": plan.strides[:depth], "kernel_sizes": plan.kernel_sizes[: depth + 1], "deep_supervision": False}
    )


def down_kernel(plan: ModelPlan, level: int) -> tuple[int, ...]:
    """Kernel of the convolution with a stride from `level` to the next: 1 along axes that keep their size."""
    return tuple(size if step > 1 else 1 for size, step in zip(plan.kernel_sizes[level], plan.strides[level], strict=True))


def _block(plan: ModelPlan, node: Node) -> nn.Module:
    level, column = node
    width, kernel = plan.widths[level], plan.kernel_sizes[level]
    if column == 0:
        in_channels = plan.in_channels if level == 0 else plan.widths[level - 1] if plan.down == "pool" else width
    else:
        in_channels = width * len(skips(plan.topology, node)) + _up_width(plan, level)
    last = plan.convs_per_node - 1
    residual = plan.block == "residual"
    units = [
        ConvUnit(plan.dims, in_channels if n == 0 else width, width, kernel, norm=plan.norm, activation=None if residual and n == last else plan.activation, dropout=plan.dropout)
        for n in range(plan.convs_per_node)
    ]
    if not residual:
        return PlainBlock(units)
    shortcut = nn.Identity() if in_channels == width else ConvUnit(plan.dims, in_channels, width, (1,) * plan.dims, norm=plan.norm, activation=None)
    return ResidualBlock(units, shortcut, plan.activation)


def _down(plan: ModelPlan, level: int) -> nn.Module:
    stride = plan.strides[level]
    if plan.down == "pool":
        return MAX_POOL[plan.dims](stride, ceil_mode=True)
    return ConvUnit(plan.dims, plan.widths[level], plan.widths[level + 1], down_kernel(plan, level), norm=plan.norm, activation=plan.activation, stride=stride)


def _up(plan: ModelPlan, node: Node) -> nn.Module:
    level = node[0]
    stride = plan.strides[level]
    if plan.up == "transposed":
        return CONV_TRANSPOSED[plan.dims](plan.widths[level + 1], plan.widths[level], stride, stride=stride)
    if plan.up == "nearest":
        return nn.Upsample(scale_factor=tuple(float(s) for s in stride), mode="nearest")
    return nn.Upsample(scale_factor=tuple(float(s) for s in stride), mode="bilinear" if plan.dims == 2 else "trilinear")


def _up_width(plan: ModelPlan, level: int) -> int:
    return plan.widths[level] if plan.up == "transposed" else plan.widths[level + 1]


def _initialise(module: nn.Module) -> None:
    # He et al. 2015, as in the papers; the biases start at 0
    if isinstance(module, CONV_LAYERS):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
