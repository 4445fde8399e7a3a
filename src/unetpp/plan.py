"""The plan: the one configuration of a run, frozen, checked, readable as JSON.

folder -> `fingerprint.json` -> `plan.json` -> model, data, training. The plan travels inside the model file, so that
prediction, pruning and export read nothing else. Spatial axes are always in the order (Z, Y, X) or (Y, X).
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import inspect
import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from unetpp.errors import PlanError

PLAN_VERSION = 1
LARGEST_TILE = {2: 256, 3: 96}
"""Side of a tile in voxels, by dims: larger ones make no better predictions."""
_Model = TypeVar("_Model", bound=BaseModel)

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
Axes = tuple[Positive, ...]


WEIGHTLESS = ("train.checkpointing", "train.compile", "train.checkpoint_minutes", "predict.batch")
"""Fields that cost memory or time and decide no weight."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Normalization(_Frozen):
    """How the intensities of one channel reach the network (the same in training and in prediction).

    The value is clipped to [lower, upper] where these are given, then becomes (value - mean) / std.
    With `per_case` the mean and standard deviation are those of the case at hand (MRI, photographs, microscopy:
    no absolute scale); otherwise they are the numbers given here (CT: Hounsfield units).
    """

    per_case: bool = True
    lower: float | None = None
    upper: float | None = None
    mean: float = 0.0
    std: PositiveFloat = 1.0


class DataPlan(_Frozen):
    """What goes in and what comes out."""

    dims: Literal[2, 3]
    """2 for images, 3 for volumes."""
    channels: Annotated[tuple[str, ...], Field(min_length=1)]
    """Name of each input channel. ("red", "green", "blue") makes grey images fit by repeating their one channel."""
    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    """Name of each class, background first."""
    label_values: tuple[int, ...]
    """The value that stands for each class in label files, in the order of `classes`; written so by `predict`."""
    instances: bool = False
    """True: every value above 0 in a label file is one object, and all objects are foreground."""
    spacing_mm: tuple[PositiveFloat, ...] | None = None
    """Grid the network works on, in millimetres; None: the grid of each file as it is."""
    voxel_mm: tuple[PositiveFloat, ...] | None = None
    """Typical size of a voxel on the network's grid, where the files have one: which axes are alike follows from it."""
    normalization: tuple[Normalization, ...]
    """One for each channel."""

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @model_validator(mode="after")
    def _lengths_agree(self) -> Self:
        _require(len(self.label_values) == len(self.classes), "data.label_values", "one value for each of data.classes")
        _require(len(set(self.label_values)) == len(self.label_values), "data.label_values", "values that differ")
        _require(
            len(self.normalization) == len(self.channels), "data.normalization", "one entry for each of data.channels"
        )
        for name, lengths in (("spacing_mm", self.spacing_mm), ("voxel_mm", self.voxel_mm)):
            _require(lengths is None or len(lengths) == self.dims, f"data.{name}", f"{self.dims} numbers (data.dims)")
        return self


