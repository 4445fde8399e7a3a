"""Fingerprint: a data set in numbers, and all that the planning rules know of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from unetpp.data.case_facts import CaseFacts
from unetpp.data.inspect import Inspection
from unetpp.data.preprocess import SAME_SIZE
from unetpp.data.training_range import span_levels, standardize_levels
from unetpp.labels.counts import count_classes
from unetpp.layouts.cases import Dataset
from unetpp.plan import ChannelRange, LabelPlan, Region
from unetpp.settings import Frozen


class ChannelFacts(Frozen):
    """Intensities of one channel over all cases."""

    name: str
    """Name of the channel, as in the plan."""
    minimum: float
    """Smallest intensity."""
    maximum: float
    """Largest intensity."""
    foreground_mean: float
    """Mean of the foreground."""
    foreground_std: float
    """Standard deviation of the foreground."""
    foreground_low: float
    """Percentile 0.5 of the foreground."""
    foreground_high: float
    """Percentile 99.5 of the foreground."""
    levels: ChannelRange | None = None
    """Range over the cases of percentiles 1 and 99 of the whole image."""
    standardized: ChannelRange | None = None
    """The same in standard deviations from the mean of the image."""
    standardized_inside: ChannelRange | None = None
    """The same of the voxels that are not 0 in every channel."""


class Fingerprint(Frozen):
    """Numbers that describe a data set. Spatial axes are (Z, Y, X) or (Y, X), of volumes as `orientation` says."""

    name: str
    """Name of the data set."""
    layout: str
    """Layout of its folder."""
    cases: int
    """Number of cases."""
    dims: int
    """Number of spatial axes."""
    channels: tuple[ChannelFacts, ...]
    """Intensities of each channel."""
    classes: tuple[str, ...]
    """Names of the classes, background first."""
    label_values: tuple[int, ...]
    """Value of each class in label files."""
    class_fractions: tuple[float, ...]
    """Fraction of all labeled voxels in each class."""
    labels: LabelPlan
    """Meaning of the values in label files."""
    regions: tuple[Region, ...] | None = None
    """Regions that the data set declares."""
    label_meaning: str
    """The same in words, with its reason."""
    median_shape: tuple[int, ...]
    """Median size along each axis, in voxels."""
    smallest_shape: tuple[int, ...]
    """Smallest size along each axis, in voxels."""
    largest_shape: tuple[int, ...]
    """Largest size along each axis, in voxels."""
    median_spacing_mm: tuple[float, ...] | None
    """Median voxel size; null: not every file has one."""
    smallest_spacing_mm: tuple[float, ...] | None = None
    """Smallest voxel size along each axis."""
    largest_spacing_mm: tuple[float, ...] | None = None
    """Largest voxel size along each axis."""
    fine_spacing_mm: tuple[float, ...] | None = None
    """Percentile 10 of the voxel sizes along each axis."""
    spacing_varies: bool
    """Whether voxel sizes differ between cases by more than 1 %."""
    orientation: Literal["RAS"] | None = None
    """Axes of the sizes above; null: as the files store them."""
    without_orientation: int = 0
    """Number of volumes whose header states no orientation."""
    file_channels: tuple[int, ...] = ()
    """Numbers of channels in the files; three equal ones of a format of colors count as one."""
    inside: float = 1.0
    """Median fraction of an image in the box around its voxels that are not 0 in every channel."""
    voxels: int
    """Number of voxels of all cases together."""
    notes: tuple[str, ...] = ()
    """Remarks of the inspection."""

    def to_json(self) -> str:
        """Write the fingerprint as the text of `fingerprint.json`."""
        return self.model_dump_json(indent=2) + "\n"


def resolve_labels(settings: Mapping[str, Any], fingerprint: Fingerprint) -> dict[str, Any]:
    """Complete the meaning of the labels that the user set by what was found in the files, such as a cut."""
    known = {"data.labels": fingerprint.labels.model_dump(mode="json")}
    return {**settings, **(known if "data.labels" in settings else {})}


def make_fingerprint(dataset: Dataset, inspection: Inspection, may_turn: bool = True) -> Fingerprint:
    """Summarize an inspected data set.

    Args:
        dataset: the data set.
        inspection: its inspection.
        may_turn: measure volumes along the axes of the body if every header states an orientation.
    """
    facts = inspection.facts
    unknown = sum(fact.orientation is None for fact in facts if len(fact.shape) == 3)
    turned = may_turn and len(facts[0].shape) == 3 and not unknown
    shapes = np.array([_turn(fact, fact.shape, turned) for fact in facts])
    spacings = np.array([_turn(fact, fact.spacing_mm, turned) for fact in facts if fact.spacing_mm is not None])
    spacing = _summarize_spacing(spacings) if len(spacings) == len(facts) else {}
    return Fingerprint(
        name=dataset.name,
        layout=dataset.layout,
        cases=len(facts),
        dims=shapes.shape[1],
        channels=tuple(_summarize_channel(name, index, facts) for index, name in enumerate(inspection.channels)),
        classes=tuple(inspection.classes),
        label_values=tuple(inspection.label_values),
        class_fractions=_count_fractions(inspection),
        labels=inspection.meaning.plan,
        regions=dataset.regions,
        label_meaning=inspection.meaning.line,
        median_shape=tuple(int(size) for size in np.median(shapes, axis=0)),
        smallest_shape=tuple(shapes.min(axis=0).tolist()),
        largest_shape=tuple(shapes.max(axis=0).tolist()),
        **{"median_spacing_mm": None, "spacing_varies": False, **spacing},
        orientation="RAS" if turned else None,
        without_orientation=unknown,
        file_channels=tuple(sorted({1 if fact.is_gray and fact.is_color_format else fact.channels for fact in facts})),
        inside=round(float(np.median([fact.inside for fact in facts])), 4),
        voxels=int(shapes.prod(axis=1).sum()),
        notes=tuple(inspection.notes),
    )


def _turn(fact: CaseFacts, sizes: Sequence[Any], turned: bool) -> tuple[Any, ...]:
    return fact.orientation.turn_sizes(sizes) if turned and fact.orientation else tuple(sizes)


def _summarize_spacing(spacings: np.ndarray) -> dict[str, Any]:
    median = np.median(spacings, axis=0)
    ends = {"median": median, "smallest": spacings.min(axis=0), "largest": spacings.max(axis=0)}
    ends["fine"] = np.percentile(spacings, 10, axis=0)
    rounded = {f"{name}_spacing_mm": tuple(float(f"{mm:.6g}") for mm in sizes) for name, sizes in ends.items()}
    return {**rounded, "spacing_varies": bool(np.any(np.abs(spacings / median - 1) > SAME_SIZE))}


def _summarize_channel(name: str, index: int, facts: Sequence[CaseFacts]) -> ChannelFacts:
    def take(values: Sequence[float] | np.ndarray) -> Any:  # a grey case has one channel for all three of a color plan
        return values[min(index, len(values) - 1)]

    samples = [np.asarray(take(fact.foreground_sample), dtype=np.float64) for fact in facts]
    values = np.concatenate([sample for sample in samples if sample.size] or [np.zeros(1)])
    low, high = np.percentile(values, [0.5, 99.5])
    levels = np.array([take(fact.levels) for fact in facts])
    inside = np.array([take(fact.levels_inside) for fact in facts])
    return ChannelFacts(
        name=name,
        minimum=min(float(take(fact.minimum)) for fact in facts),
        maximum=max(float(take(fact.maximum)) for fact in facts),
        foreground_mean=float(values.mean()),
        foreground_std=float(values.std()),
        foreground_low=float(low),
        foreground_high=float(high),
        levels=span_levels(levels[:, :2]),
        standardized=span_levels(standardize_levels(levels)),
        standardized_inside=span_levels(standardize_levels(inside)),
    )


def _count_fractions(inspection: Inspection) -> tuple[float, ...]:
    counts = [0] * len(inspection.classes)
    for fact in inspection.facts:
        if fact.label is not None:
            for index, voxels in enumerate(count_classes(fact.label, inspection.meaning)):
                counts[index] += voxels
    total = max(1, sum(counts))
    return tuple(round(count / total, 6) for count in counts)
