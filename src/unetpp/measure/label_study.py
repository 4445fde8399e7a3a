"""What labels alone say about a plan: the best scores that its grid allows, and how much of a class a patch sees.

Labels go to the network's grid as in training and come back as predictions do (probabilities, here 0 and 1, are
interpolated, then the most probable class is taken). What this loses no network can win back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from unetpp.data.case_files import open_case_image, read_case_classes
from unetpp.data.orientation import Orientation
from unetpp.data.preprocess import choose_orientation, find_nearest_axis, network_grid
from unetpp.data.resampling import resample_nearest
from unetpp.infer.bands import Band, rows_per_chunk
from unetpp.infer.restore import resample_bands
from unetpp.labels.classes import list_regions
from unetpp.labels.coding_torch import TensorCoding, make_tensor_coding
from unetpp.layouts.dataset import Case
from unetpp.metrics.scores import CaseScore, score_case, summarize
from unetpp.model_notes import Metrics
from unetpp.plan import DataPlan
from unetpp.volume import Geometry

MOST_CASES = 20
"""Largest number of labels that are studied."""
_SECONDS_PER_VALUE = 2e-7
"""Time for a voxel and class of a label that is resampled and scored, until it was measured here."""
_CERTAIN = 1e4
"""A logit of probability 1; -1e4 is that of 0."""


@dataclass(frozen=True)
class LabelStudy:
    """What some labels show."""

    studied: int = 0
    """Number of labels that were studied."""
    labeled: int = 0
    """Number of cases with a label."""
    too_large: int = 0
    """Labels for which the time would not have sufficed."""
    resampled: int = 0
    """Labels that the plan resamples."""
    ceiling: Metrics | None = None
    """Scores of those on their way to the grid and back; None: the plan resamples none of them."""
    extents: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Median size of the box around each class or region on the network's grid, along each axis in its voxels."""


def study_labels(
    cases: Sequence[Case], plan: DataPlan, seconds: float, show: Callable[[int, int], object] | None = None
) -> LabelStudy:
    """Study labels of evenly chosen cases, one at a time, as many as the time allows.

    Args:
        cases: all cases; those without a label are left out.
        plan: the data section of the plan.
        seconds: time that it may take, about.
        show: called with (labels done, labels in all).

    Raises:
        DataError: a file cannot be read any more.
    """
    labeled = [case for case in cases if case.labels]
    coding, regions = make_tensor_coding(plan), plan.region_indices
    chosen = [labeled[place] for place in np.linspace(0, len(labeled) - 1, min(MOST_CASES, len(labeled))).astype(int)]
    until, pace, boxes, scores, too_large = time.monotonic() + seconds, _SECONDS_PER_VALUE, list[np.ndarray](), [], 0
    for number, case in enumerate(chosen):
        if (left := until - time.monotonic()) <= 0:
            break
        source = open_case_image(case, plan)
        orientation, grid = find_grid(source.shape[1:], source.geometry, plan)
        values = max(np.prod(grid), np.prod(source.shape[1:])) * len(plan.outputs)
        if pace * values > left:
            too_large += 1
            continue
        begun = time.monotonic()
        reference = read_case_classes(case, plan)
        spacing = source.geometry.spacing_mm and orientation.turn_sizes(source.geometry.spacing_mm)
        thick = find_nearest_axis(spacing, plan)
        moved, restored = move_label(reference, orientation, grid, coding, len(plan.outputs), thick)
        boxes.append(measure_boxes(moved, plan.num_classes, regions))
        if restored is not None:
            pair, spacing = (restored, reference), source.geometry.spacing_mm
            scores.append(score_case(case.id, *pair, plan.num_classes, spacing, regions=regions))
            pace = (time.monotonic() - begun) / values
        if show:
            show(number + 1, len(chosen))
    return _summarize(boxes, scores, plan, len(labeled), too_large)


def find_grid(shape: tuple[int, ...], geometry: Geometry, plan: DataPlan) -> tuple[Orientation, tuple[int, ...]]:
    """Find what turns an image (*shape) to the network's axes, and its shape on the network's grid."""
    orientation = choose_orientation(geometry, plan)
    spacing = geometry.spacing_mm and orientation.turn_sizes(geometry.spacing_mm)
    return orientation, network_grid(orientation.turn_sizes(shape), spacing, plan.spacing_mm)


def move_label(
    reference: np.ndarray,
    orientation: Orientation,
    grid: tuple[int, ...],
    coding: TensorCoding,
    outputs: int,
    thick: int | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Bring class indices to the network's grid, and back.

    Args:
        reference: class indices (*spatial) on the grid of the file.
        orientation: what turns them to the network's axes.
        grid: shape of the network's grid.
        coding: what the channels of the network mean.
        outputs: number of its logits; an index of no class becomes background on the way back.
        thick: axis of the grid along which the nearest slice is taken; None: there is none.

    Returns:
        Class indices on the network's grid, and those that came back (*spatial); None where nothing is resampled.
    """
    turned = np.ascontiguousarray(orientation.turn(reference))
    if turned.shape == grid:
        return turned, None
    moved, restored = resample_nearest(turned, grid), np.zeros(turned.shape, reference.dtype)
    for band in resample_bands(_yield_bands(moved, coding, outputs), grid, turned.shape, thick):
        found = coding.class_indices(band.probabilities[0]).numpy()
        restored[band.first_row : band.first_row + found.shape[0]] = found
    return moved, orientation.turn_back(restored)


def _yield_bands(indices: np.ndarray, coding: TensorCoding, outputs: int) -> Iterator[Band]:
    """Yield class indices as probabilities of 0 and 1, compact as in predictions."""
    rows, classes = rows_per_chunk(outputs * indices[0].size), coding.count_classes(outputs)
    for first in range(0, len(indices), rows):
        part = torch.from_numpy(indices[first : first + rows].astype(np.int32))
        targets = coding.make_targets(part.where(part < classes, 0)[None, None], outputs)
        yield Band(first, coding.compact(_CERTAIN * (2 * targets - 1)))


def measure_boxes(indices: np.ndarray, num_classes: int, regions: Sequence[Sequence[int]] | None = None) -> np.ndarray:
    """Measure the box around each foreground class or region: (scored, axes) in voxels; NaN for one that is absent."""
    from scipy.ndimage import find_objects

    boxes, parts = find_objects(indices, num_classes - 1), list_regions(num_classes, regions)
    found = np.full((len(parts), indices.ndim), np.nan)
    for row, part in zip(found, parts, strict=True):
        if own := [boxes[index - 1] for index in part if boxes[index - 1]]:
            row[:] = [
                max(side.stop for side in sides) - min(side.start for side in sides) for sides in zip(*own, strict=True)
            ]
    return found


def _summarize(
    boxes: Sequence[np.ndarray], scores: Sequence[CaseScore], plan: DataPlan, labeled: int, too_large: int
) -> LabelStudy:
    extents = {}
    for number, name in enumerate(plan.scored):
        known = np.array([box[number] for box in boxes if not np.isnan(box[number]).any()])
        if len(known):
            extents[name] = tuple(np.median(known, axis=0).tolist())
    ceiling = summarize(scores, (plan.classes[0], *plan.scored)) if scores else None
    return LabelStudy(len(boxes), labeled, too_large, len(scores), ceiling, extents)