class ModelPlan(_Frozen):
    """The network: Zhou et al. 2018 (arXiv 1807.10165) and 2019 (arXiv 1912.05074), and its family on the same grid."""

    preset: str = "default"
    """Where the values below came from."""
    topology: Literal["unet++", "unet+", "unet_e", "unet"] = "unet++"
    """Which nodes exist and what each receives."""
    dims: Literal[2, 3]
    """2 for images, 3 for volumes."""
    in_channels: Positive
    """Of the image."""
    out_channels: Positive
    """Of the logits: one for each class, background first; 1: a single foreground class, through a sigmoid."""
    depth: Positive
    """L: the number of down-samplings, and of heads."""
    widths: Axes
    """Channels of X[i, 0], the encoder, for level i = 0..depth; without `nested_widths`, of all nodes of the level."""
    nested_widths: Axes | None = None
    """Channels of X[i, j > 0] for level i = 0..depth - 1. None: as `widths`."""
    node_widths: dict[Annotated[str, Field(pattern=r"^\d+_\d+$")], Positive] = Field(default_factory=dict)
    """Channels of single nodes: {"0_4": 32} is X[0, 4]."""
    strides: tuple[Axes, ...]
    """Down-sampling from level i to i + 1 along each axis, `depth` entries."""
    kernel_sizes: tuple[Axes, ...]
    """Kernel of the convolutions of level 0..depth along each axis, odd."""
    nested_kernel_sizes: tuple[Axes, ...] | None = None
    """The same of X[i, j > 0] for level i = 0..depth - 1. None: as `kernel_sizes`."""

    convs_per_node: Positive = 2
    """Convolutions in each node, each with its norm, activation and dropout."""
    hidden_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Channels of all convolutions of a nested node but the last, as a part of the node's."""
    block: Literal["plain", "residual", "projected"] = "plain"
    """plain: a chain of convolutions, as in the papers; residual: with a shortcut (He et al. 2016); projected: residual, and the
    first convolution of a nested node is 1x1, brings what it receives to its own width, and has nothing after it."""
    norm: Literal["batch", "instance", "group", "layer", "none"] = "group"
    """After each convolution of a node. layer: over all channels and voxels of an image (group norm of one group)."""
    nested_norm: Literal["batch", "instance", "group", "layer", "none"] | None = None
    """Of the nodes X[i, j > 0]. None: as `norm`."""
    norm_groups: Positive | None = None
    """Groups of the group norm. None: groups of 8 channels."""
    activation: Literal["relu", "leaky_relu", "silu", "gelu"] = "leaky_relu"
    """What follows each norm."""
    leaky_slope: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Of leaky_relu, below 0."""
    conv_bias: bool | None = None
    """Of the convolutions of nodes. None: where no norm follows."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the values that training sets to 0 after each activation."""
    attention: Literal["none", "scse"] = "none"
    """scse: of channels and places, before and after the convolutions of nested nodes (Roy et al. 2018)."""

    down: Literal["pool", "conv", "first"] = "pool"
    """Max-pooling, a convolution with a stride, or a stride in the first convolution of the node."""
    odd_sizes: Literal["ceil", "floor"] = "ceil"
    """What pooling makes of an odd last voxel: a voxel of its own, or nothing."""
    up: Literal["transposed", "transposed_wide", "linear", "nearest", "cubic", "pixel_shuffle"] = "transposed"
    """transposed: kernel = stride; transposed_wide: kernels that overlap, 4 for a stride of 2; cubic: in 2D."""
    up_widths: Axes | None = None
    """Channels after up-sampling into level 0..depth - 1, where `up` has weights. None: those of the level's nested nodes."""
    up_bias: bool = True
    """Of the convolutions of up-sampling."""
    up_projection: bool = False
    """A 1x1 convolution to `up_widths`, where these differ from the level below, before linear, nearest or cubic up-sampling."""
    align_corners: bool = False
    """Of linear and cubic up-sampling."""
    concat: Literal["skips_up", "up_skips", "up_skips_reversed"] = "skips_up"
    """Order in which a node receives: X[i, 0], ..., then what came up, as in the papers, or as a peer has it."""

    deep_supervision: bool = True
    """True: a head on every X[0, j]; False: only on the deepest."""
    head_kernel: Literal[1, 3] = 1
    """Of a head's convolution to `out_channels`."""
    head_bias: bool = True
    """Of the same."""
    fusion: Literal["none", "mean", "learned"] = "none"
    """What is answered at depth d: head d, or the mean or a learned sum of the logits of heads 1..d."""

    encoder: str | None = None
    """None: nodes like all others; "resenc": residual stages in nnU-Net's shape; else the name of a timm model (2D)."""
    encoder_weights: str | None = None
    """At the start of training: "pretrained" (what timm downloads), a file, or None: random. Of "resenc": a file."""
    encoder_blocks: Axes | None = None
    """Residual blocks of each level of "resenc"."""
    stem: bool = True
    """False: no X[0, 0], nor other X[i, 0] above the encoder's first; what is up-sampled there meets no skips."""
    divisor: Axes | None = None
    """The image is extended to a multiple of this along each axis: what the encoder divides by."""
    output_stride: Positive = 1
    """Size of a voxel of level 0 in voxels of the image; logits are interpolated back."""

    @model_validator(mode="after")
    def _lengths_agree(self) -> Self:
        levels = f"{self.depth + 1} numbers, one for each level of model.depth {self.depth}"
        _require(len(self.widths) == self.depth + 1, "model.widths", levels)
        _require(
            len(self.kernel_sizes) == self.depth + 1,
            "model.kernel_sizes",
            f"{self.depth + 1} entries, one for each level",
        )
        _require(len(self.strides) == self.depth, "model.strides", f"{self.depth} entries, one for each down-sampling")
        for name, axes in (
            ("nested_widths", self.nested_widths),
            ("up_widths", self.up_widths),
            ("nested_kernel_sizes", self.nested_kernel_sizes),
        ):
            _require(
                axes is None or len(axes) == self.depth,
                f"model.{name}",
                f"{self.depth} numbers, one for each level but the deepest",
            )
        nested_kernels = self.nested_kernel_sizes or ()
        for name, entries in (
            ("strides", self.strides),
            ("kernel_sizes", self.kernel_sizes),
            ("nested_kernel_sizes", nested_kernels),
        ):
            _require(
                all(len(entry) == self.dims for entry in entries),
                f"model.{name}",
                f"{self.dims} numbers in each entry (model.dims)",
            )
        _require(
            self.divisor is None or len(self.divisor) == self.dims, "model.divisor", f"{self.dims} numbers (model.dims)"
        )
        _require(all(k % 2 for kernel in self.kernel_sizes for k in kernel), "model.kernel_sizes", "odd numbers")
        _require(all(k % 2 for kernel in nested_kernels for k in kernel), "model.nested_kernel_sizes", "odd numbers")
        _require(
            all(sum(map(int, key.split("_"))) <= self.depth for key in self.node_widths),
            "model.node_widths",
            f"nodes i_j with i + j up to model.depth {self.depth}",
        )
        _require(self.up != "cubic" or self.dims == 2, "model.up", "another kind than cubic in 3D")
        return self

    @model_validator(mode="after")
    def _encoder_fits(self) -> Self:
        own = self.encoder in (None, "resenc")
        if self.encoder == "resenc":
            _require(
                len(self.encoder_blocks or ()) == self.depth + 1,
                "model.encoder_blocks",
                f"{self.depth + 1} numbers, one for each level",
            )
        else:
            _require(self.encoder_blocks is None, "model.encoder_blocks", 'model.encoder "resenc" beside it')
        _require(own or self.dims == 2, "model.encoder", 'null or "resenc" in 3D: the models of timm are 2D')
        _require(
            own or all(set(stride) == {2} for stride in self.strides),
            "model.strides",
            "2 along both axes, as the models of timm have it",
        )
        _require(not own or self.stem, "model.stem", "true without an encoder of timm")
        _require(
            self.encoder is not None or self.encoder_weights is None,
            "model.encoder_weights",
            "null without model.encoder",
        )
        _require(
            self.encoder != "resenc" or self.encoder_weights != "pretrained",
            "model.encoder_weights",
            'a file for "resenc"',
        )
        _require(not own or self.output_stride == 1, "model.output_stride", "1 without an encoder of timm")
        _require(self.output_stride & (self.output_stride - 1) == 0, "model.output_stride", "a power of 2")
        return self


