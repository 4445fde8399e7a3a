"""Measurements: scores and costs of every depth, and their tables.

The plan holds the settings, these types hold the outcome. They are stored as JSON in metrics.json and in the notes of a
model file. Fields are None where nothing was measured, and keys of other versions are preserved. The column of a table
is declared here, once, with its field: title, unit and format.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from unetpp.words import count_noun

Interval = tuple[float, float]
"""Lower and upper end: 95 %, by bootstrap over cases, unless stated otherwise."""
DISTANCE = "distance"
"""Unit of a column that is in the unit of its table, mm or pixel."""


@dataclass(frozen=True)
class Column:
    """Appearance of a field in every table: in the terminal, in the report and on a model card."""

    title: str
    format: str
    """Format specification of Python's `format`."""
    unit: str = ""
    brief: bool = True
    """False: left out in the terminal, which is narrow."""
    zero: bool = True
    """False: a column of nothing but zeros is left out."""
    spare: int = 0
    """Which columns are left out where the terminal is too narrow: 1 first, then 2, ...; 0 never."""

    def heading(self, distance_unit: str | None) -> str:
        """Return the title with its unit."""
        return f"{self.title} {(distance_unit or '') if self.unit == DISTANCE else self.unit}".strip()

    def text(self, value: float | Interval | None) -> str:
        """Format a value; None becomes a dash."""
        if value is None:
            return "-"
        return " to ".join(format(each, self.format) for each in (value if isinstance(value, tuple) else (value,)))


