"""What the network's grid does to labels, and how large classes are on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetpp.data.orientation import Orientation, keep_axes
from unetpp.labels.coding_torch import CLASSES, RegionTensors
from unetpp.layouts.cases import find_cases
from unetpp.measure.label_study import measure_boxes, move_label, study_labels
from unetpp.plan import DataPlan

LABELS = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def draw_label(random: np.random.Generator, dims: int, classes: int) -> np.ndarray:
    return random.integers(0, classes, tuple(random.integers(1, 9, dims)), np.uint8)


@given(LABELS, st.integers(2, 3), st.integers(2, 5), st.integers(2, 4))
def test_a_grid_that_is_finer_by_a_whole_factor_loses_nothing(
    random: np.random.Generator, dims: int, classes: int, factor: int
) -> None:
    label = draw_label(random, dims, classes)
    moved, back = move_label(label, keep_axes(dims), tuple(factor * size for size in label.shape), CLASSES, classes)
    assert moved.shape == tuple(factor * size for size in label.shape)
    assert back is not None and np.array_equal(back, label) and back.dtype == label.dtype


@given(LABELS, st.integers(2, 4))
def test_axes_of_the_file_make_no_difference(random: np.random.Generator, classes: int) -> None:
    """A label that is stored turned comes back turned, with the same voxels."""
    label = draw_label(random, 3, classes)
    grid = tuple(int(size) for size in random.integers(1, 9, 3))
    order = tuple(int(axis) for axis in random.permutation(3))
    turned = Orientation(order, tuple(bool(flip) for flip in random.integers(0, 2, 3)))
    moved, back = move_label(label, keep_axes(3), grid, CLASSES, classes)
    stored = np.ascontiguousarray(turned.turn_back(label))
    moved_too, back_too = move_label(stored, turned, grid, CLASSES, classes)
    assert np.array_equal(moved, moved_too)
    assert back_too is None if back is None else np.array_equal(turned.turn_back(back), back_too)


def test_a_coarser_grid_loses_what_is_thinner_than_its_voxels() -> None:
    label = np.zeros((16, 16), np.uint8)
    label[3] = 1  # a line between the rows that are sampled: 2, 6, 10, 14
    label[8:16, 8:16] = 2
    _, back = move_label(label, keep_axes(2), (4, 4), CLASSES, 3)
    assert back is not None and 1 not in back and (back == 2)[9:15, 9:15].all()


def test_nothing_is_resampled_to_the_own_grid() -> None:
    label = np.ones((3, 4), np.uint8)
    moved, back = move_label(label, keep_axes(2), (3, 4), CLASSES, 2)
    assert back is None and np.array_equal(moved, label)


def test_boxes_are_those_around_each_class() -> None:
    label = np.zeros((6, 8), np.uint8)
    label[1, 2] = label[4, 3] = 1
    boxes = measure_boxes(label, 3)
    assert boxes[0].tolist() == [4, 2] and np.isnan(boxes[1]).all()


def test_regions_keep_what_their_classes_lose_to_each_other() -> None:
    """Thin stripes of two classes are lost one by one, but not their union."""
    label = np.zeros((16, 16), np.uint8)
    label[4:12, 4:12] = 1 + np.arange(8) % 2
    union = ((1, 2), (2,))
    _, back = move_label(label, keep_axes(2), (8, 8), RegionTensors(union), 2)
    assert back is not None and (back > 0).sum() == 64
    assert measure_boxes(label, 3, union).tolist() == [[8, 8], [8, 7]]


@pytest.fixture
def thick(bodies: Path) -> tuple[Path, DataPlan]:
    """Volumes, and a plan whose voxels are twice as long as theirs."""
    import unetpp

    made = unetpp.plan(bodies, bodies.parent / "run", epochs=1, device="cpu", dry_run=True).plan.data
    sizes = tuple(2 * size for size in made.voxel_mm or (1.0,) * 3)
    return bodies, made.model_copy(update={"spacing_mm": sizes})


def test_the_ceiling_is_below_one_on_a_coarser_grid_and_bounded_in_time(thick: tuple[Path, DataPlan]) -> None:
    cases = find_cases(thick[0]).cases
    study = study_labels(cases, thick[1], 60.0)
    assert study.studied == study.resampled == study.labeled == 6
    assert study.ceiling is not None
    scores = [score.dice for score in study.ceiling.classes.values()]
    assert all(dice is not None and 0.3 < dice < 1 for dice in scores)
    assert study.extents.keys() == set(thick[1].classes[1:])
    hasty = study_labels(cases, thick[1], 0.0)
    assert (hasty.studied, hasty.labeled, hasty.ceiling) == (0, 6, None)


def test_files_on_the_grid_have_no_ceiling(thick: tuple[Path, DataPlan]) -> None:
    own = thick[1].model_copy(update={"spacing_mm": None})
    study = study_labels(find_cases(thick[0]).cases, own, 60.0)
    assert (study.studied, study.resampled, study.ceiling) == (6, 0, None)
