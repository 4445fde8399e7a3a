"""Configuration classes: all problems reported at once, and fields set by their dotted names."""

from __future__ import annotations

import contextlib
import difflib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from unetpp.errors import PlanError, Problem
from unetpp.json_files import parse_json
from unetpp.words import format_value, shorten

Positive = Annotated[int, Field(ge=1, le=2**31 - 1)]
PositiveFloat = Annotated[float, Field(gt=0)]
Axes = tuple[Positive, ...]
"""A number for each axis."""

_Model = TypeVar("_Model", bound=BaseModel)


class Frozen(BaseModel):
    """Base of configurations: immutable, without unknown keys, and with finite numbers, which JSON can hold."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def require(*rows: tuple[bool, str, str]) -> None:
    """Check conditions between fields, in a validator of a configuration class.

    Args:
        rows: (condition, dotted name of the field to change, expected value).

    Raises:
        ValueError: for the first condition that is false; pydantic collects it, and `validate` adds what was got.
    """
    for condition, key, expected in rows:
        if not condition:
            raise ValueError(Problem(key, "a value that does not fit", expected, "Change it.", key))


def validate(cls: type[_Model], values: Any, where: str = "") -> _Model:
    """Make a configuration of class `cls`.

    Args:
        cls: the configuration class.
        values: its fields, as in JSON.
        where: origin of the values, for errors.

    Raises:
        PlanError: all problems, each with its dotted name.
    """
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        problems = [_as_problem(entry, cls, values) for entry in error.errors()]
        lines = list(map(str, problems))
        text = f"{len(lines)} problems:\n  " + "\n  ".join(lines) if len(lines) > 1 else lines[0]
        raise PlanError.of(problems, f"{where}: {text}" if where else text) from None


def dotted_names(cls: type[BaseModel], prefix: str = "") -> list[str]:
    """List every settable name of a configuration class, such as `train.augment.scale`."""
    names: list[str] = []
    for name, field in cls.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and not _is_one_setting(annotation):
            names += dotted_names(annotation, f"{prefix}{name}.")
        else:
            names.append(prefix + name)
    return names


def _is_one_setting(cls: type[BaseModel]) -> bool:
    """Tell whether a configuration class is set as a whole, by a text (it has a method `to_text` to write it)."""
    return hasattr(cls, "to_text")


def field_notes(cls: type[BaseModel]) -> dict[str, str]:
    """Return the text under each field of a configuration class, on one line; nothing if Python has no source."""
    return {name: " ".join(field.description.split()) for name, field in cls.model_fields.items() if field.description}


ELSEWHERE = {
    "out_channels": "classes num_classes n_classes nb_classes num_labels out_chans output_channels",
    "in_channels": "n_channels num_channels in_chans input_channels",
    "dims": "spatial_dims ndim ndims",
    "encoder": "encoder_name backbone backbone_name",
    "encoder_weights": "encoder_pretrained pretrained weights",
    "depth": "encoder_depth n_stages num_stages num_levels",
    "widths": "features features_per_stage filters channels encoder_channels nb_filter",
    "node_widths": "decoder_channels",
    "convs_per_node": "n_conv_per_stage conv_number num_convs",
    "attention": "decoder_attention_type",
    "norm": "norm_op decoder_use_batchnorm decoder_use_norm batch_norm",
    "activation": "act nonlin",
    "up": "upsample decoder_interpolation upsampling bilinear",
    "kernel_sizes": "kernel_size",
    "train.batch": "batch_size bs",
    "train.learning_rate": "lr learning_rate initial_lr max_lr",
    "train.patch": "patch_size roi_size crop_size img_size image_size imgsz",
    "train.epochs": "num_epochs max_epochs n_epochs",
    "predict.tile": "tile_size sw_roi_size",
    "predict.overlap": "tile_overlap",
    "data.spacing_mm": "spacing pixdim target_spacing",
}
"""Field -> what other libraries call it (segmentation_models.pytorch, MONAI, nnU-Net and others)."""


def find_own_name(key: str, names: Sequence[str]) -> str | None:
    """Find the name of what other libraries call `key`, or of a field that is named without its section."""
    word = key.rpartition(".")[2]
    own = next((field for field, others in ELSEWHERE.items() if word in others.split()), word)
    alike = [name for name in names if name.rpartition(".")[2] == word]
    chosen = next((name for name in (f"data.{word}", own, f"model.{own}") if name in names), None)
    return chosen or (alike[0] if len(alike) == 1 else None)


VALUES_ELSEWHERE = {
    "linear": "bilinear trilinear",
    "cubic": "bicubic",
    "transposed": "deconv transpose convtranspose",
    "silu": "swish",
    "none": "identity false",
}
"""Value -> what other libraries call it, in small letters without separators."""


def find_own_value(value: str, known: Sequence[Any]) -> Any:
    """Find the known value that a text means, such as "batch" for "BatchNorm2d"; None: none, or it is that itself."""
    word = re.sub(r"[^a-z0-9]|norm|(?<=[a-z])[123]d$|(?<=\d)d$", "", value.lower())
    word = next((own for own, others in VALUES_ELSEWHERE.items() if word in others.split()), word)
    found = next((each for each in known if str(each).replace("_", "") == word), None)
    return None if value in known else found


def suggest_name(key: str, names: Sequence[str]) -> str:
    """Suggest the name that `find_own_name` finds, or else the known one that is closest to an unknown one."""
    if own := find_own_name(key, names):
        return f'"{key}" is `{own}` here.'
    close = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    return f"Did you mean {close[0]}?" if close else f"Known: {', '.join(names)}."


def parse_settings(cls: type[BaseModel], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Check settings one by one; texts are read as JSON, or as a list a,b or [a,b] where a field takes one.

    Args:
        cls: configuration class that has the fields.
        settings: `{"section.key": value}`.

    Returns:
        The same keys, with values as in JSON.

    Raises:
        PlanError: an unknown key (the nearest known one is named), or a value that its field does not take.
    """
    names = dotted_names(cls)
    values: dict[str, Any] = {}
    for key, value in settings.items():
        if key not in names:
            raise PlanError(key, "an unknown key", "section.key", suggest_name(key, names))
        values[key] = _parse_text(cls, key, value) if isinstance(value, str) else _parse_value(cls, key, value)
    return values