class AugmentPlan(_Frozen):
    """How training patches are varied. A probability of 0 turns a variation off. Ranges are drawn uniformly."""

    mirror: bool = True
    """Flip along every axis, each with probability 1/2."""
    quarter_turns: bool = True
    """Turn by multiples of 90 degrees in planes whose axes have the same patch size and spacing."""
    affine_probability: Fraction = 0.2
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = 30.0
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Sizes are multiplied by 1 - scale .. 1 + scale."""
    noise_probability: Fraction = 0.1
    noise_std: Annotated[float, Field(ge=0)] = 0.1
    """In units of the normalised image."""
    blur_probability: Fraction = 0.1
    blur_sigma: Annotated[float, Field(gt=0)] = 1.0
    """Largest standard deviation, in voxels."""
    contrast_probability: Fraction = 0.15
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.25
    brightness_probability: Fraction = 0.15
    brightness: Annotated[float, Field(ge=0)] = 0.25
    gamma_probability: Fraction = 0.15
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.3
    invert_probability: Fraction = 0.0
    """Dark becomes bright: for stains and microscopes of both kinds."""


class TrainPlan(_Frozen):
    """How the weights are found."""

    patch: Axes
    """Size of a training patch in voxels of the network's grid."""
    batch: Positive
    steps_per_epoch: Positive
    epochs: Positive
    """Length of the schedule when no time was given."""
    minutes: PositiveFloat | None = None
    """Length of the schedule in minutes of wall time; takes the place of `epochs`."""
    optimizer: Literal["muon", "adamw"] = "muon"
    """adamw: for all weights (Loshchilov and Hutter 2019); muon: for all but the kernels of nodes, which Muon moves (Jordan et al. 2024)."""
    learning_rate: PositiveFloat = 3e-3
    """Of AdamW."""
    kernel_learning_rate: PositiveFloat = 0.02
    """Of Muon: each step turns a kernel by this share of its size, whatever its gradient."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    warmup: Fraction = 0.05
    """Share of the schedule in which the learning rate rises from 0."""
    gradient_clip: PositiveFloat = 1.0
    """Largest norm of the gradient of all weights."""
    encoder_learning_rate: PositiveFloat = 1.0
    """Learning rate of an encoder of timm, as a multiple of `learning_rate`."""
    freeze_encoder: Fraction = 0.0
    """Share of the schedule, from its start, in which the encoder of timm keeps its weights and batch statistics; 1: always."""
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """The weights that are validated and saved are a running mean over about 1 / (1 - ema_decay) steps."""
    head_weights: Literal["equal"] | tuple[PositiveFloat, ...] = "equal"
    """Weight of each head's loss, shallowest first (deep supervision; Zhou et al. 2018, section 3.2)."""
    cross_entropy_weight: Annotated[float, Field(ge=0)] = 1.0
    dice_weight: Annotated[float, Field(ge=0)] = 1.0
    foreground_fraction: Fraction = 0.5
    """Share of the patches that are centred on a voxel of a foreground class."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the forward and backward pass; weights are always float32."""
    checkpointing: bool | Literal["cheap"] = False
    """The same training from less memory in more time. "cheap": normalisations, activations and up-samplings are computed once more in the backward pass, in place
    of being kept (the same weights up to rounding); true: whole nodes (the same bits)."""
    compile: bool = False
    """Let torch compile the network first, which takes a minute or more: on a GPU a step then takes 0.6 of the time (docs/log.md)."""
    augment: AugmentPlan = AugmentPlan()
    validations: Positive = 10
    """How often the validation cases are scored during training."""
    validation_cases: Positive = 24
    """How many of them; all are scored at the end."""
    patience: Positive = 5
    """Training stops early after this many validations without a better score."""
    checkpoint_minutes: PositiveFloat = 1.0
    """How often `last.ckpt` is written, beside the end of every validation."""
    seed: Annotated[int, Field(ge=0)] = 0


