"""Build a network from names and numbers: the only file of the package that holds the numbers of networks."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Never, Unpack, get_args, get_type_hints

from torch import nn

from unetpp.errors import PlanError, UsageError
from unetpp.model.blocks import (
    CONV,
    CONV_LAYERS,
    ConvUnit,
    PlainBlock,
    Pooling,
    ResidualBlock,
    SpatialChannelAttention,
    make_activation,
    make_norm,
    make_residual_stage,
)
from unetpp.model.encoders import encoder_shape, make_encoder
from unetpp.model.fields import ModelFields, show_fields
from unetpp.model.grid import Grid, Node, node_key, order_inputs
from unetpp.model.network import HeadFusion, UNetPlusPlus
from unetpp.model.resampling import INTERPOLATION, MAX_POOL, PixelShuffle, make_transposed_conv
from unetpp.model.selfsupervised import load_encoder
from unetpp.model.shells import Widths, attach_channels, initialize_shells, separate_shells
from unetpp.model.widths import node_width, shell_widths, up_width
from unetpp.plan import ModelPlan
from unetpp.settings import dotted_names, find_own_value, suggest_name, validate
from unetpp.sizes import Size, list_sizes

_PAPER = {"depth": 4, "first_width": 32, "max_width": 32 * 2**9, "norm": "none", "activation": "relu", "dropout": 0.5}
PRESETS: dict[str, dict[str, Any]] = {
    # Zhou et al. 2018, section 4: filters 32 * 2^i, two 3x3 convolutions with ReLU and dropout, no normalization
    "paper": _PAPER,
    # the same section: a U-Net with as many weights as the UNet++
    "paper_wide_unet": {**_PAPER, "topology": "unet", "first_width": 35},
    # chosen by training in equal time (block: three seeds on nuclei; the outer shell costs about four times the inner
    # one on CPUs); figures and data in docs/log.md
    "default": {
        "topology": "unet",
        "shells": (0.5, 1.0),
        "depth": 4,
        "first_width": 16,
        "max_width": 320,
        "block": "projected",
        "norm": "group",
        "activation": "leaky_relu",
        "dropout": 0.0,
    },
    # the encoder of nnU-Net's ResEnc networks, which public self-supervised weights fit:
    # Isensee et al. 2024, Wald et al. 2024
    "resenc": {
        "encoder": "resenc",
        "depth": 5,
        "first_width": 32,
        "max_width": 320,
        "norm": "instance",
        "conv_bias": True,
        "activation": "leaky_relu",
        "dropout": 0.0,
    },
}
OF_UNETPP = frozenset({"fusion", "nested_widths", "nested_norm", "nested_kernel_sizes", "node_widths", "encoder"})
"""Fields that speak of nodes which a U-Net does not have, or were tried with UNet++ alone."""
RESENC_BLOCKS = (1, 3, 4, 6, 6, 6, 6, 6)
"""Residual blocks of each level (Isensee et al. 2024, nnU-Net revisited)."""


def model_plan(
    *,
    preset: str = "default",
    dims: int = 2,
    in_channels: int = 1,
    out_channels: int = 2,
    first_width: int | None = None,
    **fields: Any,
) -> ModelPlan:
    """Fill a preset with the given fields of `plan.model`.

    The preset "default" is a U-Net of two widths, one within the other; a UNet++ if a field of `OF_UNETPP` is given; of
    one width where `topology` is given, or where the other fields do not allow two.

    Args:
        preset: name of the preset.
        dims: number of spatial axes, 2 or 3.
        in_channels: number of channels of the image.
        out_channels: number of logits.
        first_width: channels of level 0, doubled at each deeper one; `widths` names all. With an encoder of timm:
            channels of the other nodes.
        fields: fields of `plan.model`; None stands for the default.

    Returns:
        The section `model` of a plan.

    Raises:
        UsageError: an unknown preset, or an unknown field (the nearest known one is named).
        PlanError: a field whose value does not fit.
        MissingExtraError: an encoder of timm without timm.
    """
    if preset not in PRESETS:
        raise UsageError("preset", repr(preset), f"one of {sorted(PRESETS)}", "Change it.")
    known = dotted_names(ModelPlan)
    for name in fields:
        if name not in known:
            raise UsageError(name, "an unknown field", "a field of a network", suggest_name(name, known))
    given = {name: value for name, value in fields.items() if value is not None}
    values = _fill_preset(preset, given)
    first, largest = first_width or values["first_width"], values["max_width"]
    del values["first_width"], values["max_width"]
    if given.get("encoder") not in (None, "resenc"):
        if dims != 2:
            expected = 'null or "resenc" in 3D: the models of timm are 2D'
            raise UsageError("model.encoder", f"{given['encoder']!r} for volumes", expected, "Change it.")
        values = {**values, **_fit_to_encoder(given, first, largest)}
    depth = values["depth"] = (
        len(given["widths"]) - 1 if "widths" in given and "depth" not in given else values["depth"]
    )
    values.setdefault("widths", [min(first * 2**level, largest) for level in range(depth + 1)])
    values.setdefault("strides", [[2] * dims] * depth)
    values.setdefault("kernel_sizes", [[3] * dims] * (depth + 1))
    if values.get("encoder") == "resenc":
        values.setdefault("encoder_blocks", RESENC_BLOCKS[: depth + 1])
        values.setdefault("down", "first")
    values |= {"preset": preset, "dims": dims, "in_channels": in_channels, "out_channels": out_channels}
    if "shells" in values and "shells" not in given:
        with contextlib.suppress(PlanError):
            plan: ModelPlan = validate(ModelPlan, values, "plan.model")
            _require_shells_apart(plan, (0, 0), in_channels)
            return plan
        del values["shells"]
    return validate(ModelPlan, values, "plan.model")


def find_topology(preset: str = "default", **fields: Any) -> str:
    """Find the topology that `model_plan` chooses; arguments as there."""
    given = {name: value for name, value in fields.items() if value is not None}
    values = _fill_preset(preset, given) if preset in PRESETS else given
    return str(values.get("topology", ModelPlan.model_fields["topology"].default))


def _fill_preset(preset: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Combine a preset with the given fields; nested widths are left out where these ask for other sizes."""
    values = PRESETS[preset]
    if "shells" in values and not given.keys().isdisjoint({"topology", *OF_UNETPP}):
        values = {name: value for name, value in values.items() if name not in ("topology", "shells")}
    return {**values, **given}


