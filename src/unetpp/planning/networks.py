"""Networks among which the planner chooses: what the user set of them, and their first widths."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from unetpp.errors import PlanError
from unetpp.model.build import find_topology, model_plan
from unetpp.model.encoders import EncoderShape, encoder_shape
from unetpp.plan import ModelPlan
from unetpp.planning import rules
from unetpp.planning.inheritance import find_given_width


class Networks:
    """Makes the networks that the settings of the user leave open.

    Args:
        settings: what the user set, by dotted name.
        dims: number of spatial axes of the data.

    Attributes:
        given: fields of `plan.model` that the user set.
        has_width: whether the user has set how wide the network is.
    """

    def __init__(self, settings: Mapping[str, Any], dims: int) -> None:
        self._settings, self._dims = settings, dims
        self.given = {key.removeprefix("model."): value for key, value in settings.items() if key.startswith("model.")}
        self._width = find_given_width(settings)
        self._made: dict[str, dict[int, ModelPlan]] = {}
        self.has_width = not {"widths", "preset"}.isdisjoint(self.given) or self._width is not None

    def list(self, fields: Mapping[str, Any]) -> dict[int, ModelPlan]:
        """Make the networks to choose from, by their first width, the widest first: a single one if the user chose.

        Shells that are fractions do not divide every width: those that they divide are left, if there are any.

        Args:
            fields: fields of `plan.model` that do not depend on the width.
        """
        key = repr(fields)
        if key not in self._made:
            self._made[key] = {0: self._make(fields, self._width)} if self.has_width else self._list_widths(fields)
        return self._made[key]

    def _list_widths(self, fields: Mapping[str, Any]) -> dict[int, ModelPlan]:
        models: dict[int, ModelPlan] = {}
        for width in rules.WIDTH_LADDER:
            try:
                models[width] = self._make(fields, width)
            except PlanError:
                if width == rules.WIDTH_LADDER[-1] and not models:
                    raise
        return {width: model for width, model in models.items() if len(model.shells) > 1} or models

    def _make(self, fields: Mapping[str, Any], first_width: int | None = None) -> ModelPlan:
        """Make a network; a depth for predictions asks for a UNet++ if the user leaves the topology open."""
        return model_plan(**{**fields, "first_width": first_width, **self._given_or_asked})

    @property
    def _given_or_asked(self) -> dict[str, Any]:
        asked = self._settings.get("predict.depth") is not None and self.given.get("preset", "default") == "default"
        return {"topology": "unet++", **self.given} if asked else self.given

    @property
    def has_depths(self) -> bool:
        """Whether the depths of the network are sizes to choose from: whether it has heads at several."""
        return find_topology(**self._given_or_asked) != "unet"

    def find_given_depth(self) -> int | None:
        """Find the depth that the user set, if any."""
        widths = self.given.get("widths")
        return self.given.get("depth", len(widths) - 1 if isinstance(widths, list) else None)

    @cached_property
    def encoder(self) -> EncoderShape | None:
        """Shape of the timm encoder that the user set, if any."""
        name = self.given.get("encoder")
        if name is None or name == "resenc" or self._dims != 2:
            return None
        return encoder_shape(name, self.find_given_depth())
