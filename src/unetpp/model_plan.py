"""The section `model` of the plan: the network, and what a network can be."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from fractions import Fraction
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from unetpp.settings import Axes, Frozen, Positive, PositiveFloat, require
from unetpp.sizes import list_sizes, name_size

Norm = Literal["batch", "instance", "group", "layer", "none"]
MOST_PARTS = 4
"""Widths that are divided into more parts than these would be too wide to propose."""


class ModelPlan(Frozen):
    """The network: UNet++ (Zhou et al. 2018, arXiv 1807.10165; 2019, arXiv 1912.05074) and its family on one grid.

    X[i, j] is the node of level i (down-sampled i times) and column j; X[i, 0] is the encoder, nodes with j > 0 are
    nested.

    The defaults here, a UNet++ of one width, are what a plan or a model file means that leaves a field out, so that
    files of every version are read alike. What is built where nobody chooses is the preset "default" of `build_model`.
    """

    preset: str = "default"
    """Name of the preset from which unset fields were filled."""
    topology: Literal["unet++", "unet+", "unet_e", "unet"] = "unet++"
    """Member of the family: which nodes exist, and which skips each of them receives."""
    dims: Literal[2, 3]
    """Number of spatial axes: 2 for images, 3 for volumes."""
    in_channels: Positive
    """Number of channels of the input image."""
    out_channels: Positive
    """Number of logits: one for each class, background first, or for each of `data.regions`; 1: a single foreground
    class or region with a sigmoid."""
    depth: Positive
    """L, the number of down-samplings, and of heads."""
    widths: Axes
    """Channels of X[i, 0] for i = 0..depth; without `nested_widths`, of all nodes of level i."""
    nested_widths: Axes | None = None
    """Channels of the nested nodes X[i, j > 0] for i = 0..depth - 1; null: those of `widths`."""
    node_widths: dict[Annotated[str, Field(pattern=r"^\d+_\d+$")], Positive] = Field(default_factory=dict)
    """Channels of single nodes: {"0_4": 32} sets X[0, 4]."""
    shells: tuple[PositiveFloat, ...] = (1.0,)
    """Nested widths that one network holds, as fractions of every node's channels (0.5, 1) or as channels of level 0
    (8, 16), which set how wide the network is, the inner one first; (1,): one width. An inner shell never reads an
    outer one."""
    strides: tuple[Axes, ...]
    """Down-sampling factor along each axis from level i to i + 1, for i = 0..depth - 1."""
    kernel_sizes: tuple[Axes, ...]
    """Kernel size along each axis of the convolutions of level i = 0..depth; odd numbers."""
    nested_kernel_sizes: tuple[Axes, ...] | None = None
    """Kernel size along each axis in X[i, j > 0] for i = 0..depth - 1; null: those of `kernel_sizes`."""

    convs_per_node: Positive = 2
    """Number of convolutions in each node, each followed by normalization, activation and dropout."""
    hidden_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Width of all convolutions of a nested node but the last, as a fraction of the node's width."""
    block: Literal["plain", "residual", "projected"] = "plain"
    """Structure of a node. plain: a chain of convolutions, as in the papers; residual: with a shortcut (He et al.
    2016); projected: residual, and a nested node first projects its inputs to its own width with a 1x1 convolution."""
    norm: Norm = "group"
    """Normalization after each convolution of a node; layer: group normalization with a single group."""
    nested_norm: Norm | None = None
    """Normalization in the nested nodes X[i, j > 0]; null: `norm`."""
    norm_groups: Positive | None = None
    """Number of groups of the group normalization; null: groups of 8 channels."""
    activation: Literal["relu", "leaky_relu", "silu", "gelu"] = "leaky_relu"
    """Activation after each normalization."""
    leaky_slope: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Negative slope of leaky_relu."""
    conv_bias: bool | None = None
    """Whether the convolutions of nodes have a bias; null: only where no normalization follows."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability of dropout after each activation."""
    attention: Literal["none", "scse"] = "none"
    """Attention in nested nodes, before and after their convolutions; scse: spatial and channel squeeze and excitation
    (Roy et al. 2018)."""

    down: Literal["pool", "conv", "first"] = "pool"
    """Down-sampling: max-pooling, a strided convolution, or a stride in the first convolution of the next node."""
    odd_sizes: Literal["ceil", "floor"] = "ceil"
    """Size after pooling an axis of odd length: rounded up or rounded down."""
    up: Literal["transposed", "transposed_wide", "linear", "nearest", "cubic", "pixel_shuffle"] = "transposed"
    """Up-sampling. transposed: a transposed convolution with kernel = stride; transposed_wide: with overlapping
    kernels (4 for a stride of 2); linear, nearest, cubic (2D): interpolation; pixel_shuffle: sub-pixel convolution."""
    up_widths: Axes | None = None
    """Channels after up-sampling into level 0..depth - 1, where `up` has weights; null: those of its nested nodes."""
    up_bias: bool = True
    """Whether the convolutions of up-sampling have a bias."""
    up_projection: bool = False
    """Put a 1x1 convolution to `up_widths` channels before linear, nearest or cubic up-sampling."""
    align_corners: bool = False
    """The option `align_corners` of linear and cubic up-sampling."""
    concat: Literal["skips_up", "up_skips", "up_skips_reversed"] = "skips_up"
    """Order in which a nested node concatenates its inputs: skips, then the up-sampled node, as in the papers; or an
    order that other implementations use."""

    deep_supervision: bool = True
    """Put a head on every X[0, j > 0]; false: only on the deepest."""
    head_kernel: Literal[1, 3] = 1
    """Kernel size of a head, the convolution to `out_channels`."""
    head_bias: bool = True
    """Whether heads have a bias."""
    fusion: Literal["none", "mean", "learned"] = "none"
    """Output at depth d: head d alone, or the mean or a learned sum of the logits of heads 1..d."""

    encoder: str | None = None
    """null: nodes as everywhere; "resenc": residual stages as in nnU-Net; else the name of a timm model (2D)."""
    encoder_weights: str | None = None
    """Initial weights of the encoder: "pretrained" (timm downloads them) or a file; null: random. "resenc": a file."""
    encoder_blocks: Axes | None = None
    """Number of residual blocks in each level of "resenc"."""
    stem: bool = True
    """Keep the nodes X[i, 0] above the first level of the encoder; false: nested nodes there receive no skip."""
    divisor: Axes | None = None
    """Pad images to a multiple of this along each axis; null: no padding. Encoders need what they divide by."""
    output_stride: Positive = 1
    """Voxels of the image for one voxel of level 0; logits are interpolated back to the image."""

    @model_validator(mode="after")
    def _lengths_agree(self) -> Self:
        depth = self.depth
        inner: dict[str, Sequence[object] | None] = {"nested_widths": self.nested_widths, "up_widths": self.up_widths}
        inner["nested_kernel_sizes"] = self.nested_kernel_sizes
        require(
            (
                len(self.widths) == depth + 1,
                "model.widths",
                f"{depth + 1} numbers, one for each level (model.depth {depth})",
            ),
            (len(self.kernel_sizes) == depth + 1, "model.kernel_sizes", f"{depth + 1} entries, one for each level"),
            (len(self.strides) == depth, "model.strides", f"{depth} entries, one for each down-sampling"),
            *(
                (
                    sizes is None or len(sizes) == depth,
                    f"model.{name}",
                    f"{depth} numbers, one for each level but the deepest",
                )
                for name, sizes in inner.items()
            ),
            (
                all(sum(map(int, key.split("_"))) <= depth for key in self.node_widths),
                "model.node_widths",
                f"nodes i_j with i + j up to model.depth {depth}",
            ),
        )
        return self

    @model_validator(mode="after")
    def _axes_agree(self) -> Self:
        dims = self.dims
        kernels = {"kernel_sizes": self.kernel_sizes, "nested_kernel_sizes": self.nested_kernel_sizes or ()}
        entries = {"strides": self.strides, **kernels}
        require(
            *(
                (
                    all(len(axes) == dims for axes in sizes),
                    f"model.{name}",
                    f"{dims} numbers in each entry (model.dims)",
                )
                for name, sizes in entries.items()
            ),
            (self.divisor is None or len(self.divisor) == dims, "model.divisor", f"{dims} numbers (model.dims)"),
            *(
                (all(size % 2 for axes in sizes for size in axes), f"model.{name}", "odd numbers")
                for name, sizes in kernels.items()
            ),
            (self.up != "cubic" or dims == 2, "model.up", "another kind than cubic in 3D"),
        )
        return self

    @property
    def shell_channels(self) -> tuple[int, ...]:
        """Channels of level 0 up to and with each shell."""
        return tuple(round(self.widths[0] * shell) for shell in self.shells)

    @property
    def has_all_heads(self) -> bool:
        """Whether there may be a head at every depth, not only at the deepest."""
        return self.topology != "unet" and self.deep_supervision

    def list_sizes(self) -> dict[int, str]:
        """List the sizes by number, with their names; of a network with an encoder some depths may have no head."""
        depths = range(1 if self.has_all_heads else self.depth, self.depth + 1)
        numbers = list_sizes(depths, len(self.shells), self.depth)
        return {number: name_size(number, self.depth, self.shell_channels) for number in numbers}

    @model_validator(mode="before")
    @classmethod
    def _divide_by_the_width(cls, values: Any) -> Any:
        """Read shells that are channels of level 0."""
        if not isinstance(values, dict):
            return values
        shells: Any = values.get("shells")
        widths: Any = values.get("widths")
        is_listed = all(isinstance(each, list | tuple) and each for each in (shells, widths))
        if (
            is_listed
            and all(isinstance(each, int | float) for each in (*shells, *widths))
            and shells[-1] == widths[0] > 1
        ):
            values = {**values, "shells": [shell / widths[0] for shell in shells]}
        return values

    @model_validator(mode="after")
    def _shells_fit(self) -> Self:
        shells, groups = self.shells, self.norm_groups
        if shells == (1.0,):
            return self
        norms = {self.norm, self.nested_norm or self.norm}
        widths = {*self.widths, *(self.nested_widths or ()), *self.node_widths.values(), *(self.up_widths or ())}
        hidden = {max(1, round(width * self.hidden_fraction)) for width in widths}
        unit = 8 if "group" in norms and groups is None else 1
        first = self.widths[0]
        require(
            (
                shells[-1:] == (1,) and list(shells) == sorted(set(shells)),
                "model.shells",
                f"rising numbers: fractions up to 1, or channels up to {first}, which is model.widths[0]",
            ),
            *_check_shells(
                sorted(widths | hidden), shells, unit, _propose_shells(widths | hidden, shells, unit, first)
            ),
            (
                groups is None or all(abs(n - round(n)) < 1e-6 for n in (groups * shell for shell in shells)),
                "model.norm_groups",
                "a number that model.shells divides",
            ),
            ("layer" not in norms, "model.norm", "another kind than layer, which mixes model.shells"),
            (self.attention == "none", "model.attention", "none, because attention mixes model.shells"),
            (self.fusion == "none", "model.fusion", "none with model.shells"),
        )
        return self

    @model_validator(mode="after")
    def _encoder_fits(self) -> Self:
        own, resenc = self.encoder in (None, "resenc"), self.encoder == "resenc"
        levels = self.depth + 1
        has_blocks = len(self.encoder_blocks or ()) == levels
        squares = all(set(stride) == {2} for stride in self.strides)
        require(
            (not resenc or has_blocks, "model.encoder_blocks", f"{levels} numbers, one for each level"),
            (resenc or self.encoder_blocks is None, "model.encoder_blocks", 'null without model.encoder "resenc"'),
            (own or self.dims == 2, "model.encoder", 'null or "resenc" in 3D: the models of timm are 2D'),
            (own or squares, "model.strides", "2 along both axes: models of timm have no other"),
            (not own or self.stem, "model.stem", "true without an encoder of timm"),
            (bool(self.encoder) or not self.encoder_weights, "model.encoder_weights", "null without model.encoder"),
            (not resenc or self.encoder_weights != "pretrained", "model.encoder_weights", 'a file for "resenc"'),
            (not own or self.output_stride == 1, "model.output_stride", "1 without an encoder of timm"),
            (self.output_stride & (self.output_stride - 1) == 0, "model.output_stride", "a power of 2"),
        )
        return self