def build_model(*unnamed: Never, **fields: Unpack[ModelFields]) -> UNetPlusPlus:
    """Build a network; every argument can be left out.

    By default it is a U-Net that holds one of half its width (docs/method.md). UNet++ is `topology="unet++"`, or comes
    with an argument that speaks of its nodes: `fusion`, `encoder`, `node_widths` and others of nested nodes.

    The defaults are those of the preset "default" in 2D; another preset has others. Where None is shown, the value
    follows from the other arguments, or is None as the text says. docs/family.md has pictures of what they do.

    A loop of your own trains all heads: `unetpp.DeepSupervisionLoss()(net(images, heads=True), target)`; then
    `unetpp.save` writes a model file (docs/python.md).

    Args:
        fields: The fields of `plan.model`, and `first_width`.

    Returns:
        The network, with random weights but for a pretrained encoder.

    Raises:
        UsageError: an unknown preset, an unknown argument (the nearest known one is named), or a value by its name in
            other libraries.
        PlanError: an argument whose value does not fit.
        MissingExtraError: an encoder of timm without timm.

    >>> net = build_model(in_channels=1, out_channels=2, dims=2)
    >>> net = build_model(preset="paper", in_channels=1, out_channels=1, depth=4)
    >>> net = build_model(encoder="resnet34", encoder_weights="pretrained", in_channels=3)
    """
    _check_fields(unnamed, dict(fields))
    return build_from_plan(model_plan(**fields), pretrained=True)


def _check_fields(unnamed: Sequence[Any], fields: Mapping[str, Any]) -> None:
    """Refuse what means something else in other libraries, and name it; raises UsageError."""
    if unnamed:
        action = f"Name it: `encoder={unnamed[0]!r}`." if isinstance(unnamed[0], str) else "Name them."
        raise UsageError("build_model", f"{unnamed[0]!r} without a name", "arguments by their names", action)
    if "heads" in fields:
        action = "Pass it to the network: `net(x, heads=True)`."
        raise UsageError("heads", "an argument of build_model", "one of the forward pass", action)
    for name, word in {"norm": 'Without normalization: `norm="none"`. ', "activation": ""}.items():
        if name in fields and fields[name] is None:
            raise UsageError(name, "None", "a name", f"{word}For the default, leave it out.")
    types = get_type_hints(ModelFields)
    for name, value in fields.items():
        own = find_own_value(value, get_args(types[name])) if isinstance(value, str) and name in types else None
        if own is not None:
            raise UsageError(name, repr(value), "a value by its name here", f"Write `{name}={own!r}`.")


