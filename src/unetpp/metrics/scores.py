"""Scores of a segmentation against its reference: Dice, IoU, HD95 and surface Dice.

Distances are MONAI's, between the centres of boundary voxels; `metric_impl` in every result says so, for other
implementations give other numbers. Dice and IoU come from counts of voxels, which pooling needs anyway. A class that is
in neither segmentation has no score (None); one that is in only one of them has Dice, IoU and surface Dice 0, and no
distance (None).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unetpp.measured import ClassScores, Interval, MeanScores, Metrics, ScoredCase, Scores

METRICS = ("dice", "iou", "hd95_mm", "nsd")
TOLERANCE = 1.0
"""Of the surface Dice: in millimetres, or in pixels where there is no spacing."""
BOOTSTRAP_DRAWS, DRAWN_VALUES = 2000, 2_000_000
"""At least so many draws, and more of few values, whose interval reaches further into the tails."""


@dataclass(frozen=True)
class ClassScore:
    """Scores of one foreground class of one case."""

    dice: float | None
    iou: float | None
    hd95_mm: float | None
    """95th percentile of the distances between the surfaces, in the unit of the case."""
    nsd: float | None
    """Normalised surface Dice at the tolerance of 1 mm or 1 pixel."""
    intersection: int
    """Voxels that both segmentations give to the class."""
    predicted: int
    expected: int

    @property
    def undefined_distance(self) -> bool:
        """The class is in one of the two segmentations only: an infinite distance."""
        return (self.predicted > 0) != (self.expected > 0)


@dataclass(frozen=True)
class CaseScore:
    """Scores of one case."""

    id: str
    classes: tuple[ClassScore, ...]
    """The foreground classes, in the order of their indices 1, 2, ..."""
    unit: Literal["mm", "pixel"]
    """Of `hd95_mm`, and of the tolerance of `nsd`."""

    def mean(self) -> Scores:
        """Mean of each metric over the foreground classes that have it."""
        return Scores(**_means(self.classes))

    def measured(self, names: Sequence[str]) -> ScoredCase:
        """These scores as metrics.json has them, of foreground classes of these names."""
        classes = {name: Scores(**_means([score])) for name, score in zip(names, self.classes, strict=True)}
        return ScoredCase(id=self.id, mean=self.mean(), classes=classes)


@dataclass(frozen=True)
class Validation:
    """Score of the weights on validation cases."""

    depths: dict[int, float]
    """Mean over cases of the mean over foreground classes, for each head."""

    @property
    def dice(self) -> float:
        """That of the deepest head."""
        return self.depths[max(self.depths)]


def score_case(
    case_id: str,
    prediction: np.ndarray,
    reference: np.ndarray,
    num_classes: int,
    spacing_mm: Sequence[float] | None = None,
    *,
    surface_metrics: bool = True,
) -> CaseScore:
    """Score class indices (*spatial) against class indices of the same shape.

    Args:
        case_id: name of the case.
        prediction: class indices.
        reference: class indices.
        num_classes: number of classes, background included.
        spacing_mm: voxel size in the order of the axes; None: distances are in pixels.
        surface_metrics: False leaves out HD95 and surface Dice, which take most of the time.
    """
    if prediction.shape != reference.shape:
        raise ValueError(
            f"{case_id}: got a prediction of shape {prediction.shape}; expected {reference.shape}, as the reference."
        )
    spacing = None if spacing_mm is None else tuple(float(size) for size in spacing_mm)
    scores = tuple(
        _score_class(prediction == index, reference == index, spacing, surface_metrics)
        for index in range(1, num_classes)
    )
    return CaseScore(case_id, scores, "pixel" if spacing is None else "mm")


def fast_dice(prediction: np.ndarray, reference: np.ndarray, num_classes: int) -> float | None:
    """Mean Dice of the foreground classes that are in either segmentation; None where there is none. No MONAI: for use while training."""
    pairs = np.bincount(
        (reference.astype(np.int32).ravel() * num_classes + prediction.ravel()), minlength=num_classes**2
    ).reshape(num_classes, num_classes)
    both, total = np.diag(pairs)[1:], (pairs.sum(axis=0) + pairs.sum(axis=1))[1:]
    return mean_of(
        2 * float(overlap) / float(size) if size else None for overlap, size in zip(both, total, strict=True)
    )


def summarize(scores: Sequence[CaseScore], classes: Sequence[str]) -> Metrics:
    """Make the content of metrics.json without its depths.

    `mean` is the mean over cases of the mean over foreground classes, `pooled` treats all voxels of all cases as one case.

    Args:
        scores: one for each case.
        classes: names of all classes, background first.
    """
    names = list(classes[1:])
    cases = [score.measured(names) for score in scores]
    by_class = {name: _class_scores([score.classes[n] for score in scores]) for n, name in enumerate(names)}
    dice = [case.mean.dice for case in cases if case.mean.dice is not None]
    return Metrics(
        mean=MeanScores(
            **_means([case.mean for case in cases]),
            dice_interval=bootstrap_interval(dice),
            hd95_undefined=sum(found.hd95_undefined or 0 for found in by_class.values()),
        ),
        pooled=Scores(
            dice=mean_of(found.pooled_dice for found in by_class.values()),
            iou=mean_of(found.pooled_iou for found in by_class.values()),
        ),
        classes=by_class,
        cases=cases,
        distance_unit=_unit(scores),
        nsd_tolerance=TOLERANCE,
        metric_impl=metric_impl(),
    )


def compare_dice(metrics: Metrics, reference: Metrics) -> tuple[float | None, Interval | None]:
    """How much lower the Dice of `metrics` is than that of `reference`, case by case: the mean, and its bootstrap interval."""
    own = {case.id: case.mean.dice for case in metrics.cases}
    theirs = {case.id: case.mean.dice for case in reference.cases if case.id in own}
    lost = compute_dice_losses(theirs.values(), [own[case] for case in theirs])
    return mean_of(lost), bootstrap_interval(lost)


def compute_dice_losses(before: Iterable[float | None], after: Iterable[float | None]) -> list[float]:
    """Of each case. Nothing where there is nothing to find (None) is as good as can be, if the other finds something there; where neither does, nothing can be lost."""
    pairs = [pair for pair in zip(before, after, strict=True) if pair != (None, None)]
    return [(1.0 if one is None else one) - (1.0 if other is None else other) for one, other in pairs]


def metric_impl() -> str:
    """Which implementation the numbers come from."""
    from importlib.metadata import version

    return f"monai {version('monai')} voxel"


def mean_of(values: Iterable[float | None]) -> float | None:
    """Mean of the values that are there and finite; None where there is none."""
    found = [value for value in values if value is not None and math.isfinite(value)]
    return float(np.mean(found)) if found else None


def bootstrap_interval(values: Sequence[float], level: float = 0.95) -> Interval | None:
    """Interval of the mean when cases are drawn anew with replacement; None for fewer than 2 values.

    The percentile interval, expanded for small numbers (Hesterberg 2015, "What teachers should know about the bootstrap", section 4.5): for 5 cases the
    plain one covers the mean in some 83 % of all data sets in place of 95 %.
    """
    count = len(values)
    if count < 2:
        return None
    from scipy.stats import norm, t

    tail = norm.cdf(math.sqrt(count / (count - 1)) * t.ppf((1 - level) / 2, count - 1))
    drawn = np.random.default_rng(0).choice(
        np.asarray(values, dtype=np.float64), size=(max(BOOTSTRAP_DRAWS, DRAWN_VALUES // count), count)
    )
    low, high = np.quantile(drawn.mean(axis=1), [tail, 1 - tail])
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
    overlap = _overlap(*counts)
    hd95, nsd = _surface_scores(predicted, expected, spacing) if surface_metrics else (None, None)
    return ClassScore(overlap["dice"], overlap["iou"], hd95, nsd, *counts)


def _overlap(both: int, predicted: int, expected: int) -> dict[str, float | None]:
    total = predicted + expected
    return {"dice": 2 * both / total if total else None, "iou": both / (total - both) if total else None}


def _surface_scores(
    predicted: np.ndarray, expected: np.ndarray, spacing: tuple[float, ...] | None
) -> tuple[float, float]:
    """HD95 and surface Dice, as MONAI's compute_hausdorff_distance and compute_surface_dice, from distances computed once for both."""
    import torch
    from monai.metrics.utils import get_edge_surface_distance

    box = _bounding_box(predicted | expected)
    pair = (torch.from_numpy(np.ascontiguousarray(mask[box])) for mask in (predicted, expected))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI 1.6 warns of an argument that it passes itself
        _, (forth, back), _ = get_edge_surface_distance(*pair, spacing=spacing, symmetric=True)
    hd95 = max(np.percentile(distances.numpy(), 95) for distances in (forth, back))
    return float(hd95), float((torch.cat([forth, back]) <= TOLERANCE).double().mean())


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    box = []
    for axis in range(mask.ndim):
        used = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(int(used[0]), int(used[-1]) + 1))
    return tuple(box)


def _means(scores: Sequence[ClassScore | Scores]) -> dict[str, float | None]:
    return {metric: mean_of(getattr(score, metric) for score in scores) for metric in METRICS}


def _class_scores(scores: Sequence[ClassScore]) -> ClassScores:
    """Means over cases, and the scores of all their voxels as one case."""
    dice = [score.dice for score in scores if score.dice is not None]
    pooled = _overlap(
        sum(score.intersection for score in scores),
        sum(score.predicted for score in scores),
        sum(score.expected for score in scores),
    )
    return ClassScores(
        **_means(scores),
        dice_interval=bootstrap_interval(dice),
        cases=len(dice),
        hd95_undefined=sum(score.undefined_distance for score in scores),
        pooled_dice=pooled["dice"],
        pooled_iou=pooled["iou"],
    )


def _unit(scores: Sequence[CaseScore]) -> str:
    units = {score.unit for score in scores}
    return units.pop() if len(units) == 1 else "mixed" if units else "mm"