def _propose_shells(widths: Collection[int], shells: Sequence[float], unit: int, first: int) -> str:
    """Propose shells near to the wanted ones that fit the widths of all layers, or widths where there are none.

    Args:
        widths: of all layers.
        shells: wanted, as fractions.
        unit: channels of which each shell is to be a multiple.
        first: width of level 0.
    """
    shared = math.gcd(*widths)
    count = shared // unit if shared % unit == 0 else 1
    near = sorted({min(max(round(shell * count), 1), count) for shell in shells} | {count})
    if count > 1:
        near = near if len(near) > 1 else [count // 2, count]
        return f"({', '.join(f'{first * each / count:g}' for each in near)}) would fit"
    parts = math.lcm(*(Fraction(shell).limit_denominator(1000).denominator for shell in shells))
    if parts <= MOST_PARTS:
        return f"nodes of multiples of {unit * parts} channels (model.widths) fit"
    return f"with model.widths of multiples of {2 * unit} channels (0.5, 1) would fit"


def _check_shells(
    widths: Sequence[int], shells: Sequence[float], unit: int, fitting: str
) -> Iterator[tuple[bool, str, str]]:
    """List a condition for each width of a layer: all of its shells are multiples of `unit` channels."""
    kinds = f"multiples of {unit} channels, groups of model.norm" if unit > 1 else "whole numbers of channels"
    for width in widths:
        wrong = [shell for shell in shells if abs(width * shell - unit * round(width * shell / unit)) > 1e-6]
        found = ", ".join(f"shell {shell:g} has {width * shell:g} of {width}" for shell in wrong)
        yield not wrong, "model.shells", f"{kinds}, in each shell: {found}; {fitting}"