show_fields(
    build_model,
    {
        name: field.get_default(call_default_factory=True)
        for name, field in ModelPlan.model_fields.items()
        if not field.is_required()
    }
    | PRESETS["default"]
    | {"dims": 2, "in_channels": 1, "out_channels": 2},
)


def build_from_plan(plan: ModelPlan, pretrained: bool = False) -> UNetPlusPlus:
    """Build the network of a plan, initialized from torch's global generator.

    Args:
        plan: the section `model` of a plan.
        pretrained: load the weights that `plan.encoder_weights` names into the encoder, as at the start of training.

    Raises:
        PlanError: a field that does not fit the encoder or the channels of a node.
        UsageError: an unknown encoder; or weights that timm does not have, or that cannot be downloaded.
        ModelFileError: a file of weights that cannot be read, or does not fit the encoder.
        MissingExtraError: an encoder of timm without timm.
    """
    grid = make_grid(plan)
    heads = grid.head_depths(plan.deep_supervision)
    sizes = list_sizes(heads, len(plan.shells), plan.depth)
    needed = grid.needed(heads)
    encoder = make_encoder(plan)
    given = {(level, 0) for level in encoder.levels} if encoder else set()
    if plan.output_stride > 1 and (0, 0) in set(needed) - given:
        expected = "1, because the encoder does not compute X[0, 0], which then has full resolution"
        raise PlanError("model.output_stride", str(plan.output_stride), expected, "Or set model.stem to false as well.")
    network = UNetPlusPlus(
        grid,
        nodes={node: _make_block(plan, node) for node in needed if node not in given},
        downs=[nn.Identity() if (level + 1, 0) in given else _make_down(plan, level) for level in range(plan.depth)],
        ups={node: _make_up(plan, node) for node in needed if node[1] > 0},
        heads={number: _make_head(plan, size) for number, size in sizes.items()},
        shells=len(plan.shells),
        fusion=HeadFusion(len(heads), learned=plan.fusion == "learned") if plan.fusion != "none" else None,
        concat=plan.concat,
        divisor=plan.divisor,
        output_stride=plan.output_stride,
    )
    network.plan = plan
    network.apply(_initialize)
    if network.shells > 1:
        _divide_into_shells(network, plan, given)
    network.encoder = encoder  # only now, because it initializes itself
    if pretrained:
        load_encoder_weights(network, plan)
    return network


def load_encoder_weights(network: UNetPlusPlus, plan: ModelPlan) -> str:
    """Load the weights that a plan names into the encoder of its network.

    Returns:
        Description of the loaded weights, for the log; empty if the plan names no weights.

    Raises:
        UsageError: timm has no weights, or they cannot be downloaded.
        ModelFileError: the file cannot be read, or its weights are not those of this encoder.
    """
    if not plan.encoder_weights:
        return ""
    if network.encoder is None:
        loaded = load_encoder(network, Path(plan.encoder_weights))
        separate_shells(network)
        return str(loaded)
    network.encoder.load_pretrained(plan.encoder_weights)
    return f"the weights of {plan.encoder}: {plan.encoder_weights}"


def make_grid(plan: ModelPlan) -> Grid:
    """Make the grid of the network of a plan."""
    if plan.stem or plan.encoder is None:
        return Grid(plan.topology, plan.depth)
    # without a stem, an encoder starts at half the resolution or lower
    shape = encoder_shape(plan.encoder, plan.depth, plan.output_stride)
    return Grid(plan.topology, plan.depth, max(1, min(shape.widths)))


