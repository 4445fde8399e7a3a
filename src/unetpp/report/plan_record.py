"""What the page of a plan is made of, and its tables of the data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from unetpp.data.fold_proof import FoldProof
from unetpp.data.inspect import Inspection
from unetpp.data.preprocess import network_grid
from unetpp.layouts.dataset import Dataset
from unetpp.measure.label_study import LabelStudy
from unetpp.planning.fingerprint import Fingerprint
from unetpp.planning.odd_cases import Oddities, measure_volumes, name_unit
from unetpp.report.tables import Cell, Table
from unetpp.results import Planned

AIR = -900
"""Hounsfield units: a CT with air has darker voxels."""
_RANGE = ["smallest", "median", "largest"]


@dataclass(frozen=True)
class CasePicture:
    """The picture of a case before training."""

    id: str
    why: str
    slice: str
    shape_ratio: float
    svg: str


@dataclass(frozen=True)
class PlanRecord:
    """Data, plan and costs, and what was measured for the page."""

    dataset: Dataset
    inspection: Inspection
    fingerprint: Fingerprint
    planned: Planned
    proof: FoldProof
    odd: Oddities
    study: LabelStudy | None = None
    """None: not measured."""
    pictures: tuple[CasePicture, ...] = ()
    histograms: tuple[tuple[str, str], ...] = ()
    """Title and drawing."""
    left_out: tuple[str, ...] = ()
    """Parts for which the time did not suffice."""
    versions: tuple[tuple[str, str], ...] = ()
    """Names of programs and files, with their versions or hashes."""
    identity: str = ""
    """Hash of plan and splits, by which it is known whose page this is."""

    @property
    def grid(self) -> tuple[int, ...]:
        """Shape of the median image on the network's grid."""
        f = self.fingerprint
        return network_grid(f.median_shape, f.median_spacing_mm, self.planned.plan.data.spacing_mm)

    @property
    def patch_share(self) -> float:
        """Fraction of the median image that a patch covers."""
        return cover(self.planned.plan.train.patch, self.grid)

    @property
    def voxels(self) -> str:
        """What the elements of an image are called."""
        return "pixels" if self.planned.plan.data.dims == 2 else "voxels"


def cover(patch: Sequence[int], sizes: Sequence[float]) -> float:
    """Compute the fraction of a box of `sizes` that a patch covers, both in voxels."""
    return prod(min(1.0, own / max(size, 1)) for own, size in zip(patch, sizes, strict=True))


def tabulate_sizes(record: PlanRecord) -> Table:
    """Tabulate sizes, voxel sizes and fields of view along each axis, over the cases."""
    facts, turned = record.inspection.facts, record.fingerprint.orientation is not None

    def collect(sizes: Iterable[Sequence[float]]) -> np.ndarray:
        pairs = zip(facts, sizes, strict=True)
        return np.array([f.orientation.turn_sizes(own) if turned and f.orientation else own for f, own in pairs])

    shapes = collect(fact.shape for fact in facts)
    axes = ("Z", "Y", "X")[-shapes.shape[1] :]
    rows = [(f"{name}, {record.voxels}", _span(shapes[:, axis], ".0f")) for axis, name in enumerate(axes)]
    known = [fact.spacing_mm for fact in facts if fact.spacing_mm]
    if len(known) == len(facts):
        spacing = collect(known)
        extents = spacing * shapes
        rows += [(f"{name}, voxel size mm", _span(spacing[:, axis], ".4g")) for axis, name in enumerate(axes)]
        rows += [(f"{name}, field of view mm", _span(extents[:, axis], ".4g")) for axis, name in enumerate(axes)]
    return Table(list(_RANGE), rows)


def tabulate_intensities(record: PlanRecord) -> Table:
    """Tabulate the intensities of each channel."""
    columns = ["smallest", "percentile 1", "percentile 99", "largest", "foreground mean", "foreground SD"]
    rows = []
    for channel in record.fingerprint.channels:
        low, high = (channel.levels.low, channel.levels.high) if channel.levels else ((None,) * 2, (None,) * 2)
        cells = [
            _number(channel.minimum),
            Cell(_join_ends(low), low[0]),
            Cell(_join_ends(high), high[0]),
            _number(channel.maximum),
            _number(channel.foreground_mean),
            _number(channel.foreground_std),
        ]
        rows.append((channel.name, cells))
    return Table(columns, rows)


