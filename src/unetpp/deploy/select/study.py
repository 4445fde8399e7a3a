"""The chosen candidate looked at closely: its probabilities in the validation cases, stored for further choices."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unetpp.data.case_files import name_files, open_case_image, read_case_classes
from unetpp.errors import failures_of
from unetpp.infer.selected import SelectedPredictor
from unetpp.labels.classes import find_region, ignored_index, index_type, list_regions
from unetpp.labels.cleaning import clean_segmentation
from unetpp.labels.coding_torch import TensorCoding
from unetpp.layouts.dataset import Case
from unetpp.measure.pace import Pace
from unetpp.plan import DataPlan
from unetpp.progress import Stage
from unetpp.selection import Step
from unetpp.volume import find_box

THRESHOLDS = tuple(round(0.05 * number, 2) for number in range(2, 19))
"""Thresholds of two classes, or of a region, that are tried: 0.1 to 0.9."""
MIDDLE = THRESHOLDS.index(0.5)
SAMPLED, MOST_VALUES = 20_000, 2**25
"""Voxels of a case whose probabilities are kept, and numbers of all cases together."""
MARGIN = 0.1
"""Margin around the foreground of a case within which voxels are drawn, as a fraction of its size: far away, hardly any
probability is uncertain, and a calibration over the whole image would say nothing."""
Find = Callable[[str], SelectedPredictor]
"""Finds what predicts a case: the folds that have not trained on it."""


@dataclass(eq=False)
class CaseStore:
    """Segmentations of the chosen candidate and references, compressed on disk; and some of its probabilities."""

    folder: Path
    classes: int
    regions: Sequence[Sequence[int]] | None = None
    """Class indices of each region; None: every foreground class is scored by itself."""
    places: list[int] = field(default_factory=list)
    """Place in `THRESHOLDS` of the threshold of two classes, or of each region; empty: there is none to choose."""
    cases: list[str] = field(default_factory=list)
    probabilities: list[np.ndarray] = field(default_factory=list)
    """(voxels, classes) of each case; of regions (voxels and regions, 2): outside and inside."""
    truth: list[np.ndarray] = field(default_factory=list)
    """(voxels,) class index of these; of regions (voxels and regions,): 1 inside."""
    _shapes: list[tuple[int, ...]] = field(default_factory=list)
    _is_decided: bool = False

    def __post_init__(self) -> None:
        self.places = [MIDDLE] * len(self.written)

    @property
    def written(self) -> tuple[int, ...]:
        """Class index of voxels above the threshold of two classes, or of each region; empty for more classes."""
        if self.regions is not None:
            return tuple(region[0] for region in self.regions)
        return (1,) if self.classes == 2 else ()

    @property
    def scored(self) -> Sequence[Sequence[int]]:
        """Class indices of each foreground class, or of each region."""
        return list_regions(self.classes, self.regions)

    def add(self, case: str, levels: np.ndarray, reference: np.ndarray) -> None:
        """Add a case: as `find_levels` finds it, and the reference (*spatial)."""
        number = len(self.cases)
        self.cases.append(case)
        self._shapes.append(reference.shape)
        self._write(number, "levels", levels)
        self._write(number, "reference", reference.astype(index_type(self.classes)))

    def read(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Read class indices of prediction and reference; voxels that nobody labeled are background in both."""
        return next(self.read_at(number, [self.places]))

    def read_at(self, number: int, tried: Sequence[Sequence[int]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Read them at several places of the thresholds."""
        levels, reference = self._read_levels(number), self._read(number, "reference", self._shapes[number])
        ignored = reference == ignored_index(self.classes)
        reference = np.where(ignored, 0, reference)
        for places in tried:
            found = self._decide(levels, places)
            yield np.where(ignored, 0, found) if ignored.any() else found, reference

    def _decide(self, levels: np.ndarray, places: Sequence[int]) -> np.ndarray:
        """Find class indices, later regions over earlier ones; levels that are such indices stay."""
        if self._is_decided or not self.written:
            return levels
        found = np.zeros(levels.shape[1:], index_type(self.classes))
        for index, level, place in zip(self.written, levels, places, strict=True):
            found[level > place] = index
        return found

    def clean(self, step: Step) -> None:
        """Apply a step to all segmentations, whose thresholds stay from now on."""
        for number in range(len(self.cases)):
            found = self._decide(self._read_levels(number), self.places)
            clean_segmentation(found, [step])
            self._write(number, "levels", found)
        self._is_decided = True

    def _read_levels(self, number: int) -> np.ndarray:
        if self._is_decided or not self.written:
            return self._read(number, "levels", self._shapes[number])
        return self._read(number, "levels", (len(self.written), *self._shapes[number]), np.uint8)

    def _write(self, number: int, name: str, array: np.ndarray) -> None:
        content = zlib.compress(np.ascontiguousarray(array).data, level=1)
        (self.folder / f"{number}.{name}").write_bytes(content)

    def _read(self, number: int, name: str, shape: tuple[int, ...], kind: type[np.uint8] | None = None) -> np.ndarray:
        content = bytearray(zlib.decompress((self.folder / f"{number}.{name}").read_bytes()))  # writable
        return np.frombuffer(content, dtype=kind or index_type(self.classes)).reshape(shape)


def study_cases(
    cases: Sequence[Case], find: Find, folder: Path, data: DataPlan, show: Stage, until: float = math.inf
) -> CaseStore:
    """Predict cases with the chosen candidate, and store what the choices of its post-processing need.

    Args:
        cases: the cases.
        find: finds what predicts each.
        folder: temporary folder.
        data: the plan of the classes and regions.
        show: called with (cases done, cases in all).
        until: time of `time.monotonic` at which it ends; at least one case is studied.
    """
    store, pace = CaseStore(folder, data.num_classes, data.region_indices), Pace(len(cases), until)
    values = 2 * len(data.scored) if data.regions else data.num_classes
    quota = max(100, min(SAMPLED, MOST_VALUES // (values * max(1, len(cases)))))
    for case in pace.limit(cases):
        with failures_of(name_files(case.images)):
            _study(case, find(case.id), store, quota)
        with pace.extra():
            show(pace.done, len(cases))
    return store


def _study(case: Case, predictor: SelectedPredictor, store: CaseStore, quota: int) -> None:
    reference = read_case_classes(case, predictor.data)
    source = open_case_image(case, predictor.data)
    image, bands = predictor.stream_source(source, str(case.images[0]))
    turned = image.orientation.turn(reference)
    coding = predictor.members[0].coding
    planes = (len(store.written),) if store.written else ()
    levels = np.empty((*planes, *reference.shape), np.uint8 if planes else index_type(store.classes))
    view, rng = image.orientation.turn(levels), np.random.default_rng(len(store.cases))
    box = find_surroundings(turned, ignored_index(store.classes))
    share = quota / max(1, math.prod(part.stop - part.start for part in box))
    sampled, truth = [], []
    for band in bands:
        chances = band.probabilities[0]
        rows = slice(band.first_row, band.first_row + chances.shape[1])
        place = (slice(None), rows) if planes else rows
        view[place] = find_levels(chances, store, coding).cpu().numpy()
        for found, true in _sample(chances, turned[rows], rows.start, box, share, rng):
            known = true != ignored_index(store.classes)
            pair = coding.expand(found).T.cpu().numpy()[known], true[known]
            pair = _split_regions(*pair, store.scored) if store.regions else pair
            sampled.append(pair[0])
            truth.append(pair[1])
    store.add(case.id, levels, reference)
    columns = 2 if store.regions else store.classes
    store.probabilities.append(np.concatenate(sampled) if sampled else np.zeros((0, columns), np.float32))
    store.truth.append(np.concatenate(truth) if truth else np.zeros(0, np.int64))


def _split_regions(
    found: np.ndarray, truth: np.ndarray, regions: Sequence[Sequence[int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Split probabilities (voxels, regions) into those of two classes, outside and inside, of each region."""
    inside = np.concatenate([find_region(truth, region) for region in regions]).astype(np.int64)
    flat = found.T.reshape(-1)
    return np.stack([1 - flat, flat], axis=1), inside


def find_levels(chances: Tensor, store: CaseStore, coding: TensorCoding) -> Tensor:
    """Find the number of thresholds below each probability, of the second of two classes (1, ...) or of regions.

    Of more classes, which have no threshold, class indices (...).
    """
    if not store.written:
        return coding.class_indices(chances).to(torch.int32)
    levels = torch.zeros_like(chances, dtype=torch.uint8)
    for threshold in THRESHOLDS:
        levels += chances > threshold
    return levels


def find_surroundings(reference: np.ndarray, ignored: int) -> tuple[slice, ...]:
    """Find the box around the foreground, with a margin; without foreground the whole image."""
    whole = tuple(slice(0, size) for size in reference.shape)
    box = []
    for part, size in zip(find_box((reference > 0) & (reference != ignored)) or whole, reference.shape, strict=True):
        margin = max(1, round(MARGIN * (part.stop - part.start)))
        box.append(slice(max(0, part.start - margin), min(size, part.stop + margin)))
    return tuple(box)


def _sample(
    chances: Tensor,
    reference: np.ndarray,
    first: int,
    box: tuple[slice, ...],
    share: float,
    rng: np.random.Generator,
) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Draw voxels of a band within the box: probabilities (channels, voxels) and true classes (voxels,)."""
    rows = slice(max(0, box[0].start - first), max(0, box[0].stop - first))
    place = (rows, *box[1:])
    inside = reference[place]
    if not inside.size:
        return
    count = min(inside.size, math.ceil(share * inside.size))
    chosen = np.sort(rng.choice(inside.size, count, replace=False))
    flat = chances[(slice(None), *place)].flatten(1)
    yield flat[:, torch.from_numpy(chosen).to(flat.device)], inside.reshape(-1)[chosen].astype(np.int64)