def _fit_to_encoder(given: dict[str, Any], first_width: int, max_width: int) -> dict[str, Any]:
    """Derive fields from an encoder of timm: its depth and widths, and those of the other nodes."""
    wanted = given.get("depth") or (len(given["widths"]) - 1 if "widths" in given else None)
    shape = encoder_shape(given["encoder"], wanted, given.get("output_stride", 1))
    own = [min(first_width * 2**level, max_width) for level in range(shape.depth + 1)]
    widths = given.get("widths") or [shape.widths.get(level, own[level]) for level in range(shape.depth + 1)]
    if len(widths) != len(own):
        expected = f"{len(own)}, one for each level of model.depth {shape.depth}"
        raise PlanError("model.widths", f"{len(widths)} numbers", expected, "Change it, or model.depth.")
    nested = [min(width, limit) for width, limit in zip(own, widths, strict=True)][: shape.depth]
    fields: dict[str, Any] = {
        "depth": shape.depth,
        "widths": widths,
        "nested_widths": nested,
        "strides": [[2, 2]] * shape.depth,
        "divisor": [shape.divisor] * 2,
    }
    return {**fields, **{name: given[name] for name in fields if name in given}}


def _unit_factory(plan: ModelPlan, column: int) -> partial[ConvUnit]:
    """Bind dims, norm, activation, bias and dropout of a plan to `ConvUnit`."""
    kind = (plan.nested_norm if column else None) or plan.norm
    return partial(
        ConvUnit,
        plan.dims,
        norm=partial(make_norm, kind, dims=plan.dims, groups=plan.norm_groups),
        activation=partial(make_activation, plan.activation, plan.leaky_slope),
        bias=kind == "none" if plan.conv_bias is None else plan.conv_bias,
        dropout=plan.dropout,
    )


def _divide_into_shells(network: UNetPlusPlus, plan: ModelPlan, given: Collection[Node]) -> None:
    """Tell every layer its shells; what an encoder computes is read by all of them."""

    def channels(node: Node) -> Widths:
        width = node_width(plan, node)
        return (width,) * len(plan.shells) if node in given else shell_widths(plan, width)

    grid = network.grid
    for level, down in enumerate(network.downs):
        attach_channels(down, [channels((level, 0))], plan.shells)
    for node in grid.nodes():
        level, column = node
        inputs = [channels((level - 1, 0)) if level else (plan.in_channels,) * len(plan.shells)]
        if level and column == 0 and plan.down == "conv":
            inputs = [channels(node)]
        if column and (key := node_key(node)) in network.ups:
            below = channels((level + 1, column - 1))
            attach_channels(network.ups[key], [below], plan.shells)
            has_weights = any(True for _ in network.ups[key].parameters())
            up = shell_widths(plan, up_width(plan, node)) if has_weights else below
            inputs = order_inputs([channels(skip) for skip in grid.skips(node)], up, plan.concat)
        if node_key(node) in network.nodes:
            attach_channels(network.nodes[node_key(node)], inputs, plan.shells)
    initialize_shells(network)