def tabulate_structures(record: PlanRecord) -> Table:
    """Tabulate each class and region: its values in label files, the cases with it, its share and its volumes."""
    inspection, f, data = record.inspection, record.fingerprint, record.planned.plan.data
    volumes, unit = measure_volumes(inspection), name_unit(inspection)
    regions = zip(data.regions or (), data.region_indices or (), strict=True)
    parts = [
        (name, [value], [index]) for index, (name, value) in enumerate(zip(f.classes, f.label_values, strict=True))
    ]
    known = range(len(f.classes))  # a class that no file has may have been declared afterwards
    parts += [(region.name, [*region.values], [i for i in indices if i in known]) for region, indices in regions]
    labeled = int((~np.isnan(volumes[:, 0])).sum())
    shares = [sum(f.class_fractions[index] for index in indices) for _, _, indices in parts]
    largest = max(shares[1:], default=0.0)
    columns = ["label value", "cases", "share of voxels", *(f"{name} {unit}" for name in _RANGE)]
    rows = []
    for (name, values, indices), share in zip(parts, shares, strict=True):
        sizes = volumes[:, indices].sum(axis=1)
        own = sizes[np.nan_to_num(sizes) > 0]
        bar = share / largest if indices != [0] and largest else None  # the background would hide all others
        cells = [Cell("+".join(map(str, values)), values[0]), Cell(f"{len(own)} of {labeled}", len(own))]
        cells += [
            Cell(f"{share:.2%}", share, bar),
            *(_span(own, ",.0f" if own.max() >= 1000 else ".3g") if len(own) else [Cell("-", None)] * 3),
        ]
        rows.append((name, cells))
    return Table(columns, rows)


def tabulate_ceiling(record: PlanRecord) -> Table:
    """Tabulate what labels keep on their way to the network's grid and back; empty where none is resampled."""
    found = record.study and record.study.ceiling
    if not found:
        return Table([], [])
    unit = found.distance_unit or "mm"
    rows = [
        (name, [Cell(_or_dash(score.dice, ".4f"), score.dice, score.dice), _distance(score.hd95_mm)])
        for name, score in found.classes.items()
    ]
    return Table(["Dice", f"HD95 {unit}"], rows)


def tabulate_sight(record: PlanRecord) -> Table:
    """Tabulate the box around each class, and the share of it that a patch sees; empty where it was not measured."""
    plan = record.planned.plan
    extents = record.study.extents if record.study else {}
    voxel, unit = (plan.data.voxel_mm, "mm") if plan.data.voxel_mm else ((1.0,) * plan.data.dims, record.voxels)
    rows = []
    for name, sizes in extents.items():
        share = cover(plan.train.patch, sizes)
        text = " x ".join(f"{size * mm:.3g}" for size, mm in zip(sizes, voxel, strict=True))
        rows.append((name, [Cell(text, prod(sizes)), Cell(f"{share:.0%}", share, share)]))
    return Table([f"box around it, {unit}", "of it in a patch"], rows)


def tabulate_folds(record: PlanRecord) -> Table:
    """Tabulate cases and groups on both sides of every fold."""
    columns = ["train", "groups", "validate", "groups", "classes", "groups on both sides", "equal images", "unused"]
    rows = [
        (
            f"fold {number}",
            [
                _count(value)
                for value in (
                    fold.train,
                    fold.train_groups,
                    fold.validation,
                    fold.validation_groups,
                    fold.classes,
                    len(fold.shared),
                    fold.equal_images,
                    fold.unused,
                )
            ],
        )
        for number, fold in enumerate(record.proof.folds)
    ]
    return Table(columns, rows)


def describe_air(record: PlanRecord) -> str:
    """Say in how many cases a channel named CT has air, as a check of its Hounsfield units; empty without CT."""
    names = record.fingerprint.channels
    places = [place for place, channel in enumerate(names) if channel.name.upper() == "CT"]
    if not places:
        return ""
    facts = record.inspection.facts
    count = sum(fact.minimum[min(places[0], len(fact.minimum) - 1)] <= AIR for fact in facts)
    return f"CT: air (below {AIR} HU) found in {count} of {len(facts)} cases."


def join_sizes(sizes: Iterable[float]) -> str:
    """Write sizes along axes: "24 x 48 x 48"."""
    return " x ".join(f"{size:.4g}" for size in sizes)


def _span(values: np.ndarray, form: str) -> list[Cell]:
    return [Cell(f"{value:{form}}", float(value)) for value in (values.min(), np.median(values), values.max())]


def _number(value: float) -> Cell:
    return Cell(f"{value:.4g}", value)


def _count(value: int) -> Cell:
    return Cell(f"{value:,}", value)


def _distance(value: float | None) -> Cell:
    return Cell(_or_dash(value, ".2f"), value)


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _join_ends(ends: Sequence[float | None]) -> str:
    texts = ["-" if end is None else f"{end:.4g}" for end in ends]
    return texts[0] if texts[0] == texts[1] else " to ".join(texts)
