"""The plan: the one configuration of a run, frozen, checked, readable as JSON.

folder -> `fingerprint.json` -> `plan.json` -> model, data, training. The plan travels inside the model file, so that
prediction, pruning and export read nothing else. Spatial axes are always in the order (Z, Y, X) or (Y, X).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction as Fractional
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from unetpp.data_plan import (
    AS_FILES_SAY,
    ChannelRange,
    DataPlan,
    LabelPlan,
    Normalization,
    ReadPlan,
    Region,
    TrainingRange,
)
from unetpp.errors import PlanError
from unetpp.json_files import parse_json
from unetpp.plan_text import read_plan_text, write_plan_text
from unetpp.settings import Frozen, Positive, PositiveFloat, parse_settings, require, validate
from unetpp.sizes import list_sizes, name_size, parse_size
from unetpp.words import count_noun

__all__ = [
    "AS_FILES_SAY",
    "LARGEST_TILE",
    "MAY_CHANGE_ON_RESUME",
    "PLAN_VERSION",
    "SET_BY_USER",
    "AugmentPlan",
    "Axes",
    "ChannelRange",
    "DataPlan",
    "LabelPlan",
    "ModelPlan",
    "Normalization",
    "Plan",
    "PredictPlan",
    "ReadPlan",
    "Region",
    "TrainPlan",
    "TrainingRange",
    "read_plan",
]

PLAN_VERSION = 1
SET_BY_USER = "set by the user"
"""Reason of a value that the planner did not choose."""
LARGEST_TILE = {2: 256, 3: 96}
"""Largest side of a tile in voxels, by `dims`: larger tiles do not predict better."""
MAY_CHANGE_ON_RESUME = (
    "train.accumulate",
    "train.checkpointing",
    "train.compile",
    "train.checkpoint_minutes",
    "predict.batch",
)
"""Fields that change speed or memory but not the trained weights."""

_OF_CASCADE = " and of what data.resolution cascade adds"
Fraction = Annotated[float, Field(ge=0, le=1)]
Axes = tuple[Positive, ...]
Norm = Literal["batch", "instance", "group", "layer", "none"]


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
    shells: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (1.0,)
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
        require(
            (
                shells[-1] == 1 and list(shells) == sorted(set(shells)),
                "model.shells",
                "rising numbers: fractions up to 1, or channels up to model.widths[0]",
            ),
            *_check_shells(sorted(widths | hidden), shells, unit),
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


def _check_shells(widths: Sequence[int], shells: Sequence[float], unit: int) -> Iterator[tuple[bool, str, str]]:
    """List a condition for each width of a layer: all of its shells are multiples of `unit` channels."""
    kinds = f"multiples of {unit} channels, groups of model.norm" if unit > 1 else "whole numbers of channels"
    multiple = unit * math.lcm(*(Fractional(shell).limit_denominator(1000).denominator for shell in shells))
    for width in widths:
        wrong = [shell for shell in shells if abs(width * shell - unit * round(width * shell / unit)) > 1e-6]
        found = ", ".join(f"shell {shell:g} has {width * shell:g} of {width}" for shell in wrong)
        fitting = f"nodes of multiples of {multiple} channels (model.widths) fit"
        yield not wrong, "model.shells", f"{kinds}, in each shell: {found}; {fitting}"


class AugmentPlan(Frozen):
    """Random variation of training patches. A probability of 0 turns a variation off. Strengths are drawn uniformly."""

    mirror: bool = True
    """Flip each axis with probability 1/2."""
    quarter_turns: bool = True
    """Rotate by multiples of 90 degrees in planes whose two axes have the same patch size and spacing."""
    affine_probability: Fraction = 0.2
    """Probability of a rotation and scaling."""
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = 30.0
    """Largest rotation in degrees, either way, in planes whose two axes have about the same spacing."""
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Largest change of size: objects are scaled by a factor of 1 - scale to 1 + scale along each axis, but not across
    thick slices (more than 3 times as thick as a pixel)."""
    elastic_probability: Fraction = 0.0
    """Probability of an elastic deformation, not across thick slices."""
    elastic_shift: Annotated[float, Field(ge=0)] = 4.0
    """Largest shift by an elastic deformation, in voxels; places 4 times as far apart are shifted independently."""
    noise_probability: Fraction = 0.1
    """Probability of additive Gaussian noise."""
    noise_std: Annotated[float, Field(ge=0)] = 0.1
    """Largest standard deviation of the noise, in units of the normalized image."""
    blur_probability: Fraction = 0.1
    """Probability of a Gaussian blur."""
    blur_sigma: Annotated[float, Field(gt=0)] = 1.0
    """Largest standard deviation of the blur, in voxels."""
    contrast_probability: Fraction = 0.15
    """Probability of a change of contrast."""
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Largest change of contrast: a factor of 1 - contrast to 1 + contrast."""
    brightness_probability: Fraction = 0.15
    """Probability of a change of brightness."""
    brightness: Annotated[float, Field(ge=0)] = 0.25
    """Largest value added, either way, in units of the normalized image."""
    low_resolution_probability: Fraction = 0.1
    """Probability of a lower resolution: fewer voxels are sampled, and interpolated; not across thick slices."""
    low_resolution: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Lowest resolution, as a fraction of the image's."""
    gamma_probability: Fraction = 0.15
    """Probability of a gamma correction."""
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Largest change of gamma: an exponent of 1 - gamma to 1 + gamma."""
    inverted_gamma_probability: Fraction = 0.1
    """Probability of a gamma correction of the inverted image: of bright values, as the other is of dark ones."""
    invert_probability: Fraction = 0.0
    """Probability of inverting intensities, for stains and microscopes of both kinds."""
    first_stage_outlines: Fraction = 0.4
    """Of a cascade: probability that the outlines of the first stage are moved by one or two voxels."""
    first_stage_misses: Fraction = 0.2
    """Of a cascade: probability that a class is removed from what the first stage found in a patch."""


class TrainPlan(Frozen):
    """Training of the weights."""

    patch: Axes
    """Size of a training patch along each axis, in voxels of the network's grid."""
    batch: Positive
    """Number of patches in a training step, those of all GPUs and machines together."""
    accumulate: Positive = 1
    """Number of parts in which a step goes through its patches, for a batch that does not fit into memory: the same
    loss and gradients (batch normalization alone sees the parts), in a third more time, as of each part the sums of the
    Dice loss are computed first."""
    steps_per_epoch: Positive
    """Number of training steps in an epoch."""
    epochs: Positive
    """Length of the schedule in epochs, unless `minutes` is given."""
    minutes: PositiveFloat | None = None
    """Length of the schedule in minutes of wall time, instead of `epochs`."""
    optimizer: Literal["muon", "adamw"] = "muon"
    """adamw: AdamW for all weights (Loshchilov and Hutter 2019); muon: Muon for the kernels of nodes (Jordan et al.
    2024), AdamW for all other weights."""
    learning_rate: PositiveFloat = 3e-3
    """Peak learning rate of AdamW."""
    kernel_learning_rate: PositiveFloat = 0.02
    """Peak relative step size of Muon: norm of the update over norm of the kernel."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    """Decoupled weight decay of AdamW."""
    warmup: Fraction = 0.05
    """Fraction of the schedule in which learning rates rise from 0; they then fall to 0 along half a cosine."""
    growth: tuple[float, ...] = ()
    """Fraction of the schedule at which each further one of `model.shells` joins the training, such as (0.5,) for two;
    before that, the inner ones are trained alone, in less time for each step; (): all are trained from the start,
    as is best where an inner size has been trained before (`train --from`)."""
    growth_warmup: Fraction = 0.0
    """Fraction of the schedule in which learning rates rise again from 0 to their curve after each change of `growth`;
    0: they go on."""
    gradient_clip: PositiveFloat = 1.0
    """Largest norm of the gradient over all weights."""
    encoder_learning_rate: PositiveFloat = 1.0
    """Learning rate of a timm encoder, as a multiple of `learning_rate`."""
    freeze_encoder: Fraction = 0.0
    """Fraction of the schedule, from its start, in which a timm encoder is frozen (weights and batch statistics)."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Decay of the exponential moving average of the weights, which is what is validated and saved."""
    head_weights: Literal["equal"] | tuple[PositiveFloat, ...] = "equal"
    """Weight of each head's loss, shallowest first (deep supervision; Zhou et al. 2018, section 3.2); with
    `model.shells` of each size, those of the inner shell first."""
    distillation: bool = False
    """The heads of all sizes but the largest learn the probabilities of the largest instead of the labels (in-place
    distillation; Yu and Huang 2019, section 3.2)."""
    cross_entropy_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the cross-entropy in the loss of a head."""
    dice_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the soft Dice loss in the loss of a head."""
    class_weights: tuple[PositiveFloat, ...] | None = None
    """Weight of the voxels of each class in the cross-entropy, background first, or of each of `data.regions`; null:
    all the same. The Dice loss gives every class the same weight."""
    case_weights: dict[str, PositiveFloat] = Field(default_factory=dict)
    """How often patches of a case are drawn, by its id, relative to the cases that are not named."""
    foreground_fraction: Fraction = 0.5
    """Fraction of the patches that are centred on a foreground voxel."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the forward and backward pass; weights are always float32."""
    checkpointing: bool | Literal["cheap"] = False
    """Activation checkpointing: less memory, more time. "cheap": recompute normalizations, activations and up-sampling
    in the backward pass (same weights up to rounding); true: recompute whole nodes (same weights, bit for bit)."""
    compile: bool = False
    """Compile the network with torch.compile at the first step, which takes a minute or more; if that fails, training
    continues uncompiled, and its log records it."""
    augment: AugmentPlan = AugmentPlan()
    """Variation of the patches."""
    validations: Positive = 10
    """Number of validations during training."""
    validation_cases: Positive = 24
    """Largest number of cases in a validation during training; all are scored after it."""
    patience: Positive = 5
    """Stop early after this many validations without a better score; only without `minutes`, which are used up, and
    after the last change of `growth`."""
    checkpoint_minutes: PositiveFloat = 1.0
    """Minutes between checkpoints; one is also written after every validation."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the initial weights, the patches and their variation."""
    start: str | None = None
    """Model that training starts from: its name and the first digits of the SHA-256 of its file; null: random
    weights. (RUN/start.safetensors is a copy of it.)"""

    @model_validator(mode="after")
    def _growth_rises(self) -> Self:
        rising = all(before < after for before, after in pairwise((0.0, *self.growth, 1.0)))
        require((rising, "train.growth", "rising fractions of the schedule, above 0 and below 1"))
        return self