class PredictPlan(_Frozen):
    """How a whole image or volume is covered."""

    tile: Axes
    """Size of a window in voxels of the network's grid."""
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of a tile that it has in common with its neighbour along each axis."""
    batch: Positive = 1
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    depth: Positive
    """The head that `predict` uses when none is named."""


class Plan(_Frozen):
    """All that is needed to train, and all that a trained model needs to predict."""

    version: Literal[1] = 1
    name: str
    """Name of the data set."""
    data: DataPlan
    model: ModelPlan
    train: TrainPlan
    predict: PredictPlan
    reasons: dict[str, str] = Field(default_factory=dict)
    """Why a value is what it is, by its dotted name."""

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        dims, model = self.data.dims, self.model
        _require(model.dims == dims, "model.dims", f"{dims}, as data.dims")
        _require(
            model.in_channels == len(self.data.channels),
            "model.in_channels",
            f"{len(self.data.channels)}, one for each of data.channels",
        )
        _require(
            model.out_channels == self.data.num_classes,
            "model.out_channels",
            f"{self.data.num_classes}, one for each of data.classes",
        )
        for name, axes in (("train.patch", self.train.patch), ("predict.tile", self.predict.tile)):
            _require(len(axes) == dims, name, f"{dims} numbers (data.dims)")
        _require(1 <= self.predict.depth <= model.depth, "predict.depth", f"1 to model.depth {model.depth}")
        single = model.topology == "unet" or not model.deep_supervision
        _require(
            not single or self.predict.depth == model.depth,
            "predict.depth",
            f"{model.depth}, the only head of this network",
        )
        rests = self.train.freeze_encoder > 0 or self.train.encoder_learning_rate != 1
        _require(
            not rests or model.encoder not in (None, "resenc"),
            "train.freeze_encoder, train.encoder_learning_rate",
            "0 and 1 without an encoder of timm",
        )
        weights = self.train.head_weights
        _require(
            weights == "equal" or len(weights) == model.depth,
            "train.head_weights",
            f'"equal" or {model.depth} numbers, one for each head',
        )
        return self

    def to_json(self) -> str:
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "plan") -> Plan:
        """Read a plan; `where` names its origin in errors.

        Raises:
            PlanError: not JSON, an unknown key, a missing one, or a value outside its range; all problems at once.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise PlanError(
                f"{where}: got text that is not JSON ({error}); expected a plan. Restore it, or make it anew with `unetpp plan`."
            ) from None
        return cls.from_dict(values, where)

    @classmethod
    def from_dict(cls, values: Any, where: str = "plan") -> Plan:
        if isinstance(values, dict) and values.get("version", PLAN_VERSION) != PLAN_VERSION:
            raise PlanError(
                f"{where}: got plan version {values['version']!r}; expected {PLAN_VERSION}. Make it anew with `unetpp plan`, or use the release of unetpp that wrote it."
            )
        return checked(cls, values, where)

    def differences(self, other: Plan) -> list[str]:
        """Dotted names of what another plan says otherwise, but for what decides no weight and may change while a run goes on."""
        mine, theirs = (plan.model_dump(mode="json", exclude={"reasons"}) for plan in (self, other))
        names = [
            f"{section}.{key}"
            for section in mine
            if isinstance(mine[section], dict)
            for key in mine[section]
            if mine[section][key] != theirs[section][key]
        ]
        return [name for name in names if name not in WEIGHTLESS]

    def changed(self, settings: Mapping[str, Any]) -> Plan:
        """A plan with the settings `{"section.key": value}` changed; strings are read as JSON where they are JSON.

        Raises:
            PlanError: unknown key (the nearest known one is named) or a value that does not fit.
        """
        values = self.model_dump(mode="json")
        for key, value in parsed_settings(settings).items():
            *sections, last = key.split(".")
            place = values
            for section in sections:
                place = place[section]
            place[last] = value
            values["reasons"][key] = "set by the user"
        return Plan.from_dict(values, "--set")


