"""The fields of `plan.model` as keyword arguments: types for editors, texts for `help()`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict, get_type_hints

from unetpp.plan import ModelPlan
from unetpp.settings import field_notes


class ModelFields(TypedDict, total=False):
    """Arguments of `build_model`. Their notes are those of `ModelPlan`."""

    preset: Literal["default", "paper", "paper_wide_unet", "resenc"]
    topology: Literal["unet++", "unet+", "unet_e", "unet"]
    dims: Literal[2, 3]
    in_channels: int
    out_channels: int
    depth: int
    first_width: int | None
    widths: Sequence[int]
    nested_widths: Sequence[int] | None
    node_widths: Mapping[str, int]
    shells: Sequence[float]
    strides: Sequence[Sequence[int]]
    kernel_sizes: Sequence[Sequence[int]]
    nested_kernel_sizes: Sequence[Sequence[int]] | None
    convs_per_node: int
    hidden_fraction: float
    block: Literal["plain", "residual", "projected"]
    norm: Literal["batch", "instance", "group", "layer", "none"]
    nested_norm: Literal["batch", "instance", "group", "layer", "none"] | None
    norm_groups: int | None
    activation: Literal["relu", "leaky_relu", "silu", "gelu"]
    leaky_slope: float
    conv_bias: bool | None
    dropout: float
    attention: Literal["none", "scse"]
    down: Literal["pool", "conv", "first"]
    odd_sizes: Literal["ceil", "floor"]
    up: Literal["transposed", "transposed_wide", "linear", "nearest", "cubic", "pixel_shuffle"]
    up_widths: Sequence[int] | None
    up_bias: bool
    up_projection: bool
    align_corners: bool
    concat: Literal["skips_up", "up_skips", "up_skips_reversed"]
    deep_supervision: bool
    head_kernel: Literal[1, 3]
    head_bias: bool
    fusion: Literal["none", "mean", "learned"]
    encoder: str | None
    encoder_weights: str | None
    encoder_blocks: Sequence[int] | None
    stem: bool
    divisor: Sequence[int] | None
    output_stride: int


FIRST_WIDTH = (
    "Channels of level 0, doubled at each deeper one; `widths` names all. "
    "With an encoder of timm: channels of the other nodes."
)


def show_fields(function: Callable[..., Any], defaults: Mapping[str, Any]) -> None:
    """Set the signature and the docstring of a function of `ModelFields`, for `help()` and notebooks.

    Args:
        function: a function of `**fields`.
        defaults: default of each field; a field that is not here follows from the others and shows None.
    """
    types, notes = get_type_hints(ModelFields), {"first_width": FIRST_WIDTH, **field_notes(ModelPlan)}
    kind = inspect.Parameter.KEYWORD_ONLY
    shown = [inspect.Parameter(name, kind, default=defaults.get(name), annotation=types[name]) for name in types]
    vars(function)["__signature__"] = inspect.signature(function).replace(parameters=shown)
    lines = "".join(f"        {name}: {notes.get(name, '')}\n" for name in types)
    function.__doc__ = re.sub(r" {8}fields: .*\n", lambda found: lines, function.__doc__ or "")
