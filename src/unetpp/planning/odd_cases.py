"""Odd cases: those of a data set that are far from the others in size, voxel size, intensities or labels.

A number is far if it is beyond the quartiles by three times the distance between them (Tukey 1977, "far out"), and
differs from the median by a factor that matters. Sizes and volumes are compared as logarithms. What many cases share is
no oddity but a second kind of image, such as another stain or scanner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from unetpp.data.case_facts import CaseFacts
from unetpp.data.inspect import Inspection
from unetpp.labels.counts import count_classes

FEWEST = 5
"""Of fewer cases, none is called odd."""
_FAR_OUT = 3.0
"""Distance beyond the quartiles, in distances between the two."""
_SIZE, _SPACING, _VOLUME = 1.25, 1.1, 2.0
"""Smallest factor by which a size, a voxel size, and the volume of a class differ from the median."""
_SHIFT = 1.0
"""Smallest difference of mean intensities, in standard deviations of the median image."""
_USUAL = 0.9
"""A class that this fraction of the labeled cases has is missed in the others."""
_KIND = 0.05
"""Fraction of the cases, `FEWEST` at least, from which on those that differ alike are a kind of their own."""


class OddCase(NamedTuple):
    """A case that is unlike the others."""

    id: str
    reasons: tuple[str, ...]
    strength: float
    """How far it is from the others, to sort by."""


class OddKind(NamedTuple):
    """Cases that differ from the others alike."""

    ids: tuple[str, ...]
    """The furthest first."""
    reason: str


class Oddities(NamedTuple):
    """What is unlike the rest of a data set."""

    cases: tuple[OddCase, ...] = ()
    """The furthest first."""
    kinds: tuple[OddKind, ...] = ()
    """The largest first."""


class _Found(NamedTuple):
    case: int
    measure: str
    """What differs, the same text for all cases; what is in it for {} differs."""
    value: str
    strength: float
    """Negative: below the others."""

    def describe(self, value: str) -> str:
        return self.measure.replace("{}", value, 1)


def find_odd_cases(inspection: Inspection) -> Oddities:
    """Find the cases, and the kinds of cases, that are far from the others; none of fewer than `FEWEST`."""
    facts = inspection.facts
    if len(facts) < FEWEST:
        return Oddities()
    alike: dict[tuple[str, bool], list[_Found]] = {}
    for each in [*_judge_sizes(facts), *_judge_intensities(facts, inspection.channels), *_judge_labels(inspection)]:
        alike.setdefault((each.measure, each.strength > 0), []).append(each)
    kinds, cases = [], dict[int, list[_Found]]()
    for group in alike.values():
        if len(group) >= max(FEWEST, _KIND * len(facts)):
            kinds.append(_make_kind(group, facts))
        else:
            for each in group:
                cases.setdefault(each.case, []).append(each)
    odd = [
        OddCase(facts[case].id, tuple(e.describe(e.value) for e in all_of), max(abs(e.strength) for e in all_of))
        for case, all_of in cases.items()
    ]
    odd.sort(key=lambda case: (-case.strength, case.id))
    return Oddities(tuple(odd), tuple(sorted(kinds, key=lambda kind: -len(kind.ids))))


def _make_kind(group: Sequence[_Found], facts: Sequence[CaseFacts]) -> OddKind:
    ranked = sorted(group, key=lambda each: abs(each.strength))
    ends = dict.fromkeys((ranked[0].value, ranked[-1].value))
    return OddKind(tuple(facts[each.case].id for each in ranked[::-1]), ranked[0].describe(" to ".join(ends)))


def _judge_sizes(facts: Sequence[CaseFacts]) -> Iterator[_Found]:
    """Judge each axis, in the order of the body where the header states one."""

    def turn(fact: CaseFacts, sizes: Sequence[float]) -> Sequence[float]:
        return fact.orientation.turn_sizes(sizes) if fact.orientation else sizes

    dims = len(facts[0].shape)
    axes, noun = ("Z", "Y", "X")[-dims:], "pixels" if dims == 2 else "voxels"
    shapes = np.array([turn(fact, fact.shape) for fact in facts], dtype=float)
    spacings = np.array([turn(fact, fact.spacing_mm or (np.nan,) * dims) for fact in facts], dtype=float)
    for axis, name in enumerate(axes):
        yield from _judge_ratios(shapes[:, axis], _SIZE, lambda n: f"{n:.0f}", f"{noun} along {name}")
        yield from _judge_ratios(
            spacings[:, axis], _SPACING, lambda mm: f"{mm:.3g}", f"mm {noun[:-1]} size along {name}"
        )


def _judge_intensities(facts: Sequence[CaseFacts], channels: Sequence[str]) -> Iterator[_Found]:
    """Judge the mean of each channel, on the scale of the usual spread within an image."""
    for index, name in enumerate(channels):
        levels = np.array([fact.levels[min(index, len(fact.levels) - 1)] for fact in facts])
        means, spread = levels[:, 2], float(np.median(levels[:, 3]))
        far = _find_far(means)
        middle = float(np.median(means))
        for case in np.flatnonzero(far & (np.abs(means - middle) > _SHIFT * spread)):
            channel = f" of {name}" if len(channels) > 1 else ""
            text = f"mean intensity{channel} {{}}; the median is {_write(middle)}"
            strength = float((means[case] - middle) / max(spread, np.finfo(float).tiny))
            yield _Found(int(case), text, _write(means[case]), strength)


def _judge_labels(inspection: Inspection) -> Iterator[_Found]:
    """Judge the volume of each class, and whether a class that nearly all cases have is missing."""
    volumes = measure_volumes(inspection)
    labeled = ~np.isnan(volumes[:, 0])
    for index, name in enumerate(inspection.classes[1:], start=1):
        own = np.where(volumes[:, index] > 0, volumes[:, index], np.nan)
        has = ~np.isnan(own)
        yield from _judge_ratios(own, _VOLUME, lambda size: f"{size:.3g}", f"{name_unit(inspection)} of {name}")
        if labeled.sum() >= FEWEST and has.sum() >= _USUAL * labeled.sum():
            text = f"no {name}, which {has.sum()} of {labeled.sum()} cases have"
            yield from (_Found(int(case), text, "", 10.0) for case in np.flatnonzero(labeled & ~has))


def measure_volumes(inspection: Inspection) -> np.ndarray:
    """Measure each class of each case: (cases, classes) in `name_unit`; NaN for a case without a label."""
    volumes = np.full((len(inspection.facts), len(inspection.classes)), np.nan)
    unit = name_unit(inspection)
    for row, fact in zip(volumes, inspection.facts, strict=True):
        if fact.label is not None:
            size = np.prod(fact.spacing_mm) if fact.spacing_mm and unit in ("ml", "mm²") else 1.0
            row[:] = np.array(count_classes(fact.label, inspection.meaning)) * size / (1000 if unit == "ml" else 1)
    return volumes


def name_unit(inspection: Inspection) -> str:
    """Name the unit of volumes: ml or mm² if every file has a voxel size, else voxels or pixels."""
    facts = inspection.facts
    flat = len(facts[0].shape) == 2
    if all(fact.spacing_mm for fact in facts):
        return "mm²" if flat else "ml"
    return "pixels" if flat else "voxels"


def _judge_ratios(values: np.ndarray, factor: float, write: Callable[[float], str], what: str) -> Iterator[_Found]:
    """Find values above 0 (NaN: unknown) that are far from the others and differ from the median by a factor."""
    known = ~np.isnan(values)
    if known.sum() < FEWEST:
        return
    logs, middle = np.log(np.where(known, values, 1.0)), float(np.median(values[known]))
    far = np.zeros(len(values), dtype=bool)
    far[known] = _find_far(logs[known])
    for case in np.flatnonzero(far & (np.abs(logs - np.log(middle)) > np.log(factor))):
        distance = float((logs[case] - np.log(middle)) / np.log(factor))
        yield _Found(int(case), f"{{}} {what}; the median is {write(middle)}", write(values[case]), distance)


def _write(value: float) -> str:
    return f"{float(f'{value:.3g}'):,g}"


def _find_far(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, [25, 75])
    reach = _FAR_OUT * (high - low)
    far: np.ndarray = (values < low - reach) | (values > high + reach)
    return far
