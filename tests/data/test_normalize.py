"""Normalization in blocks of any size is that of the whole image."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetpp import slabs
from unetpp.data.normalize import NormalizedImage
from unetpp.errors import DataError
from unetpp.formats.sources import ArraySource
from unetpp.plan import Normalization
from unetpp.volume import Geometry


class Copies:
    """A source whose blocks may be modified."""

    def __init__(self, array: np.ndarray) -> None:
        self._source = ArraySource(array.astype(np.float32), Geometry())

    def read(self, slices: Any) -> np.ndarray:
        return self._source.read(slices).astype(np.float32)


def normalize(array: np.ndarray, *plans: Normalization, rows: int = 100) -> np.ndarray:
    shape = array.shape[1:]
    with mock.patch.object(slabs, "SLAB_VALUES", rows * int(np.prod(shape[1:]))):
        image = NormalizedImage(Copies(array), plans, shape, "image", False)
    return image.read(tuple(slice(0, size) for size in shape))


def body(seed: int, channels: int = 2) -> np.ndarray:
    array = np.zeros((channels, 9, 8, 7), np.float32)
    array[:, 2:6, 1:6, 2:7] = np.random.default_rng(seed).normal(50, 20, (channels, 4, 5, 5))
    array[0, 3, 3, 3] = 0
    return array


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 99), st.integers(1, 9))
def test_what_is_empty_in_every_channel_does_not_count_and_stays_0(seed: int, rows: int) -> None:
    array = body(seed)
    seen = normalize(array, Normalization(nonzero=True), Normalization(), rows=rows)
    filled = array.any(axis=0)
    assert filled[3, 3, 3]
    values = array[0][filled].astype(np.float64)
    np.testing.assert_allclose(seen[0][filled], (values - values.mean()) / values.std(), atol=1e-5)
    assert not seen[0][~filled].any()
    np.testing.assert_allclose(seen[1], (array[1] - array[1].mean()) / array[1].std(), atol=1e-5)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 99), st.integers(1, 9), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_rescaling_goes_from_0_to_1_whatever_the_scale(seed: int, rows: int, factor: float, offset: float) -> None:
    array = body(seed) * factor + offset
    seen = normalize(array, *[Normalization(scale="0_to_1")] * 2, rows=rows)
    assert seen.min() == 0 and seen.max() == pytest.approx(1)
    low, high = array.min(axis=(1, 2, 3), keepdims=True), array.max(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(seen, (array - low) / (high - low), atol=1e-3)


def test_images_that_are_empty_or_constant_are_0() -> None:
    empty, constant = np.zeros((1, 4, 5, 6)), np.full((1, 4, 5, 6), 7.0)
    for plan in (Normalization(nonzero=True), Normalization(scale="0_to_1"), Normalization()):
        assert not normalize(empty, plan).any()
        assert not normalize(constant, plan).any()


def test_what_is_not_finite_is_refused() -> None:
    array = body(0)
    array[0, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="NaN or infinite"):
        normalize(array, Normalization(nonzero=True), Normalization())


@pytest.mark.parametrize(
    "fields",
    [
        {"per_case": False, "nonzero": True},
        {"per_case": False, "scale": "0_to_1"},
        {"scale": "0_to_1", "nonzero": True},
    ],
)
def test_settings_that_exclude_each_other_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="alone"):
        Normalization(**fields)