class Measured(BaseModel):
    """Base of all measurements: frozen, and tolerant of the keys of other versions."""

    model_config = ConfigDict(frozen=True, extra="allow")

    @model_serializer(mode="wrap")
    def _dump_set(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Write only the fields that were set."""
        return {name: value for name, value in dump(self).items() if name in self.model_fields_set}

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that were set, in terms of JSON; numbers that are not finite become None."""
        values: dict[str, Any] = json.loads(self.to_json())
        return values

    def to_json(self) -> str:
        """Return `to_dict` as text."""
        return self.model_dump_json()

    def merge(self, other: Measured) -> Self:
        """Return a copy with the fields that were set in `other`."""
        return self.model_copy(update={name: getattr(other, name) for name in other.model_fields_set})


class Scores(Measured):
    """Scores against references: of a case, of a class, or means."""

    dice: Annotated[float | None, Column("Dice", ".4f")] = None
    dice_interval: Annotated[Interval | None, Column("95 %", ".3f", brief=False)] = None
    dice_lost: Annotated[float | None, Column("Dice lost", ".4f")] = None
    """Dice of the deepest head, minus this Dice."""
    dice_lost_interval: Interval | None = None
    iou: Annotated[float | None, Column("IoU", ".4f", spare=1)] = None
    hd95_mm: Annotated[float | None, Column("HD95", ".2f", DISTANCE)] = None
    hd95_undefined: Annotated[int | None, Column("no HD95", ",d", zero=False, spare=3)] = None
    """Number of times a class is in only one of prediction and reference, so that no distance is defined."""
    nsd: Annotated[float | None, Column("surface Dice", ".4f")] = None
    volume_error: Annotated[float | None, Column("volume error", "+.1f", "%", brief=False)] = None
    """Volume (in images area) of the prediction minus that of the reference, in percent of the reference; of a class,
    or of cases with one class."""


def _renamed(name: str, before: str) -> Any:
    """Declare a field that earlier versions wrote under another name."""
    return Field(default=None, validation_alias=AliasChoices(name, before))


class Calibration(Measured):
    """Calibration of the expected Dice on validation cases; see `infer.calibration`."""

    expected_dice_correlation: float | None = None
    """Rank correlation (Spearman) of the confidence and the true Dice."""
    review_below: float | None = None
    """Confidence below which a case should be reviewed: the lowest of `calibrated_cases`, if they are few."""
    calibrated_cases: int | None = None
    """Number of cases of the calibration; None: none, or an earlier version."""
    expected_dice_slope: float | None = _renamed("expected_dice_slope", "predicted_dice_slope")
    """With the offset: the line from confidence, which is too optimistic, to true Dice."""
    expected_dice_offset: float | None = _renamed("expected_dice_offset", "predicted_dice_offset")
    expected_dice_highest: float | None = None
    """Highest Dice of a case of the calibration: more is expected of none."""
    expected_dice_error: float | None = _renamed("expected_dice_error", "predicted_dice_error")
    """Mean absolute error of the line, each case left out of the fit in turn."""
    confidence_and_dice: tuple[tuple[float, float], ...] = ()
    """Confidence and true Dice of cases that are too few for a line; those of several folds may suffice together."""

    def expect_dice(self, confidence: float | None) -> float | None:
        """Return the Dice that is to be expected of a prediction; None without a confidence or a calibration."""
        if confidence is None or self.expected_dice_slope is None:
            return None
        dice = self.expected_dice_slope * confidence + (self.expected_dice_offset or 0.0)
        return min(1.0 if self.expected_dice_highest is None else self.expected_dice_highest, max(0.0, dice))


class MeanScores(Calibration, Scores):
    """Means over cases, of one depth."""


class ClassScores(Scores):
    """Means of one class over the cases that have it."""

    cases: int | None = None
    pooled_dice: Annotated[float | None, Column("pooled Dice", ".4f", brief=False)] = None
    """Dice over the voxels of all cases together."""
    pooled_iou: Annotated[float | None, Column("pooled IoU", ".4f", brief=False)] = None
    volume_limits: Annotated[Interval | None, Column("limits of agreement", "+.1f", "%", brief=False)] = None
    """Within which 95 % of volume errors lie: their mean and 1.96 standard deviations to both sides (Bland and Altman
    1986, "Statistical methods for assessing agreement between two methods of clinical measurement")."""


class ScoredCase(Measured):
    """Scores of one case."""

    id: str
    mean: Scores = Scores()
    """Mean over the foreground classes."""
    classes: dict[str, Scores] = {}
    confidence: float | None = None
    """Soft Dice confidence of the prediction."""
    expected_dice: float | None = None
    """Dice that the confidence and the calibration predict."""
    depths: dict[int, float | None] = {}
    """Dice at each depth; at 0 that of the mean of all heads."""


class Costs(Measured):
    """Costs of one depth."""

    latency_ms: Annotated[float | None, Column("ms/tile", ".2f")] = None
    predicted_ms: Annotated[float | None, Column("ms there", ".2f")] = None
    """Estimated latency on another machine; never stored."""
    megapixels_per_s: Annotated[float | None, Column("Mpixel/s", ".2f", brief=False)] = None
    """10^6 voxels of a large image per second, overlap of tiles included."""
    peak_memory_mb: Annotated[float | None, Column("memory", ",.1f", "MB", spare=4)] = None
    """Peak memory above the loaded model."""
    energy_j: Annotated[float | None, Column("J/tile", ".2f", spare=2)] = None
    """Energy of the whole processor, other programs included."""
    parameters: Annotated[int | None, Column("parameters", ",d", spare=5)] = None
    """Number of parameters of the network pruned to this depth, without zeros that shells leave in dense layers."""
    file_mb: Annotated[float | None, Column("file", ".1f", "MB", brief=False)] = None
    """Size of a model file of the network pruned to this depth; with shells it stores their zeros too."""
    gmacs: Annotated[float | None, Column("GMACs", ".2f", brief=False)] = None
    """10^9 multiply-adds of one tile, as executed: with shells those of their zeros too."""
    exact_gmacs: Annotated[float | None, Column("GMACs, no zeros", ".2f", brief=False)] = None
    """10^9 multiply-adds of one tile by weights that exist, as `parameters` counts them; null: there are no shells."""
    gbytes: float | None = None
    """10^9 bytes that operations read and write, in float32."""
    nodes: Annotated[int | None, Column("nodes", ",d", brief=False)] = None
    """Number of nodes X[i, j] that are computed."""
    depth: int | None = None
    """In a network with shells: depth of the head."""
    channels: int | None = None
    """In a network with shells: channels of level 0 that the head reads."""


class DepthRow(Costs, MeanScores):
    """Quality and costs of one depth."""

    classes: dict[str, Scores] = {}
    """Dice of each foreground class, if there are several."""

    def costs(self) -> DepthRow:
        """Return a copy without the scores."""
        return DepthRow(**self.model_dump(include=set(Costs.model_fields)))

    def scores(self) -> DepthRow:
        """Return a copy without the costs."""
        return DepthRow(**self.model_dump(exclude=set(Costs.model_fields)))

    def uncalibrated(self) -> DepthRow:
        """Return a copy without the calibration."""
        return DepthRow(**self.model_dump(exclude=set(Calibration.model_fields)))


class Recommendation(Measured):
    """The recommended depth, with shells size: the fastest that loses little."""

    depth: int
    """With shells the number of the size."""
    reason: str


class DepthTable(Measured):
    """All depths, with shells all sizes by number, of one network, and the machine on which they were measured."""

    depths: dict[int, DepthRow] = {}
    mean_of_heads: DepthRow | None = None
    """The mean of all heads, the accurate mode."""
    distance_unit: str | None = None
    conditions: str | None = None
    """Machine and settings of the measurement, in words."""
    machine: dict[str, float] | None = None
    """Peak rates of the machine, from `measure.roofline.measure_ceilings`."""
    recommended: Recommendation | None = None
    scored: tuple[int, int] | None = None
    """Number of validation cases that the scores are of, and that there are; None: not recorded."""
    surfaces_scored: tuple[int, int] | None = None
    """Number of validation cases that distances between surfaces are of, and that there are; None: not recorded."""

    @property
    def is_scored(self) -> bool:
        """Whether the scores are of all validation cases: of a part of them, nothing is concluded."""
        return self.scored is None or self.scored[0] >= self.scored[1]

    @property
    def is_comparable(self) -> bool:
        """Whether quality and time of every size are known, of a network that has learned."""
        verdict = getattr(self, "verdict", None)
        known = all(row.dice is not None and row.latency_ms is not None for row in self.depths.values())
        return bool(self.depths) and known and self.is_scored and (verdict is None or verdict.learned)

    def describe_scored(self) -> str:
        """Say of how many validation cases the scores are; empty if of all."""
        if self.scored is None or self.is_scored:
            return ""
        return f"only {self.scored[0]} of {count_noun(self.scored[1], 'validation case')} scored"

    def count_cases(self) -> dict[str, str]:
        """Write of how many cases scores are, by key, for the headings of their columns; not of those of all cases."""
        counts = {"dice": self.scored, "hd95_mm": self.surfaces_scored, "nsd": self.surfaces_scored}
        return {key: f"{found[0]} of {found[1]}" for key, found in counts.items() if found and found[0] < found[1]}

    @property
    def rows(self) -> dict[str, DepthRow]:
        """All rows by name: depths, then "mean" for the mean of all heads."""
        mean = {} if self.mean_of_heads is None else {"mean": self.mean_of_heads}
        return {**{str(depth): row for depth, row in self.depths.items()}, **mean}

    def as_table(self) -> DepthTable:
        """Return the fields of the table alone."""
        return DepthTable(
            **{name: getattr(self, name) for name in DepthTable.model_fields if name in self.model_fields_set}
        )

    def with_costs(self, costs: DepthTable) -> Self:
        """Return a copy with the costs, conditions and machine of another table."""
        depths = {depth: self.depths.get(depth, DepthRow()).merge(row) for depth, row in costs.depths.items()}
        mean = costs.mean_of_heads and (self.mean_of_heads or DepthRow()).merge(costs.mean_of_heads)
        return self.merge(costs).model_copy(update={"depths": {**self.depths, **depths}, "mean_of_heads": mean})


def list_columns(kind: type[Measured]) -> dict[str, Column]:
    """List the columns of a type by key, in the order of its fields."""
    fields = kind.model_fields.items()
    return {key: column for key, field in fields for column in field.metadata if isinstance(column, Column)}


def find_columns(kind: type[Measured], rows: Collection[Measured]) -> dict[str, Column]:
    """Find the columns of a type that are not empty in all rows."""

    def is_filled(key: str, column: Column) -> bool:
        empty = (None,) if column.zero else (None, 0)
        return any(getattr(row, key, None) not in empty for row in rows)

    return {key: column for key, column in list_columns(kind).items() if is_filled(key, column)}


def write_headings(
    columns: Mapping[str, Column], unit: str | None, counts: Mapping[str, str] | None = None
) -> list[str]:
    """Write the headings of columns; they say of how many cases these are, where that is given."""
    notes = {key: f" ({count})" for key, count in (counts or {}).items()}
    return [f"{column.heading(unit)}{notes.get(key, '')}" for key, column in columns.items()]


def tabulate(
    first: str,
    kind: type[Measured],
    rows: Sequence[tuple[str, Measured]],
    unit: str | None,
    brief: bool = False,
    spared: int = 0,
    counts: Mapping[str, str] | None = None,
) -> list[list[str]]:
    """Make the texts of a table.

    Args:
        first: heading of the first column.
        kind: type whose columns are shown.
        rows: (text of the first column, values).
        unit: unit of distances.
        brief: whether to show only the columns for narrow tables.
        spared: columns up to this rank of `Column.spare` are left out.
        counts: number of cases that columns are of, as `DepthTable.count_cases` writes it; None: of all.

    Returns:
        Headings, then one list of texts for each row.
    """
    filled = find_columns(kind, [row for _, row in rows]).items()
    shown = {key: column for key, column in filled if (column.brief or not brief) and not 0 < column.spare <= spared}
    lines = [[name, *(column.text(getattr(row, key, None)) for key, column in shown.items())] for name, row in rows]
    return [[first, *write_headings(shown, unit, counts)], *lines]
