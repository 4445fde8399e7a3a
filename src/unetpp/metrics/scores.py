"""Scores of a segmentation against its reference: Dice, IoU, HD95 and surface Dice.

Distances are those of `surfaces`, equal to MONAI's; every result names this in `metric_impl`, because other
implementations give other numbers. Dice and IoU are computed from counts of voxels, which pooling needs anyway. A class
in neither segmentation has no score (None); a class in only one of them has Dice, IoU and surface Dice 0, and no
distance (None).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unetpp.labels.classes import find_region, ignored_index, list_regions
from unetpp.measured import ClassScores, Interval, MeanScores, ScoredCase, Scores
from unetpp.metrics.surfaces import score_surfaces
from unetpp.model_notes import Metrics
from unetpp.slabs import Sliced, slabs

METRICS = ("dice", "iou", "hd95_mm", "nsd")
TOLERANCE = 1.0
"""Tolerance of the surface Dice, in mm, or in pixels without spacing."""
METRIC_IMPL = "voxel centers, equal to MONAI's"
"""Definition of the distances, in words."""
BOOTSTRAP_DRAWS, DRAWN_VALUES = 2000, 2_000_000
"""Least number of bootstrap draws; and number of values to draw in all, so that small samples, whose interval reaches
further into the tails, are drawn more often."""


@dataclass(frozen=True, slots=True)
class ClassScore:
    """Scores of one foreground class of one case."""

    dice: float | None
    iou: float | None
    hd95_mm: float | None
    """95th percentile of the distances between the surfaces, in the unit of the case."""
    nsd: float | None
    """Normalized surface Dice at a tolerance of 1 mm or 1 pixel."""
    intersection: int
    """Number of voxels of the class in both segmentations."""
    predicted: int
    """Number of voxels of the class in the prediction."""
    expected: int
    """Number of voxels of the class in the reference."""

    @property
    def undefined_distance(self) -> bool:
        """Whether only one of the two segmentations has the class: an infinite distance."""
        return (self.predicted > 0) != (self.expected > 0)

    @property
    def volume_error(self) -> float | None:
        """Volume of the prediction minus that of the reference, in percent of the latter; None if that is empty."""
        return 100 * (self.predicted - self.expected) / self.expected if self.expected else None


@dataclass(frozen=True, slots=True)
class CaseScore:
    """Scores of one case."""

    id: str
    classes: tuple[ClassScore, ...]
    """Foreground classes in the order of their indices 1, 2, ..., or regions in theirs."""
    unit: Literal["mm", "pixel"]
    """Unit of `hd95_mm` and of the tolerance of `nsd`."""

    def mean(self) -> Scores:
        """Average each metric over the foreground classes that have it; volumes of several classes have no mean."""
        error = self.classes[0].volume_error if len(self.classes) == 1 else None
        return Scores(**_average(self.classes), volume_error=error)

    def to_scored_case(self, names: Sequence[str]) -> ScoredCase:
        """Convert to an entry of metrics.json; `names` are those of the foreground classes."""
        classes = {
            name: Scores(**_average([score]), volume_error=score.volume_error)
            for name, score in zip(names, self.classes, strict=True)
        }
        return ScoredCase(id=self.id, mean=self.mean(), classes=classes)


@dataclass(frozen=True)
class Validation:
    """Dice on the validation cases during training."""

    depths: dict[int, float]
    """Mean over cases of the mean over foreground classes, by depth of the head."""
    train_dice: float | None = None
    """Dice of the deepest head on some training cases, computed in the same way."""
    loss: float | None = None
    """Loss of training on patches of the validation cases."""

    @property
    def dice(self) -> float:
        """Dice of the deepest head."""
        return self.depths[max(self.depths)]


def score_case(
    case_id: str,
    prediction: np.ndarray,
    reference: np.ndarray,
    num_classes: int,
    spacing_mm: Sequence[float] | None = None,
    *,
    surface_metrics: bool = True,
    regions: Sequence[Sequence[int]] | None = None,
) -> CaseScore:
    """Score a segmentation against its reference.

    Args:
        case_id: name of the case.
        prediction: class indices (*spatial).
        reference: class indices (*spatial). Voxels that nobody labeled (`ignored_index`) count as background in both.
        num_classes: number of classes, background included.
        spacing_mm: voxel size in mm along each axis; None: distances are in pixels.
        surface_metrics: False leaves out HD95 and surface Dice, which take most of the time.
        regions: class indices of each region that is scored; None: every foreground class.

    Raises:
        ValueError: the shapes differ.
    """
    if prediction.shape != reference.shape:
        raise ValueError(
            f"{case_id}: got a prediction of shape {prediction.shape}; expected {reference.shape}, as in the reference."
        )
    ignored = reference == ignored_index(num_classes)
    if ignored.any():
        prediction, reference = (np.where(ignored, 0, each) for each in (prediction, reference))
    spacing = None if spacing_mm is None else tuple(float(size) for size in spacing_mm)
    scores = tuple(
        _score_class(find_region(prediction, region), find_region(reference, region), spacing, surface_metrics)
        for region in list_regions(num_classes, regions)
    )
    return CaseScore(case_id, scores, "pixel" if spacing is None else "mm")


def fast_dice(
    prediction: Sliced,
    reference: Sliced,
    num_classes: int,
    regions: Sequence[Sequence[int]] | None = None,
) -> float | None:
    """Compute the mean Dice of the foreground classes or regions in either segmentation, in little time (in training).

    Args:
        prediction: class indices (*spatial).
        reference: class indices (*spatial); voxels that nobody labeled (`ignored_index`) are left out.
        num_classes: number of classes, background included.
        regions: class indices of each region that is scored; None: every foreground class.

    Returns:
        0 to 1; None if there is no foreground in either.
    """
    pairs = count_pairs(prediction, reference, num_classes)
    sizes = pairs.sum(axis=0) + pairs.sum(axis=1)
    parts = list_regions(num_classes, regions)
    overlaps = [(pairs[np.ix_(part, part)].sum(), sizes[list(part)].sum()) for part in parts]
    return mean_of(2 * float(overlap) / float(size) if size else None for overlap, size in overlaps)


def count_pairs(prediction: Sliced, reference: Sliced, num_classes: int) -> np.ndarray:
    """Count voxels (classes of the reference, classes of the prediction), slab by slab; arguments as of `fast_dice`."""
    pairs = np.zeros(num_classes**2, np.int64)
    for slices in slabs(reference.shape):
        found, true = prediction[slices].ravel(), reference[slices].ravel()
        labeled = true != ignored_index(num_classes)
        if not labeled.all():
            found, true = found[labeled], true[labeled]
        pairs += np.bincount(true.astype(np.int32) * num_classes + found, minlength=num_classes**2)
    return pairs.reshape(num_classes, num_classes)


def summarize(scores: Sequence[CaseScore], classes: Sequence[str]) -> Metrics:
    """Summarize cases as metrics.json does, without its depths.

    `mean` is the mean over cases of the mean over foreground classes; `pooled` treats all cases as a single one.

    Args:
        scores: one for each case.
        classes: names of all classes, background first; or the background, then the regions.
    """
    names = list(classes[1:])
    cases = [score.to_scored_case(names) for score in scores]
    by_class = {name: _summarize_class([score.classes[n] for score in scores]) for n, name in enumerate(names)}
    dice = [case.mean.dice for case in cases if case.mean.dice is not None]
    return Metrics(
        mean=MeanScores(
            **_average([case.mean for case in cases]),
            dice_interval=bootstrap_interval(dice),
            hd95_undefined=sum(found.hd95_undefined or 0 for found in by_class.values()),
        ),
        pooled=Scores(
            dice=mean_of(found.pooled_dice for found in by_class.values()),
            iou=mean_of(found.pooled_iou for found in by_class.values()),
        ),
        classes=by_class,
        cases=cases,
        distance_unit=_common_unit(scores),
        nsd_tolerance=TOLERANCE,
        metric_impl=METRIC_IMPL,
    )


def compare_dice(metrics: Metrics, reference: Metrics) -> tuple[float | None, Interval | None]:
    """Compare the Dice of two results case by case: how much lower that of `metrics` is.

    Returns:
        The mean loss and its bootstrap interval.
    """
    own = {case.id: case.mean.dice for case in metrics.cases}
    theirs = {case.id: case.mean.dice for case in reference.cases if case.id in own}
    lost = compute_dice_losses(theirs.values(), [own[case] for case in theirs])
    return mean_of(lost), bootstrap_interval(lost)


def compute_dice_losses(before: Iterable[float | None], after: Iterable[float | None]) -> list[float]:
    """Compute the loss of Dice of each case.

    An empty prediction of an empty case (None) counts as 1.0 if the other Dice exists; two of them are left out.
    """
    pairs = [pair for pair in zip(before, after, strict=True) if pair != (None, None)]
    return [(1.0 if one is None else one) - (1.0 if other is None else other) for one, other in pairs]


def compare_volumes(scores: Iterable[ClassScore | Scores]) -> ClassScores:
    """Average the volume errors of cases, with their limits of agreement; without these for fewer than 2 cases."""
    errors = [score.volume_error for score in scores if score.volume_error is not None]
    if len(errors) < 2:
        return ClassScores(volume_error=mean_of(errors))
    mean, spread = float(np.mean(errors)), 1.96 * float(np.std(errors, ddof=1))
    return ClassScores(volume_error=mean, volume_limits=(mean - spread, mean + spread))


def mean_of(values: Iterable[float | None]) -> float | None:
    """Average the values that are finite and not None; None if there are none."""
    found = [value for value in values if value is not None and math.isfinite(value)]
    return float(np.mean(found)) if found else None


def bootstrap_interval(values: Sequence[float], level: float = 0.95) -> Interval | None:
    """Compute the bootstrap interval of the mean: cases drawn with replacement. None for fewer than 2 values.

    The percentile interval, expanded for small samples (Hesterberg 2015, "What teachers should know about the
    bootstrap", section 4.5): for 5 cases the plain one covers the mean in some 83 % of all data sets instead of 95 %.
    """
    count = len(values)
    if count < 2:
        return None
    from scipy.stats import norm, t

    tail = norm.cdf(math.sqrt(count / (count - 1)) * t.ppf((1 - level) / 2, count - 1))
    rng, found = np.random.default_rng(0), np.asarray(values, dtype=np.float64)
    draws, at_once = max(BOOTSTRAP_DRAWS, DRAWN_VALUES // count), max(1, DRAWN_VALUES // count)
    parts = [min(at_once, draws - first) for first in range(0, draws, at_once)]  # all draws at once may be gigabytes
    means = np.concatenate([rng.choice(found, size=(part, count)).mean(axis=1) for part in parts])
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _score_class(
    predicted: np.ndarray, expected: np.ndarray, spacing: tuple[float, ...] | None, surface_metrics: bool
) -> ClassScore:
    counts = (
        int(np.count_nonzero(predicted & expected)),
        int(np.count_nonzero(predicted)),
        int(np.count_nonzero(expected)),
    )
    if not counts[1] and not counts[2]:
        return ClassScore(None, None, None, None, *counts)
    if not counts[1] or not counts[2]:
        return ClassScore(0.0, 0.0, None, 0.0 if surface_metrics else None, *counts)
    overlap = _score_overlap(*counts)
    hd95, nsd = score_surfaces(predicted, expected, spacing, TOLERANCE) if surface_metrics else (None, None)
    return ClassScore(overlap["dice"], overlap["iou"], hd95, nsd, *counts)


def _score_overlap(both: int, predicted: int, expected: int) -> dict[str, float | None]:
    total = predicted + expected
    return {"dice": 2 * both / total if total else None, "iou": both / (total - both) if total else None}


def _average(scores: Sequence[ClassScore | Scores]) -> dict[str, float | None]:
    return {metric: mean_of(getattr(score, metric) for score in scores) for metric in METRICS}


def _summarize_class(scores: Sequence[ClassScore]) -> ClassScores:
    """Average over cases, and score all their voxels as a single case."""
    dice = [score.dice for score in scores if score.dice is not None]
    pooled = _score_overlap(
        sum(score.intersection for score in scores),
        sum(score.predicted for score in scores),
        sum(score.expected for score in scores),
    )
    return ClassScores(
        **_average(scores),
        dice_interval=bootstrap_interval(dice),
        cases=len(dice),
        hd95_undefined=sum(score.undefined_distance for score in scores),
        pooled_dice=pooled["dice"],
        pooled_iou=pooled["iou"],
    ).merge(compare_volumes(scores))


def _common_unit(scores: Sequence[CaseScore]) -> str:
    units = {score.unit for score in scores}
    return units.pop() if len(units) == 1 else "mixed" if units else "mm"
