"""The fingerprint: what the data set is, in numbers. The rules see this and nothing else of the data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from unetpp.data.cases import Dataset
from unetpp.data.inspect import CaseFacts, Inspection


class ChannelFacts(BaseModel):
    """Intensities of one channel over all cases."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    minimum: float
    maximum: float
    foreground_mean: float
    foreground_std: float
    foreground_low: float
    """Percentile 0.5 of the foreground."""
    foreground_high: float
    """Percentile 99.5 of the foreground."""


class Fingerprint(BaseModel):
    """What the data set is. Spatial axes are (Z, Y, X) or (Y, X)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    layout: str
    cases: int
    dims: int
    channels: tuple[ChannelFacts, ...]
    classes: tuple[str, ...]
    label_values: tuple[int, ...]
    class_fractions: tuple[float, ...]
    """Share of all voxels that each class has."""
    instances: bool
    median_shape: tuple[int, ...]
    smallest_shape: tuple[int, ...]
    largest_shape: tuple[int, ...]
    median_spacing_mm: tuple[float, ...] | None
    spacing_varies: bool
    """Whether voxel sizes differ between cases by more than 1 %."""
    voxels: int
    """Of all cases together."""
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        return self.model_dump_json(indent=2) + "\n"


def make_fingerprint(dataset: Dataset, inspection: Inspection) -> Fingerprint:
    """Summarise an inspected data set."""
    facts = inspection.facts
    shapes = np.array([fact.shape for fact in facts])
    spacings = [fact.spacing_mm for fact in facts if fact.spacing_mm is not None]
    known = len(spacings) == len(facts)
    median_spacing = np.median(np.array(spacings), axis=0) if known else None
    varies = median_spacing is not None and bool(np.any(np.abs(np.array(spacings) / median_spacing - 1) > 0.01))
    return Fingerprint(
        name=dataset.name,
        layout=dataset.layout,
        cases=len(facts),
        dims=shapes.shape[1],
        channels=tuple(_channel(name, index, facts) for index, name in enumerate(inspection.channels)),
        classes=tuple(inspection.classes),
        label_values=tuple(inspection.label_values),
        class_fractions=_class_fractions(inspection),
        instances=inspection.instances,
        median_shape=tuple(int(size) for size in np.median(shapes, axis=0)),
        smallest_shape=tuple(int(size) for size in shapes.min(axis=0)),
        largest_shape=tuple(int(size) for size in shapes.max(axis=0)),
        median_spacing_mm=None if median_spacing is None else tuple(float(f"{mm:.6g}") for mm in median_spacing),
        spacing_varies=varies,
        voxels=int(shapes.prod(axis=1).sum()),
        notes=tuple(inspection.notes),
    )


def _channel(name: str, index: int, facts: Sequence[CaseFacts]) -> ChannelFacts:
    # a grey case has one channel for all three of a colour plan
    samples = [
        np.asarray(fact.foreground_sample[min(index, len(fact.foreground_sample) - 1)], dtype=np.float64)
        for fact in facts
    ]
    values = np.concatenate([sample for sample in samples if sample.size] or [np.zeros(1)])
    low, high = np.percentile(values, [0.5, 99.5])
    return ChannelFacts(
        name=name,
        minimum=min(float(fact.minimum[min(index, len(fact.minimum) - 1)]) for fact in facts),
        maximum=max(float(fact.maximum[min(index, len(fact.maximum) - 1)]) for fact in facts),
        foreground_mean=float(values.mean()),
        foreground_std=float(values.std()),
        foreground_low=float(low),
        foreground_high=float(high),
    )


def _class_fractions(inspection: Inspection) -> tuple[float, ...]:
    counts = [0] * len(inspection.classes)
    place = {value: index for index, value in enumerate(inspection.label_values)}
    for fact in inspection.facts:
        for value, voxels in fact.label_counts.items():
            counts[(1 if value else 0) if inspection.instances else place[value]] += voxels
    total = max(1, sum(counts))
    return tuple(round(count / total, 6) for count in counts)
