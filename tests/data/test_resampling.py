"""Resampling of blocks: equal to the whole, sharp within slices, and nothing invented across thick ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetpp.data.preprocess import prepare_image
from unetpp.data.resampling import choose_methods, find_thick_axis, resample_block, resample_nearest
from unetpp.formats.sources import ArraySource
from unetpp.plan import DataPlan, Normalization
from unetpp.volume import Geometry

RNG = np.random.default_rng(0)
SHAPES = st.tuples(*[st.tuples(*[st.integers(1, 9)] * 3)] * 2)


def resample(array: np.ndarray, grid: tuple[int, ...], methods: Any, slices: Any = None) -> np.ndarray:
    source = ArraySource(array[None].astype(np.float32), Geometry())
    return resample_block(source, slices or tuple(slice(0, size) for size in grid), array.shape, grid, methods)[0]


def plan(spacing_mm: tuple[float, ...], resampling: str = "cubic") -> DataPlan:
    return DataPlan(
        dims=3,
        channels=("image",),
        classes=("background", "foreground"),
        label_values=(0, 1),
        normalization=(Normalization(per_case=False),),
        spacing_mm=spacing_mm,
        resampling=resampling,
    )


@pytest.mark.parametrize(
    ("spacing", "target", "axis"),
    [
        ((5.0, 1.0, 1.0), (1.0, 1.0, 1.0), 0),
        ((1.0, 1.0, 1.0), (1.0, 5.0, 1.0), 1),
        ((1.0, 1.0, 4.0), (5.0, 1.0, 1.0), 2),
        ((3.0, 1.0, 1.0), (2.0, 1.0, 1.0), None),
        ((5.0, 5.0, 1.0), (1.0, 1.0, 1.0), None),
        (None, (4.0, 1.0, 1.0), 0),
        ((5.0, 1.0, 1.0), None, 0),
        ((5.0, 1.0), (5.0, 1.0), None),
    ],
)
def test_slices_are_thick_from_a_ratio_of_three_on(spacing: Any, target: Any, axis: int | None) -> None:
    assert find_thick_axis(spacing, target) == axis


@settings(deadline=None)
@given(SHAPES, st.tuples(*[st.sampled_from(["linear", "cubic", "nearest"])] * 3), st.data())
def test_any_block_is_that_part_of_the_whole_with_any_method(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], methods: Any, data: st.DataObject
) -> None:
    shape, grid = shapes
    array = RNG.normal(size=shape).astype(np.float32)
    slices = tuple(
        slice(*sorted(data.draw(st.lists(st.integers(0, size), min_size=2, max_size=2, unique=True)))) for size in grid
    )
    np.testing.assert_array_equal(resample(array, grid, methods, slices), resample(array, grid, methods)[slices])


@settings(deadline=None)
@given(SHAPES)
def test_nearest_blocks_are_what_happens_to_labels(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    shape, grid = shapes
    label = RNG.integers(0, 9, shape)
    np.testing.assert_array_equal(resample(label, grid, ("nearest",) * 3), resample_nearest(label, grid))


@settings(deadline=None)
@given(SHAPES, st.floats(-1000, 1000))
def test_a_constant_stays_constant(shapes: tuple[tuple[int, ...], tuple[int, ...]], value: float) -> None:
    shape, grid = shapes
    array = np.full(shape, value, np.float32)
    np.testing.assert_array_equal(resample(array, grid, ("cubic",) * 3), np.full(grid, value, np.float32))


def test_the_cubic_is_that_of_keys() -> None:
    """Exact for parabolas, and closer to a sine than lines are."""
    places, finer = np.arange(40) + 0.5, (np.arange(100) + 0.5) * 0.4
    array = np.broadcast_to(places[:, None, None] ** 2, (40, 2, 2))
    found = resample(array, (100, 2, 2), ("cubic",) * 3)[5:-5, 0, 0]
    np.testing.assert_allclose(found, finer[5:-5] ** 2, rtol=1e-5)
    wave = np.broadcast_to(np.sin(places / 2)[:, None, None], (40, 2, 2))
    errors = [
        np.abs(resample(wave, (100, 2, 2), (method,) * 3)[5:-5, 0, 0] - np.sin(finer[5:-5] / 2)).max()
        for method in ("cubic", "linear")
    ]
    assert errors[0] < errors[1] / 3


@settings(deadline=None)
@given(st.integers(2, 6), st.integers(1, 4), st.integers(3, 8), st.integers(3, 8))
def test_thick_slices_come_back_as_they_were(slices: int, factor: int, height: int, width: int) -> None:
    array = RNG.normal(size=(slices, height, width)).astype(np.float32)
    grid = (slices * factor, height, width)
    moved = resample(array, grid, choose_methods(3, "cubic", 0))
    np.testing.assert_array_equal(moved, np.repeat(array, factor, axis=0))
    np.testing.assert_array_equal(resample(moved, array.shape, choose_methods(3, "linear", 0)), array)


def test_a_case_of_thick_slices_is_prepared_by_the_nearest_slice() -> None:
    array = RNG.normal(size=(1, 4, 6, 6)).astype(np.float32)
    source = ArraySource(array, Geometry(spacing_mm=(6.0, 1.0, 1.0)))
    image = prepare_image(source, plan((2.0, 1.0, 1.0)))
    assert (image.shape, image.thick) == ((1, 12, 6, 6), 0)
    seen = image.read(tuple(slice(0, size) for size in image.shape[1:]))
    np.testing.assert_array_equal(seen, np.repeat(array, 3, axis=1))
    assert prepare_image(source, plan((2.0, 1.0, 1.0), "linear")).thick is None
    assert prepare_image(ArraySource(array, Geometry()), plan((2.0, 1.0, 1.0))).thick is None
