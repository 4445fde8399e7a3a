"""Outlines become the pixels whose centers they enclose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Polygon

from unetpp.annotations.outlines import Outline, draw, ellipse, rectangle

SHAPE = (12, 15)
ROWS, COLUMNS = np.indices(SHAPE) + 0.5
POINT = st.tuples(st.floats(-4, 19, width=32), st.floats(-4, 16, width=32))


def distance(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    along = (points - start) @ (end - start) / max(float((end - start) @ (end - start)), 1e-30)
    nearest = start + np.clip(along, 0, 1)[:, None] * (end - start)
    return np.linalg.norm(points - nearest, axis=1)


def test_a_rectangle_covers_its_pixels() -> None:
    label = draw([Outline("a", (rectangle(2, 3, 6, 5),))], {"a": 7}, SHAPE)
    expected = np.zeros(SHAPE, np.uint8)
    expected[3:5, 2:6] = 7
    np.testing.assert_array_equal(label, expected)


@settings(deadline=None, max_examples=200)
@given(st.lists(POINT, min_size=3, max_size=3))
def test_a_triangle_covers_the_centers_within(points: list[tuple[float, float]]) -> None:
    ring = np.array(points)
    found = draw([Outline("a", (ring,))], {"a": 1}, SHAPE).astype(bool)
    centers = np.stack([COLUMNS.ravel(), ROWS.ravel()], axis=1)
    inside = Polygon([*ring, ring[0]]).contains_points(centers).reshape(SHAPE)
    on_an_edge = np.min([distance(centers, ring[k - 1], ring[k]) for k in range(3)], axis=0).reshape(SHAPE) < 1e-4
    np.testing.assert_array_equal(found | on_an_edge, inside | on_an_edge)


def test_a_ring_within_another_is_a_hole() -> None:
    label = draw([Outline("a", (rectangle(1, 1, 11, 11), rectangle(3, 3, 5, 5)))], {"a": 1}, SHAPE)
    assert label.sum() == 96
    assert not label[3:5, 3:5].any()


def test_later_outlines_lie_on_top() -> None:
    outlines = [Outline("a", (rectangle(0, 0, 8, 8),)), Outline("b", (rectangle(4, 4, 12, 12),))]
    label = draw(outlines, {"a": 1, "b": 2}, SHAPE)
    assert (label[5, 5], label[1, 1], (label == 1).sum()) == (2, 1, 48)


@given(st.integers(-5, 14), st.integers(-5, 17))
def test_a_mask_is_cut_at_the_edges(top: int, left: int) -> None:
    mask = np.random.default_rng(0).random((4, 6)) < 0.5
    large = np.zeros((40, 40), bool)
    large[10 + top : 14 + top, 10 + left : 16 + left] = mask
    label = draw([Outline("a", mask=mask, corner=(top, left))], {"a": 1}, SHAPE)
    np.testing.assert_array_equal(label.astype(bool), large[10 : 10 + SHAPE[0], 10 : 10 + SHAPE[1]])


def test_a_circle_has_its_area() -> None:
    label = draw([Outline("a", (ellipse(50, 40, 30, 20, degrees=30),))], {"a": 300}, (90, 100))
    assert label.dtype == np.uint16
    assert (label == 300).sum() == pytest.approx(np.pi * 600, rel=0.01)
