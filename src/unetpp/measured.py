"""What was measured: scores and costs of every depth, rules for early exit, and the notes of a model file.

The plan says what is wanted, these say what came of it; metrics.json, the notes in a model file and `--json` hold them as JSON. Fields are None where
nothing was measured, and keys of other versions are kept. A column of a table is declared here, once, beside its field: title, unit and format.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, field_validator

Interval = tuple[float, float]
"""Lower and upper end; by bootstrap over cases, 95 %, where nothing else is said."""
DISTANCE = "distance"
"""The unit of a column whose numbers are in the unit of its table, mm or pixel."""


@dataclass(frozen=True)
class Column:
    """How one field is shown in every table: in the terminal, in the report and on a model card."""

    title: str
    format: str
    """For Python's `format`."""
    unit: str = ""
    brief: bool = True
    """False: left out in the terminal, where there is little room."""
    zero: bool = True
    """False: a column of nothing but zeros is left out."""

    def heading(self, distance_unit: str | None) -> str:
        """The title with its unit."""
        return f"{self.title} {(distance_unit or '') if self.unit == DISTANCE else self.unit}".strip()

    def text(self, value: float | Interval | None) -> str:
        """A value of the column; a dash where there is none."""
        if value is None:
            return "-"
        return " to ".join(format(each, self.format) for each in (value if isinstance(value, tuple) else (value,)))


class Measured(BaseModel):
    """Base of all that was measured: frozen, and lenient to what other versions write."""

    model_config = ConfigDict(frozen=True, extra="allow")

    def to_dict(self) -> dict[str, Any]:
        """Return what was set, in terms of JSON; numbers that are not finite become None."""
        values: dict[str, Any] = json.loads(self.to_json())
        return values

    def to_json(self) -> str:
        """Return `to_dict` as text."""
        return self.model_dump_json(exclude_unset=True)

    def joined(self, other: Measured) -> Self:
        """Copy, with all that was set in `other`."""
        return self.model_copy(update={name: getattr(other, name) for name in other.model_fields_set})


class Scores(Measured):
    """Scores against references: of one case or class, or means."""

    dice: Annotated[float | None, Column("Dice", ".4f")] = None
    dice_interval: Annotated[Interval | None, Column("95 %", ".3f", brief=False)] = None
    dice_lost: Annotated[float | None, Column("Dice lost", ".4f")] = None
    """How much lower the Dice is than at the deepest head."""
    dice_lost_interval: Interval | None = None
    iou: Annotated[float | None, Column("IoU", ".4f")] = None
    hd95_mm: Annotated[float | None, Column("HD95", ".2f", DISTANCE)] = None
    hd95_undefined: Annotated[int | None, Column("no HD95", ",d", zero=False)] = None
    """How often a class is in one of prediction and reference only, so that there is no distance."""
    nsd: Annotated[float | None, Column("surface Dice", ".4f")] = None


class Calibration(Measured):
    """What the Dice that a network expects is worth, from validation cases; see `confidence.calibrate`."""

    expected_dice_correlation: float | None = None
    review_below: float | None = None
    predicted_dice_slope: float | None = None
    predicted_dice_offset: float | None = None
    predicted_dice_error: float | None = None


class MeanScores(Calibration, Scores):
    """Means over cases, of one depth."""


class ClassScores(Scores):
    """Means of one class over the cases that have it."""

    cases: int | None = None
    pooled_dice: Annotated[float | None, Column("pooled Dice", ".4f", brief=False)] = None
    """Of all voxels of all cases as one."""
    pooled_iou: Annotated[float | None, Column("pooled IoU", ".4f", brief=False)] = None


class ScoredCase(Measured):
    """Scores of one case."""

    id: str
    mean: Scores = Scores()
    """Over its foreground classes."""
    classes: dict[str, Scores] = {}
    expected_dice: float | None = None


class Costs(Measured):
    """What one depth costs."""

    latency_ms: Annotated[float | None, Column("ms/tile", ".2f")] = None
    predicted_ms: Annotated[float | None, Column("ms there", ".2f")] = None
    """On another machine; never written."""
    megapixels_per_s: Annotated[float | None, Column("Mpixel/s", ".2f", brief=False)] = None
    """10^6 voxels of a large image, for each second: tiles overlap."""
    peak_memory_mb: Annotated[float | None, Column("memory", ",.1f", "MB")] = None
    """Above the loaded model."""
    energy_j: Annotated[float | None, Column("J/tile", ".2f")] = None
    """Of the whole processor: other programs count."""
    parameters: Annotated[int | None, Column("parameters", ",d")] = None
    """Of the network pruned to this depth."""
    file_mb: Annotated[float | None, Column("file", ".1f", "MB", brief=False)] = None
    """Size of a model file with only these parameters."""
    gmacs: Annotated[float | None, Column("GMACs", ".2f", brief=False)] = None
    """10^9 multiply-adds of one tile."""
    gbytes: float | None = None
    """10^9 bytes in and out of its operations, in float32."""
    nodes: Annotated[int | None, Column("nodes", ",d", brief=False)] = None
    """Blocks X[i, j] that are computed."""


class DepthRow(Costs, MeanScores):
    """One depth: how good it is, and what it costs."""

    classes: dict[str, Scores] = {}
    """Dice of each foreground class, where there are several."""

    def costs(self) -> DepthRow:
        """Copy without the scores."""
        return DepthRow(**self.model_dump(include=set(Costs.model_fields), exclude_unset=True))


class Recommendation(Measured):
    """The depth that saves most and loses little."""

    depth: int
    reason: str


