"""Measurements: scores and costs of every depth, rules for early exit, and the notes of a model file.

The plan holds the settings, these types hold the outcome. They are stored as JSON in metrics.json and in the notes of a
model file. Fields are None where nothing was measured, and keys of other versions are preserved. The column of a table
is declared here, once, with its field: title, unit and format.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
)

from unetpp.size_names import SizeNames
from unetpp.words import count_noun

Interval = tuple[float, float]
"""Lower and upper end: 95 %, by bootstrap over cases, unless stated otherwise."""
DISTANCE = "distance"
"""Unit of a column that is in the unit of its table, mm or pixel."""
CALIBRATED_CASES = 5
"""Fewest validation cases for a calibration of the expected Dice."""
UNFINISHED, DIVERGED, TOO_SHORT, OVER_FITTED, IMPROVING, WEAK, NO_GAIN, GOOD = KINDS = (
    "unfinished",
    "diverged",
    "too short",
    "over-fitted",
    "still improving",
    "weak",
    "no gain",
    "good",
)
"""Kinds of verdicts: that which most needs something done first."""


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


MAX_DROP = 0.3
"""Points (hundredths) of Dice that early exit may lose against the largest size, where the user says nothing."""


class Rule(Measured):
    """Thresholds of early exit, and what they lose and save; see `deploy.adapt`."""

    doubts: tuple[float | None, ...]
    """Uncertainty below which a tile exits, for each depth but the deepest; None: no tile exits there."""
    dice_lost: float
    """Dice of the deepest head, minus that of the rule."""
    dice_lost_interval: Interval | None = None
    tiles: dict[int, int] = {}
    """Number of tiles that exit at each depth."""
    time: float
    """Time as a fraction of that of the deepest head."""

    @property
    def exits(self) -> bool:
        """Whether a tile may exit before the deepest head."""
        return any(limit is not None for limit in self.doubts)

    @property
    def points_at_worst(self) -> float:
        """Points (hundredths) of Dice that it may lose, by the upper end of the interval over cases."""
        return 100 * (self.dice_lost_interval[1] if self.dice_lost_interval else self.dice_lost)

    @property
    def taken(self) -> tuple[int, ...]:
        """Depths, with shells numbers of sizes, at which a tile has exited."""
        return tuple(depth for depth, tiles in self.tiles.items() if tiles)


def find_rule(rules: Sequence[Rule], max_drop: float = MAX_DROP) -> Rule | None:
    """Find the fastest rule that loses at most so many points of Dice, by the upper end of the interval; None: none."""
    good = [rule for rule in rules if rule.points_at_worst <= max_drop + 1e-7]
    return min(good, key=lambda rule: rule.time, default=None)


class Training(Measured):
    """Outcome of a training."""

    reason: str
    """Why training ended: finished or patience."""
    steps: int
    best_dice: float | None
    """None without validation."""
    best_step: int
    seconds: float
    data_wait: float
    """Fraction of the time in which the network waited for data."""


class Verdict(Measured):
    """How a training stands; see `measure.verdict`."""

    kind: str
    """One of `KINDS`."""
    reason: str
    """One sentence, with the figures."""
    advice: str
    """What to do next, in words; empty: nothing."""
    more_minutes: float | None = None
    """Further training that is worth its time."""
    learned: bool = True
    """Whether the network has learned enough to be judged: otherwise its depths are not compared."""
    fold: int | str | None = None
    """Fold to which the advice applies; "all": to each of several."""
    trained_size: str = ""
    """Where a file holds a part of the network that was trained: the largest size of that, as in "depth 4"."""

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to do for the training, so that prediction comes next."""
        return self.kind in (NO_GAIN, GOOD)

    @property
    def finding(self) -> str:
        """The reason; where a file holds a part of the network, with that of which it speaks."""
        if not self.trained_size:
            return self.reason
        return f"Of the full network, {self.trained_size}: {self.reason[:1].lower()}{self.reason[1:]}"

    def of_part(self, trained_size: str) -> Verdict:
        """Return it for a part of the network, of which the largest size is given."""
        return self.model_copy(update={"trained_size": trained_size})

    def __str__(self) -> str:
        return f"{self.finding} {self.advice}".strip()


class FineTuning(Measured):
    """Outcome of fine-tuning a pruned network."""

    dice_before: float
    dice: float
    """Equal to `dice_before` if nothing better was found: then the weights are unchanged."""
    steps: int

    def __str__(self) -> str:
        if not self.steps:
            return "not fine-tuned, because the time was over before the first step: give it more `minutes`"
        done = f"fine-tuned for {count_noun(self.steps, 'step')}: "
        if self.dice == self.dice_before:
            return f"{done}no validation Dice above {self.dice:.4f} was found, and the weights are unchanged"
        return f"{done}validation Dice {self.dice_before:.4f} before, {self.dice:.4f} after"


