"""The plan: the one configuration of a run, frozen, checked, readable as JSON.

folder -> `fingerprint.json` -> `plan.json` -> model, data, training. The plan travels inside the model file, so that
prediction, pruning and export read nothing else. Spatial axes are always in the order (Z, Y, X) or (Y, X).
"""

from __future__ import annotations

from collections.abc import Mapping
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
from unetpp.model_plan import ModelPlan
from unetpp.plan_text import read_plan_text, write_plan_text
from unetpp.settings import Axes, Frozen, Positive, parse_settings, require, validate
from unetpp.sizes import parse_size
from unetpp.train_plan import AugmentPlan, TrainPlan
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