class DepthTable(Measured):
    """All depths of one network, and what their costs were measured on."""

    depths: dict[int, DepthRow] = {}
    mean_of_heads: DepthRow | None = None
    """All heads at once, the accurate mode."""
    distance_unit: str | None = None
    conditions: str | None = None
    """One line for people."""
    machine: dict[str, float] | None = None
    """What it can do at best, as `measure.roofline.measure_ceilings` has it."""
    recommended: Recommendation | None = None

    @property
    def rows(self) -> dict[str, DepthRow]:
        """All rows by their name: depths, then "mean", that of all heads."""
        mean = {} if self.mean_of_heads is None else {"mean": self.mean_of_heads}
        return {**{str(depth): row for depth, row in self.depths.items()}, **mean}

    def with_costs(self, costs: DepthTable) -> Self:
        """Copy, with the costs, conditions and machine of another table."""
        depths = {depth: self.depths.get(depth, DepthRow()).joined(row) for depth, row in costs.depths.items()}
        mean = costs.mean_of_heads and (self.mean_of_heads or DepthRow()).joined(costs.mean_of_heads)
        return self.joined(costs).model_copy(update={"depths": {**self.depths, **depths}, "mean_of_heads": mean})


class Rule(Measured):
    """How sure a head has to be to answer for a tile, and what that loses and saves; see `deploy.adapt`."""

    doubts: tuple[float | None, ...]
    """At which a tile stops at each depth but the deepest; None: it never does."""
    dice_lost: float
    """Against the deepest head."""
    dice_lost_interval: Interval | None = None
    tiles: dict[int, int] = {}
    """How many stop at each depth."""
    time: float
    """Share of that of the deepest head."""


class Training(Measured):
    """How a training went."""

    reason: str
    """Why it ended: finished or patience."""
    steps: int
    best_dice: float
    best_step: int
    seconds: float
    data_wait: float
    """Share of the time in which the network waited for data."""


class FineTuning(Measured):
    """What came of training a pruned network further."""

    dice_before: float
    dice: float
    """The same as before where nothing better was found: then the weights are as they were."""
    steps: int

    def __str__(self) -> str:
        if self.dice == self.dice_before:
            return f"fine-tuned for {self.steps} steps, which found nothing better than its validation Dice of {self.dice:.4f}: the weights are as they were"
        return (
            f"fine-tuned for {self.steps} steps: validation Dice {self.dice_before:.4f} before, {self.dice:.4f} after"
        )


class Notes(DepthTable):
    """What was recorded in a model file when it was written."""

    unetpp: str | None = None
    """Version that trained it."""
    fold: int | None = None
    seed: int | None = None
    training: Training | None = None
    dice: float | None = None
    """While it trains: of the deepest head, at `step`."""
    step: int | None = None
    mean: MeanScores = MeanScores()
    auto: tuple[Rule, ...] = ()
    """Rules of `predict --depth auto`, the most careful first."""
    pruned_from_depth: int | None = None
    finetuning: FineTuning | None = None
    imported_from: str | None = None
    """The network that it was in another library."""
    ignored: dict[str, str] = {}
    """Tensor of the checkpoint that is not used -> why."""
    assumed: dict[str, str] = {}
    """Field of the plan that the checkpoint does not say -> why it has its value."""

    @field_validator("auto", mode="before")
    @classmethod
    def _current(cls, rules: object) -> object:
        """Leave out rules of one doubt for all depths: they are of an earlier version."""
        if not isinstance(rules, list):
            return rules
        return [rule for rule in rules if not isinstance(rule, dict) or "doubts" in rule]


class Metrics(DepthTable):
    """The content of metrics.json."""

    mean: MeanScores = MeanScores()
    """Over cases of the mean over foreground classes."""
    pooled: Scores = Scores()
    """Of all voxels of all cases as one."""
    classes: dict[str, ClassScores] = {}
    cases: tuple[ScoredCase, ...] = ()
    nsd_tolerance: float | None = None
    """Of the surface Dice, in the distance unit."""
    metric_impl: str | None = None
    """Which implementation the distances come from."""


def read_metrics(path: Path) -> Metrics | None:
    """Read a metrics.json; None where there is none, or it cannot be used."""
    try:
        return Metrics.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None


def declared(kind: type[Measured]) -> dict[str, Column]:
    """Columns by key, in the order of the fields."""
    fields = kind.model_fields.items()
    return {key: column for key, field in fields for column in field.metadata if isinstance(column, Column)}


def columns(kind: type[Measured], rows: Collection[Measured]) -> dict[str, Column]:
    """Columns in which the rows of a table have something to say."""

    def says(key: str, column: Column) -> bool:
        nothing = (None,) if column.zero else (None, 0)
        return any(getattr(row, key, None) not in nothing for row in rows)

    return {key: column for key, column in declared(kind).items() if says(key, column)}


def tabulate(
    first: str, kind: type[Measured], rows: Sequence[tuple[str, Measured]], unit: str | None, brief: bool = False
) -> list[list[str]]:
    """Make the texts of a table: headings, then a line for each row.

    Args:
        first: heading of the names.
        kind: whose columns are shown.
        rows: each with its name.
        unit: of distances.
        brief: only the columns for which there is always room.
    """
    found = columns(kind, [row for _, row in rows]).items()
    shown = {key: column for key, column in found if column.brief or not brief}
    lines = [[name, *(column.text(getattr(row, key, None)) for key, column in shown.items())] for name, row in rows]
    return [[first, *(column.heading(unit) for column in shown.values())], *lines]
