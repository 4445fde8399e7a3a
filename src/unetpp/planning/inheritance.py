"""What a training that starts from a model takes over from its plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unetpp.errors import UsageError
from unetpp.model.pruned_plan import prune_plan, scale_widths
from unetpp.plan import ModelPlan, Normalization, Plan
from unetpp.planning import geometry_rules
from unetpp.planning.choice import Choice
from unetpp.planning.fingerprint import ChannelFacts, Fingerprint
from unetpp.sizes import Size

AS_THERE = "as in the model that training starts from"
_ANY_DATA = {"dims", "in_channels", "out_channels", "encoder_weights"}
"""Fields of `plan.model` that the new data decides, or that the weights of the model replace."""
_OF_AXES = {"kernel_sizes", "nested_kernel_sizes", "divisor"}
"""Fields of `plan.model` with a number for each axis."""
_TOLD = ("topology", "depth", "widths", "strides", "norm", "block", "encoder")
"""Fields of `plan.model` whose origin the plan tells; the others go with them."""
NEAR = 5.0
"""Standard deviations within which the mean of new data lies if it is on the scale of a fixed normalization."""


def inherit(start: Plan, origin: str, fingerprint: Fingerprint, settings: Mapping[str, Any]) -> dict[str, Choice[Any]]:
    """Choose fields of a plan so that the weights of a model fit.

    Args:
        start: plan of the model.
        origin: what the plan records of it.
        fingerprint: the new data.
        settings: what the user sets, which is not inherited.

    Returns:
        Values as in JSON, with their reasons, by dotted name.

    Raises:
        UsageError: the model has an encoder of timm, and the new data is 3D.
    """
    found: dict[str, Choice[Any]] = {"train.start": Choice(origin, "given")}
    if "model.preset" not in settings and settings.get("model.encoder", start.model.encoder) == start.model.encoder:
        model = _fit_model(start.model, fingerprint, settings)
        found |= {f"model.{name}": Choice(value, AS_THERE * (name in _TOLD)) for name, value in model.items()}
        if (first := model["widths"][0]) != start.model.widths[0]:
            found["model.widths"] = Choice(model["widths"], f"{AS_THERE}, but {first} channels for model.shells")
    if normalization := _fit_normalization(start, fingerprint):
        values = [each.model_dump(mode="json") for each in normalization]
        found["data.normalization"] = Choice(values, AS_THERE)
    return {name: choice for name, choice in found.items() if name not in settings}


def find_given_width(settings: Mapping[str, Any]) -> int | None:
    """Find the first width that the user's shells have, if they are channels and not fractions."""
    shells = settings.get("model.shells")
    widest = shells[-1] if isinstance(shells, list | tuple) and shells else 1
    return int(widest) if widest > 1 and "model.widths" not in settings else None


def _fit_model(model: ModelPlan, fingerprint: Fingerprint, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the network at the wanted depth, without those that the data decides."""
    left_out = set(_ANY_DATA)
    widths, strides = settings.get("model.widths"), settings.get("model.strides")
    depth = settings.get("model.depth") or (len(widths) - 1 if widths else len(strides) if strides else model.depth)
    if model.dims != fingerprint.dims:
        if model.encoder not in (None, "resenc"):
            got = f"a 2D network with the encoder {model.encoder}"
            raise UsageError("from_", got, "a model that fits this 3D data", "Choose another model.")
        left_out |= _OF_AXES
        shape, spacing = fingerprint.median_shape, fingerprint.median_spacing_mm
        strides = strides or geometry_rules.choose_strides(shape, spacing, depth).value
        model, depth = model.model_copy(update={"strides": strides}), len(strides)
        if model.up == "cubic":
            left_out |= {"up"}
    widest = Size(depth, len(model.shells) - 1).number(model.depth)
    fitted = prune_plan(model, widest, keep_heads=True) if depth <= model.depth else _deepen(model, depth)
    if first_width := find_given_width(settings):
        fitted = scale_widths(fitted, first_width / fitted.widths[0])
    return fitted.model_dump(mode="json", exclude=left_out)


def _deepen(model: ModelPlan, depth: int) -> ModelPlan:
    """Add levels below: twice as wide each, otherwise like the deepest."""
    more = depth - model.depth

    def repeat(values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        return values and (*values, *values[-1:] * more)

    def widen(values: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return values and (*values, *(min(values[-1] * 2**n, max(320, values[-1])) for n in range(1, more + 1)))

    widths = {name: widen(getattr(model, name)) for name in ("widths", "nested_widths", "up_widths")}
    names = ("strides", "kernel_sizes", "nested_kernel_sizes", "encoder_blocks")
    return model.model_copy(update={"depth": depth, **widths, **{name: repeat(getattr(model, name)) for name in names}})


def _fit_normalization(start: Plan, fingerprint: Fingerprint) -> list[Normalization]:
    """Return the normalization of each channel of the new data; empty if not all of them are on the model's scale."""
    known = dict(zip(start.data.channels, start.data.normalization, strict=True))
    if len(known) == len(fingerprint.channels) and not any(each.name in known for each in fingerprint.channels):
        known = dict(zip((each.name for each in fingerprint.channels), known.values(), strict=True))
    found = [known.get(each.name) for each in fingerprint.channels]
    fits = [each for each, facts in zip(found, fingerprint.channels, strict=True) if each and _is_near(each, facts)]
    return fits if len(fits) == len(found) else []


def _is_near(normalization: Normalization, facts: ChannelFacts) -> bool:
    return normalization.per_case or abs(facts.foreground_mean - normalization.mean) <= NEAR * normalization.std
