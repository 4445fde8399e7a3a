from __future__ import annotations

import numpy as np
import pytest

from unetpp import slabs
from unetpp.data.intensities import SAMPLE, measure_intensities
from unetpp.formats.sources import ArraySource
from unetpp.volume import Geometry

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("rows", [1, 3, 100])
@pytest.mark.parametrize("channels", [1, 3])
def test_slabs_measure_what_the_whole_has(monkeypatch: pytest.MonkeyPatch, rows: int, channels: int) -> None:
    monkeypatch.setattr(slabs, "SLAB_VALUES", rows * 25 * 30)
    image = RNG.normal(size=(channels, 20, 25, 30)).astype(np.float32)
    label = (RNG.random((20, 25, 30)) < 0.3).astype(np.uint8)
    found = measure_intensities(ArraySource(image, Geometry()), label)
    places = np.flatnonzero(label)
    chosen = places[np.linspace(0, len(places) - 1, SAMPLE).astype(np.int64)]
    np.testing.assert_array_equal(found.sample, image.reshape(channels, -1)[:, chosen])
    assert found.minimum == tuple(image.min(axis=(1, 2, 3)).tolist())
    assert found.maximum == tuple(image.max(axis=(1, 2, 3)).tolist())
    assert not found.is_gray
    assert not found.not_finite


def test_equal_images_have_equal_digests_and_gray_is_found() -> None:
    image = np.broadcast_to(RNG.integers(0, 99, (1, 8, 9), dtype=np.uint8), (3, 8, 9))
    first, second = (measure_intensities(ArraySource(array, Geometry()), None) for array in (image, image.copy()))
    assert first.is_gray
    assert first.digest == second.digest
    assert first.sample.shape == (3, 0)
    other = measure_intensities(ArraySource(image.reshape(3, 9, 8), Geometry()), None)
    assert other.digest != first.digest


def test_values_that_are_not_finite_are_counted() -> None:
    image = np.zeros((1, 4, 4), np.float32)
    image[0, 1, :3] = np.nan, np.inf, -np.inf
    assert measure_intensities(ArraySource(image, Geometry()), None).not_finite == 3


@pytest.mark.parametrize("rows", [1, 3, 100])
def test_the_box_around_what_is_not_0_is_measured(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(slabs, "SLAB_VALUES", rows * 25 * 30)
    image = np.zeros((2, 20, 25, 30), np.int16)
    assert measure_intensities(ArraySource(image, Geometry()), None).inside == 1
    image[0, 4, 3, 29] = image[1, 13, 9, 10] = -7
    assert measure_intensities(ArraySource(image, Geometry()), None).inside == 10 * 7 * 20 / (20 * 25 * 30)