def checked(cls: type[_Model], values: Any, where: str) -> _Model:
    """Validate `values` as `cls`; a PlanError lists every problem by its dotted name."""
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        problems = [_describe(problem, cls) for problem in error.errors()]
        raise PlanError(f"{where}: " + "; ".join(problems)) from None


def read_plan(path: Path) -> Plan:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(
            f"{path}: got {error.__class__.__name__} ({error}); expected a readable plan.json. Make one with `unetpp plan`."
        ) from None
    return Plan.from_json(text, str(path))


def dotted_names(cls: type[BaseModel], prefix: str = "") -> list[str]:
    """Every settable name of a configuration class, as in `--set train.augment.scale=0.1`."""
    names: list[str] = []
    for name, field in cls.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            names += dotted_names(annotation, f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names


def field_notes(cls: type[BaseModel]) -> dict[str, str]:
    """The text under each field of a configuration class, on one line; nothing where Python has no source."""
    try:
        (tree,) = ast.parse(inspect.getsource(cls)).body
    except OSError:
        return {}
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


def nearest_name(key: str, names: list[str]) -> str:
    """A sentence that names what the user may have meant."""
    close = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    return f"Did you mean {close[0]}?" if close else f"Known: {', '.join(names)}."


def parsed_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings `{"section.key": value}` with texts read as JSON where they are JSON, each checked by itself.

    Raises:
        PlanError: an unknown key (the nearest known one is named), or a value that its field does not take.
    """
    names = dotted_names(Plan)
    values: dict[str, Any] = {}
    for key, value in settings.items():
        if key not in names:
            raise PlanError(f"--set {key}: got an unknown key; expected section.key. {nearest_name(key, names)}")
        if isinstance(value, str):
            with contextlib.suppress(ValueError):
                value = json.loads(value)
        values[key] = _checked_value(key, value)
    return values


def _checked_value(key: str, value: Any) -> Any:
    *sections, last = key.split(".")
    owner: type[BaseModel] = Plan
    for section in sections:
        owner = cast(type[BaseModel], owner.model_fields[section].annotation)
    field = owner.model_fields[last]
    kind: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    try:
        return adapter.dump_python(adapter.validate_python(value), mode="json")
    except ValidationError as error:
        raise PlanError(f"--set {key}: got {value!r}; expected: {error.errors()[0]['msg']}. Change it.") from None


def _describe(problem: Any, cls: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{key}: got an unknown key; expected a key of this version. Remove it. {nearest_name(key, dotted_names(cls))}"
    if problem["type"] == "missing":
        return f"{key}: got nothing; expected a value. Add it, or make the plan anew with `unetpp plan`."
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"])
    return f"{key}: got {problem['input']!r}; expected: {problem['msg']}. Change it."


def _require(condition: bool, key: str, expected: str) -> None:
    if not condition:
        raise ValueError(f"{key}: got a value that does not fit; expected {expected}. Change it.")
