"""Cross-validation of all candidates at once: each case is predicted by the folds that have not trained on it.

Dice is counted from bands of probabilities, so that nothing as large as an image is held for any candidate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unetpp.data.case_files import name_files, name_label, open_case_image, read_case_classes
from unetpp.data.preprocess import network_grid
from unetpp.deploy.select.candidates import Counted, Key, Tiles
from unetpp.deploy.select.runs import ComparedRun, FoldPredictors
from unetpp.errors import failures_of
from unetpp.infer.bands import Band, align_bands
from unetpp.infer.options import PredictOptions
from unetpp.infer.predictor import Predictor
from unetpp.infer.tiles import TileGrid
from unetpp.labels.classes import ignored_index, list_regions
from unetpp.labels.coding_torch import make_tensor_coding
from unetpp.layouts.dataset import Case
from unetpp.measure.pace import Pace, choose_order
from unetpp.progress import Stage


@dataclass(frozen=True, eq=False)
class Scored:
    """Counts of every candidate."""

    cases: list[Case]
    counts: dict[Key, list[Counted]]
    tiles: list[Tiles]
    """Median number of tiles of a case, for each run."""


def score_candidates(
    runs: Sequence[ComparedRun],
    keys: Sequence[Key],
    cases: Sequence[Case],
    predictors: FoldPredictors,
    show: Stage,
    until: float = math.inf,
) -> Scored:
    """Score all candidates on cases.

    Args:
        runs: the runs.
        keys: the candidates.
        cases: cases that all runs have validated.
        predictors: those of their folds.
        show: called with (cases done, cases in all).
        until: time of `time.monotonic` at which scoring ends; at least one case is scored.

    Raises:
        DataError: an image or a label that cannot be read.
    """
    pace = Pace(len(cases), until)
    found: dict[int, dict[Key, Counted]] = {}
    tiles: list[list[Tiles]] = [[] for _ in runs]
    for place in pace.limit(_order(runs, cases) if until == math.inf else choose_order(len(cases))):
        case = cases[place]
        with failures_of(name_label(case)):
            reference = read_case_classes(case, runs[0].plan.data)
        with failures_of(name_files(case.images)):
            found[place] = {}
            for tta in (False, True):
                if not (wanted := [key for key in keys if key.tta == tta]):
                    continue
                found[place] |= _score_case(runs, wanted, case, reference, predictors, tiles if not tta else None)
        with pace.extra():  # there is none: a case is done
            show(pace.done, len(cases))
    places = sorted(found)
    medians = [Tiles(*map(float, np.median(counts, axis=0))) for counts in tiles]
    return Scored(
        [cases[place] for place in places], {key: [found[place][key] for place in places] for key in keys}, medians
    )


def _order(runs: Sequence[ComparedRun], cases: Sequence[Case]) -> list[int]:
    """Order cases by their folds, so that weights are loaded seldom."""
    return sorted(range(len(cases)), key=lambda place: [str(run.validated[cases[place].id]) for run in runs])


def _score_case(
    runs: Sequence[ComparedRun],
    keys: Sequence[Key],
    case: Case,
    reference: np.ndarray,
    predictors: FoldPredictors,
    tiles: list[list[Tiles]] | None,
) -> dict[Key, Counted]:
    """Score candidates of one kind, all mirrored or none; all runs predict the same rows at the same time."""
    options, data = PredictOptions(tta=keys[0].tta), runs[0].plan.data
    classes, coding = data.num_classes, make_tensor_coding(data)
    sizes = [
        sorted({size for key in keys for run, size in key.members if run == number}) for number in range(len(runs))
    ]
    streams, turned = [], reference
    for number, wanted in enumerate(sizes):
        predictor, source = predictors.find(number, case.id), open_case_image(case, runs[number].plan.data)
        image, bands = predictor.stream_source(source, str(case.images[0]), wanted, options)
        streams.append(bands)
        turned = image.orientation.turn(reference)
        if tiles is not None:
            tiles[number].append(_count_tiles(predictor, image.shape[1:]))
    pairs = {key: torch.zeros((classes, classes), dtype=torch.int64) for key in keys}
    for aligned in align_bands(streams):
        first, count = aligned[0].first_row, aligned[0].probabilities.shape[2]
        rows = torch.from_numpy(np.ascontiguousarray(turned[first : first + count]).astype(np.int64))
        rows = rows.to(aligned[0].probabilities.device)
        for key in keys:
            indices = coding.class_indices(_average(key, aligned, sizes)).long()
            pairs[key] += count_pairs(indices, rows, classes).cpu()
    scored = list_regions(classes, data.region_indices)
    return {key: to_counted(each.numpy(), scored) for key, each in pairs.items()}


def _count_tiles(predictor: Predictor, grid: tuple[int, ...]) -> Tiles:
    """Count the tiles of an image, given its shape on the grid of the network."""
    plan, first = predictor.plan, predictor.first_stage
    own = len(TileGrid(grid, plan.predict.tile, plan.predict.overlap))
    if first is None or plan.data.voxel_mm is None:
        return Tiles(own)
    coarse = network_grid(grid, plan.data.voxel_mm, first.data.spacing_mm)
    return Tiles(own, len(TileGrid(coarse, first.plan.predict.tile, first.plan.predict.overlap)))


def _average(key: Key, bands: Sequence[Band], sizes: Sequence[Sequence[int]]) -> Tensor:
    """Average the probabilities (channels, ...) of the members of a candidate."""
    found = [bands[run].probabilities[sizes[run].index(size)] for run, size in key.members]
    return found[0] if len(found) == 1 else torch.stack(found).mean(dim=0)


def count_pairs(indices: Tensor, reference: Tensor, classes: int) -> Tensor:
    """Count voxels (classes of the reference, classes of the prediction); those that nobody labeled are left out."""
    labeled = reference != ignored_index(classes)
    codes = reference[labeled] * classes + indices[labeled]
    return torch.bincount(codes, minlength=classes * classes).view(classes, classes)


def to_counted(pairs: np.ndarray, scored: Sequence[Sequence[int]]) -> Counted:
    """Sum up pairs (classes of the reference, of the prediction) for all that is scored, each with its class indices.

    Args:
        pairs: numbers of voxels.
        scored: class indices of each foreground class or region, as of `list_regions`.
    """
    belongs = np.zeros((len(scored), len(pairs)), dtype=pairs.dtype)
    for row, indices in zip(belongs, scored, strict=True):
        row[list(indices)] = 1
    both = ((belongs @ pairs) * belongs).sum(axis=1)
    return Counted(both, belongs @ pairs.sum(axis=0), belongs @ pairs.sum(axis=1))