def _parse_text(cls: type[BaseModel], key: str, text: str) -> Any:
    """Parse a setting as people write it; the errors are those of the first reading."""
    value = _read_json(text)
    try:
        return _parse_value(cls, key, value)
    except PlanError:
        if isinstance(value, bool) or not isinstance(value, str | int | float):  # one number may be a list of one
            raise
        parts = text.strip().removeprefix("[").removesuffix("]").split(",")
        with contextlib.suppress(PlanError):
            return _parse_value(cls, key, [_read_json(part.strip()) for part in parts])
        raise


def _read_json(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return text


def _parse_value(cls: type[BaseModel], key: str, value: Any) -> Any:
    *sections, last = key.split(".")
    for section in sections:
        cls = cast(type[BaseModel], cls.model_fields[section].annotation)
    field = cls.model_fields[last]
    kind: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    try:
        parsed = adapter.dump_python(adapter.validate_python(value), mode="json")
        if not _is_finite(parsed):
            raise PlanError(key, shorten(repr(value)), "finite numbers, which JSON can hold", "Change it.")
        return parsed
    except ValidationError as error:
        raise PlanError(key, shorten(repr(value)), _expect_one(error.errors()[0]), "Change it.") from None


def _is_finite(value: Any) -> bool:
    """Tell whether a value is without NaN and infinity, also in lists and dictionaries."""
    if isinstance(value, dict | list | tuple):
        return all(map(_is_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


def _as_problem(entry: Any, cls: type[BaseModel], values: Any) -> Problem:
    key = ".".join(str(part) for part in entry["loc"])
    if entry["type"] == "extra_forbidden":
        action = f"Remove it. {suggest_name(key, dotted_names(cls))}"
        return Problem(key, "an unknown key", "a key of this version", action, key)
    if entry["type"] == "missing":
        return Problem(key, "nothing", "a value", "Add it, or make a new plan with `unetpp plan`.", key)
    if entry["type"] == "value_error":  # raised by `require`
        problem: Problem = entry["ctx"]["error"].args[0]
        found = [_find_got(cls, values, name) for name in problem.where.split(", ")]
        return replace(problem, got=" and ".join(shorten(format_value(to_jsonable_python(each))) for each in found))
    return Problem(key, shorten(repr(entry["input"])), _expect(entry), "Change it.", key)


def _find_got(cls: type[BaseModel], values: Any, key: str) -> Any:
    """Look up a field in the values of a configuration, or its default; those of a section are without its name."""
    *sections, last = key.split(".")
    for section in sections:
        if section in cls.model_fields:
            values = values.get(section) if isinstance(values, dict) else getattr(values, section, None)
            cls = cast(type[BaseModel], cls.model_fields[section].annotation)
    default = cls.model_fields[last].get_default(call_default_factory=True)
    return values.get(last, default) if isinstance(values, dict) else getattr(values, last, default)


def _expect_one(entry: Any) -> str:
    """Return what was expected of a single setting, also where `require` found the error."""
    problem = entry["ctx"]["error"].args[0] if entry["type"] == "value_error" else None
    return problem.expected if isinstance(problem, Problem) else _expect(entry)


_WORDS = {
    "tuple_type": "a list, such as a,b",
    "list_type": "a list, such as a,b",
    "dict_type": 'names with values, such as {{"a":1}}',
    "model_type": 'names with values, such as {{"a":1}}',
    "model_attributes_type": 'names with values, such as {{"a":1}}',
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "{le:g} or less",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a text",
    "too_short": "at least {min_length} values",
    "too_long": "at most {max_length} values",
}
"""Error types of pydantic -> what was expected, in words of people."""


def _expect(entry: Any) -> str:
    """Return what was expected: in our words, else those of pydantic."""
    words = _WORDS.get(entry["type"])
    return words.format(**entry.get("ctx", {})) if words else str(entry["msg"]).removeprefix("Input should be ")