class PredictPlan(Frozen):
    """Prediction of a whole image or volume, tile by tile."""

    tile: Axes
    """Size of a tile along each axis, in voxels of the network's grid."""
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Fraction of a tile that it shares with its neighbour along each axis."""
    batch: Positive = 1
    """Number of tiles in a forward pass."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the forward pass."""
    depth: Positive
    """Depth of a prediction for which none is given; with shells the number of its size (`size` names it)."""
    size: int | str | None = None
    """Sets `depth` by the name of a size: 4x8, depth 4 with the first 8 channels of level 0, or 4, with all of them.
    Null in a finished plan, which has the number."""


class Plan(Frozen):
    """Everything needed to train, and everything a trained model needs to predict."""

    version: Literal[1] = 1
    """Version of this format."""
    name: str
    """Name of the data set."""
    data: DataPlan
    model: ModelPlan
    train: TrainPlan
    predict: PredictPlan
    reasons: dict[str, str] = Field(default_factory=dict)
    """Why each value was chosen, by its dotted name."""
    considered: tuple[str, ...] = ()
    """Configurations that were considered (2D, 3D, low resolution first), each with the reason for or against it."""

    @model_validator(mode="before")
    @classmethod
    def _number_the_size(cls, values: Any) -> Any:
        """Replace `predict.size` by its number."""
        predict = values.get("predict") if isinstance(values, dict) else None
        if not isinstance(predict, dict) or predict.get("size") is None:
            return values
        try:
            model = ModelPlan.model_validate(values.get("model"))
        except ValidationError:
            return values  # its problems are reported
        number, names = parse_size(str(predict["size"]), model.depth, model.shell_channels), model.list_sizes()
        require((number in names, "predict.size", f"one of {', '.join(names.values())}, the sizes of this network"))
        reasons = dict(values.get("reasons") or {})
        if "predict.size" in reasons:
            reasons["predict.depth"] = reasons.pop("predict.size")
        return {**values, "predict": {**predict, "depth": number, "size": None}, "reasons": reasons}

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        data, model, train, depth = self.data, self.model, self.train, self.predict.depth
        channels, outputs = data.in_channels, len(data.outputs)
        sizes = {"train.patch": train.patch, "predict.tile": self.predict.tile}
        one_width = model.shells == (1.0,)
        heads = (
            f"1 to model.depth {model.depth}" if one_width else f"the number of a size, up to {max(model.list_sizes())}"
        )
        only = f"{model.depth}, the only head of this network" if one_width else "that of a size at model.depth"
        tunes_encoder = train.freeze_encoder > 0 or train.encoder_learning_rate != 1
        shells = len(model.shells)
        count = model.depth * shells
        weighted = train.head_weights == "equal" or len(train.head_weights) == count
        steps = train.epochs * train.steps_per_epoch
        require(
            (model.dims == data.dims, "model.dims", f"{data.dims}, as data.dims"),
            (
                model.in_channels == channels,
                "model.in_channels",
                f"{channels}, one for each of data.channels{_OF_CASCADE * (data.resolution == 'cascade')}",
            ),
            (
                model.out_channels == outputs,
                "model.out_channels",
                f"{outputs}, one for each of data.{'regions' if data.regions else 'classes'}",
            ),
            *((len(size) == data.dims, name, f"{data.dims} numbers (data.dims)") for name, size in sizes.items()),
            (depth <= max(model.list_sizes()), "predict.depth", heads),
            (model.has_all_heads or depth in model.list_sizes(), "predict.depth", only),
            (
                not tunes_encoder or model.encoder not in (None, "resenc"),
                "train.freeze_encoder, train.encoder_learning_rate",
                "0 and 1 without an encoder of timm",
            ),
            (
                train.class_weights is None or len(train.class_weights) == outputs,
                "train.class_weights",
                f"{count_noun(outputs, 'number')}, one for each logit ({', '.join(data.outputs[:8])}), or null",
            ),
            (weighted, "train.head_weights", f'"equal" or {count} numbers, one for each head'),
            (not train.growth or shells > 1, "train.growth", "none, because model.shells has one"),
            (
                len(train.growth) in (0, shells - 1),
                "train.growth",
                f"{count_noun(shells - 1, 'fraction')}, one for each of model.shells but the inner one, or none",
            ),
            (
                train.minutes is not None or not train.growth or train.growth[-1] <= (steps - 1) / steps,
                "train.growth",
                f"fractions that leave a step of {steps} (train.epochs) for the whole network",
            ),
        )
        return self

    def to_json(self) -> str:
        """Write the plan as the text of `plan.json`."""
        return write_plan_text(self.model_dump(mode="json"))

    @classmethod
    def from_json(cls, text: str, where: str = "plan") -> Plan:
        """Read a plan.

        Args:
            text: the output of `to_json`.
            where: its origin, for errors.

        Raises:
            PlanError: not JSON, an unknown key, a missing one, or a value outside its range; all problems at once.
        """
        try:
            values = parse_json(text)
        except ValueError as error:
            action = "Restore it, or make a new one with `unetpp plan`."
            raise PlanError(where, f"text that is not JSON ({error})", "a plan", action) from None
        return cls.from_dict(values, where)

    @classmethod
    def from_dict(cls, values: Any, where: str = "plan") -> Plan:
        """Check values as in JSON; raises as `from_json`."""
        values = read_plan_text(values)
        if isinstance(values, dict) and values.get("version", PLAN_VERSION) != PLAN_VERSION:
            action = "Make a new one with `unetpp plan`, or use the release of unetpp that wrote it."
            raise PlanError(where, f"plan version {values['version']!r}", str(PLAN_VERSION), action)
        return validate(cls, values, where)

    def differences(self, other: Plan) -> list[str]:
        """Dotted names of the fields that differ in another plan, without those that may change on resume."""
        mine, theirs = (plan.model_dump(mode="json", exclude={"reasons"}) for plan in (self, other))
        sections = [section for section in mine if isinstance(mine[section], dict)]
        names = [
            f"{section}.{key}"
            for section in sections
            for key, value in mine[section].items()
            if value != theirs[section][key]
        ]
        return [name for name in names if name not in MAY_CHANGE_ON_RESUME]

    def changed(self, settings: Mapping[str, Any]) -> Plan:
        """A plan with the settings `{"section.key": value}` changed; texts are read as JSON where they are JSON.

        Raises:
            PlanError: unknown key (the nearest known one is named) or a value that does not fit.
        """
        values = self.model_dump(mode="json")
        for key, value in parse_settings(Plan, settings).items():
            *sections, last = key.split(".")
            place = values
            for section in sections:
                place = place[section]
            place[last] = value
            values["reasons"][key] = SET_BY_USER
        return Plan.from_dict(values, "")


def read_plan(path: Path) -> Plan:
    """Read `plan.json`; raises PlanError as `Plan.from_json`, and where the file cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        got = f"{error.__class__.__name__} ({error})"
        raise PlanError(path, got, "a readable plan.json", "Make one with `unetpp plan`.") from None
    return Plan.from_json(text, str(path))