def _make_head(plan: ModelPlan, size: Size) -> nn.Module:
    width, kernel = shell_widths(plan, node_width(plan, (0, size.depth)))[size.shell], plan.head_kernel
    return CONV[plan.dims](width, plan.out_channels, kernel, padding=kernel // 2, bias=plan.head_bias)


def _make_block(plan: ModelPlan, node: Node) -> nn.Module:
    level, column = node
    if column:
        return _make_nested_block(plan, node)
    width, kernel, unit = node_width(plan, node), plan.kernel_sizes[level], _unit_factory(plan, column)
    above = node_width(plan, (level - 1, 0)) if level else plan.in_channels
    received = width if level and plan.down == "conv" else above
    stride = plan.strides[level - 1] if level and plan.down == "first" else (1,) * plan.dims
    if plan.encoder == "resenc" and plan.encoder_blocks:
        activation = partial(make_activation, plan.activation, plan.leaky_slope)
        stem = [unit(plan.in_channels, width, kernel)] if level == 0 else []
        inputs, blocks = received if level else width, plan.encoder_blocks[level]
        stage = make_residual_stage(unit, plan.dims, inputs, width, kernel, stride, blocks, activation)
        return PlainBlock([*stem, stage])
    if level == 0:
        _require_shells_apart(plan, node, plan.in_channels)
    return _make_chain(plan, unit, [received, *[width] * plan.convs_per_node], kernel, stride)


def _make_nested_block(plan: ModelPlan, node: Node) -> nn.Module:
    level, column = node
    width, unit = node_width(plan, node), _unit_factory(plan, column)
    kernel = (plan.nested_kernel_sizes or plan.kernel_sizes)[level]
    skips = make_grid(plan).skips(node)
    in_channels = sum(node_width(plan, skip) for skip in skips) + up_width(plan, node)
    _require_shells_apart(plan, node, in_channels)
    hidden, once, chain = (
        max(1, round(width * plan.hidden_fraction)),
        (1,) * plan.dims,
        partial(_make_chain, plan, unit),
    )
    if plan.block == "projected" and in_channels != width:
        projection = unit(in_channels, width, once, norm=lambda channels: nn.Identity(), activation=None, bias=True)
        inner = [width, *[hidden] * (plan.convs_per_node - 2), width]
        block: nn.Module = PlainBlock([projection, chain(inner, kernel, once)])
    else:
        block = chain([in_channels, *[hidden] * (plan.convs_per_node - 1), width], kernel, once)
    if plan.attention == "none":
        return block
    before = [SpatialChannelAttention(plan.dims, in_channels)] if skips else []
    return PlainBlock([*before, block, SpatialChannelAttention(plan.dims, width)])


def _require_shells_apart(plan: ModelPlan, node: Node, in_channels: int) -> None:
    """Raise PlanError if a block would add its input, which is not divided into shells as its output is."""
    widths = shell_widths(plan, node_width(plan, node))
    if len(widths) > 1 and plan.block != "plain" and in_channels in (widths if node == (0, 0) else widths[-1:]):
        name = f"X[{node[0]}, {node[1]}]"
        got = f"{plan.block}, where {name} would add the {in_channels} channels that it receives to as many of its own"
        raise PlanError("model.block", got, "plain with these widths and model.shells", "Or change model.widths.")


def _make_chain(
    plan: ModelPlan, unit: partial[ConvUnit], channels: Sequence[int], kernel: tuple[int, ...], stride: tuple[int, ...]
) -> nn.Module:
    """Make convolutions between these numbers of channels, the first with a stride.

    All but plain blocks add the input to the output.
    """
    residual, last = plan.block != "plain", len(channels) - 2
    without = {"activation": None} if residual else {}  # the sum is activated, not its terms
    units = [
        unit(channels[n], channels[n + 1], kernel, stride=stride if n == 0 else 1, **(without if n == last else {}))
        for n in range(last + 1)
    ]
    if not residual:
        return PlainBlock(units)
    fits = channels[0] == channels[-1] and max(stride) == 1
    shortcut = (
        nn.Identity() if fits else unit(channels[0], channels[-1], (1,) * plan.dims, stride=stride, activation=None)
    )
    return ResidualBlock(units, shortcut, make_activation(plan.activation, plan.leaky_slope))


def _make_down(plan: ModelPlan, level: int) -> nn.Module:
    stride = plan.strides[level]
    if plan.down == "pool":
        return Pooling(MAX_POOL[plan.dims], stride, ceil=plan.odd_sizes == "ceil")
    if plan.down == "first":
        return nn.Identity()
    # the kernel is 1 along axes that keep their size
    kernel = tuple(size if step > 1 else 1 for size, step in zip(plan.kernel_sizes[level], stride, strict=True))
    return _unit_factory(plan, 0)(node_width(plan, (level, 0)), node_width(plan, (level + 1, 0)), kernel, stride=stride)


def _make_up(plan: ModelPlan, node: Node) -> nn.Module:
    level, column = node
    stride = plan.strides[level]
    below, width = node_width(plan, (level + 1, column - 1)), up_width(plan, node)
    if plan.up in ("transposed", "transposed_wide"):
        return make_transposed_conv(
            plan.dims, below, width, stride, wide=plan.up == "transposed_wide", bias=plan.up_bias
        )
    if plan.up == "pixel_shuffle":
        return PixelShuffle(plan.dims, below, width, stride, bias=plan.up_bias)
    factor = tuple(float(step) for step in stride)
    up = nn.Upsample(
        scale_factor=factor,
        mode=INTERPOLATION[plan.up][plan.dims],
        align_corners=None if plan.up == "nearest" else plan.align_corners,
    )
    return nn.Sequential(CONV[plan.dims](below, width, 1, bias=plan.up_bias), up) if width != below else up


def _initialize(module: nn.Module) -> None:
    # He et al. 2015, as in the papers; the biases start at 0
    if isinstance(module, PixelShuffle):
        module.init_icnr()  # after its convolution: `apply` visits children first
    elif isinstance(module, CONV_LAYERS):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
