"""Voxels and connected objects of the classes of a segmentation."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from unetpp import slabs
from unetpp.labels.objects import ClassSize, measure_classes


def count_whole(segmentation: np.ndarray, num_classes: int) -> list[ClassSize]:
    structure = np.ones((3,) * segmentation.ndim)
    masks = [segmentation == index for index in range(1, num_classes)]
    return [ClassSize(int(mask.sum()), ndimage.label(mask, structure)[1]) for mask in masks]


@settings(deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([(9, 7), (12, 1), (1, 5), (6, 4, 5)]), st.sampled_from([0.1, 0.4, 0.7]))
def test_slabs_count_as_the_whole_does(seed: int, shape: tuple[int, ...], filled: float) -> None:
    rng = np.random.default_rng(seed)
    segmentation = np.where(rng.random(shape) < filled, rng.integers(1, 3, shape), 0).astype(np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slabs, "SLAB_VALUES", 2 * int(np.prod(shape[1:])))
        assert measure_classes(segmentation, 3) == count_whole(segmentation, 3)


def test_an_object_that_closes_late_is_one() -> None:
    """A U whose arms meet in the last row, and one that meets in the first."""
    arms = np.zeros((9, 5), np.uint8)
    arms[:, [0, 4]] = 1
    for row in (0, -1):
        closed = arms.copy()
        closed[row] = 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(slabs, "SLAB_VALUES", 10)
            assert measure_classes(closed, 2) == [ClassSize(int(closed.sum()), 1)]
            assert measure_classes(arms, 2)[0].objects == 2


def test_objects_are_not_counted_without_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    assert measure_classes(np.ones((2, 2), np.uint8), 2) == [ClassSize(4, None)]