class Notes(DepthTable):
    """Notes of a model file, recorded when it was written."""

    unetpp: str | None = None
    """Version of unetpp that trained the model."""
    fold: int | str | None = None
    seed: int | None = None
    training: Training | None = None
    verdict: Verdict | None = None
    dice: float | None = None
    """During training: validation Dice of the deepest head, at `step`."""
    step: int | None = None
    mean: MeanScores = MeanScores()
    auto: tuple[Rule, ...] = ()
    """Rules of early exit, the most careful first."""
    pruned_from_depth: int | None = None
    pruned_from_size: str | None = None
    """Name of the largest size of the network with shells from which this one was cut."""
    finetuning: FineTuning | None = None
    imported_from: str | None = None
    """Name of the network in another library."""
    ignored: dict[str, str] = {}
    """Tensor of the checkpoint that is not used -> why."""
    assumed: dict[str, str] = {}
    """Field of the plan that the checkpoint does not determine -> why it has its value."""

    def explain_no_expected_dice(self) -> str:
        """Say why no Dice can be expected of predictions; empty if it can."""
        if self.verdict and not self.verdict.learned:
            return "the network has hardly learned"
        if any(row.expected_dice_slope is not None for row in self.rows.values()):
            return ""
        if self.finetuning:
            return "not measured since the network was fine-tuned"
        if self.training is None:
            return "no scores in the model file"
        if partial := self.describe_scored():
            return partial
        where = "" if self.fold is None else f" in fold {self.fold}"
        if all(row.dice is None for row in self.rows.values()):
            return f"no validation{where}"
        return f"fewer than {CALIBRATED_CASES} validation cases{where}"

    @field_validator("auto", mode="before")
    @classmethod
    def _drop_old_rules(cls, rules: object) -> object:
        """Drop rules with one threshold for all depths, which an earlier version wrote."""
        if not isinstance(rules, list):
            return rules
        return [rule for rule in rules if not isinstance(rule, dict) or "doubts" in rule]


def has_unlearned(folds: Sequence[Notes]) -> bool:
    """Whether a network of some folds has hardly learned."""
    return any(fold.verdict and not fold.verdict.learned for fold in folds)


def explain_no_expected_dice(folds: Sequence[Notes]) -> str:
    """Say why no Dice can be expected of predictions by some folds; empty if one, or all together, are calibrated."""
    unlearned, pairs = has_unlearned(folds), Counter[int]()
    for fold in folds:
        pairs.update({depth: len(row.confidence_and_dice) for depth, row in fold.depths.items()})
    if not unlearned and max(pairs.values(), default=0) >= CALIBRATED_CASES:
        return ""
    reasons = [fold.explain_no_expected_dice() for fold in folds]
    return "; ".join(dict.fromkeys(filter(None, reasons))) if unlearned or all(reasons) else ""


class ExportNotes(DepthTable):
    """What an exported file says of its network; `depths` are those of its outputs, in their order.

    With shells they are numbers of sizes of the network that was exported.
    """

    name: str = ""
    """Name of the data set of the training."""
    folds: tuple[int, ...] = ()
    """Folds whose probabilities are averaged, if there are several."""
    parameters: int | None = None
    """Number of parameters, of all folds together."""
    int8: bool = False
    """Computes in 8-bit integers."""
    verdict: Verdict | None = None
    """How its training stands, of several folds that which most needs something done."""
    no_expected_dice: str = ""
    """Why no Dice is expected of predictions; empty if one is."""
    imported_from: str | None = None
    """Where the network was trained, if not here: then the data set is not known."""
    network_depth: int | None = None
    """Depth of the network; None: not recorded by an earlier version."""
    shell_channels: tuple[int, ...] = (1,)
    """Channels of level 0 up to and with each shell."""
    words: dict[str, int] = {}
    """What the sizes of the model were called that are in the file: small, medium, large."""

    @property
    def sizes(self) -> SizeNames:
        """The sizes in the file, and their names."""
        return SizeNames(tuple(self.depths), self.network_depth or max(self.depths), self.shell_channels, self.words)


class Metrics(DepthTable):
    """Content of metrics.json."""

    mean: MeanScores = MeanScores()
    """Mean over cases of the mean over foreground classes."""
    pooled: Scores = Scores()
    """Scores over the voxels of all cases together."""
    classes: dict[str, ClassScores] = {}
    cases: tuple[ScoredCase, ...] = ()
    nsd_tolerance: float | None = None
    """Tolerance of the surface Dice, in the distance unit."""
    metric_impl: str | None = None
    """Implementation of the distances."""
    scoring_s: float | None = None
    """Seconds that scoring the cases took; a further training keeps as many free."""
    verdict: Verdict | None = None
    unfinished: tuple[str, ...] = ()
    """What was not measured because the time was over, in words; `unetpp report` measures all of it."""


def read_metrics(path: Path) -> Metrics | None:
    """Read a metrics.json; None if it is absent or cannot be used."""
    try:
        return Metrics.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None


def count_surfaces(cases: Iterable[ScoredCase]) -> int:
    """Count cases with distances between surfaces; one without a Dice has no surface to measure."""
    return sum(case.mean.nsd is not None or case.mean.dice is None for case in cases)


def tabulate_cases(metrics: Metrics) -> str:
    """Write the scores of every case and class as CSV; what is not defined is empty."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    columns = ["case", "class", "dice", "iou", "hd95", "surface_dice", "distance_unit", "volume_error_percent"]
    table.writerow(columns)
    for case in metrics.cases:
        for name, scores in case.classes.items():
            values = (scores.dice, scores.iou, scores.hd95_mm, scores.nsd)
            table.writerow([case.id, name, *values, metrics.distance_unit, scores.volume_error])
    return text.getvalue()


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
