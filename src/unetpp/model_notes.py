"""What is noted of a trained model: its verdict, rules for early exit, the notes of its file, and metrics.json."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import Field, field_validator

from unetpp.measured import ClassScores, DepthTable, Interval, MeanScores, Measured, ScoredCase, Scores
from unetpp.size_names import SizeNames
from unetpp.words import count_noun

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
MAX_DROP = 0.3
"""Points (hundredths) of Dice that early exit may lose against the largest size, where the user says nothing."""


class Rule(Measured):
    """Thresholds of early exit, and what they lose and save; see `deploy.adapt`."""

    doubts: tuple[float | None, ...]
    """Uncertainty below which a tile exits, for each depth but the deepest; None: no tile exits there."""
    dice_lost: float
    """Dice of the deepest head, minus that of the rule."""
    dice_lost_interval: Interval | None = None
    tiles: dict[int, int] = Field(default_factory=dict)
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
    ignored: dict[str, str] = Field(default_factory=dict)
    """Tensor of the checkpoint that is not used -> why."""
    assumed: dict[str, str] = Field(default_factory=dict)
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
    words: dict[str, int] = Field(default_factory=dict)
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
    classes: dict[str, ClassScores] = Field(default_factory=dict)
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
