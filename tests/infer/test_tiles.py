"""Weights of tiles sum to one at every voxel, whatever the sizes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetpp.infer.tiles import TileGrid, axis_spans, axis_starts, read_tile

SIZES = st.integers(1, 70)
OVERLAPS = st.floats(0, 0.95)


@given(SIZES, SIZES, OVERLAPS)
def test_weights_along_an_axis_sum_to_one_at_every_voxel(size: int, tile: int, overlap: float) -> None:
    total = np.zeros(size)
    for span in axis_spans(size, tile, overlap):
        total[span.inside] += span.weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


@given(SIZES, SIZES, OVERLAPS)
def test_spans_lie_in_the_image_and_in_the_tile(size: int, tile: int, overlap: float) -> None:
    for span in axis_spans(size, tile, overlap):
        assert 0 <= span.inside.start < span.inside.stop <= size
        assert 0 <= span.within.start < span.within.stop <= tile
        assert (
            span.inside.stop - span.inside.start
            == span.within.stop - span.within.start
            == min(size, tile)
            == len(span.weights)
        )
        assert (span.weights > 0).all()


@given(SIZES, SIZES, OVERLAPS)
def test_neighbours_overlap_as_asked_and_no_tile_is_superfluous(size: int, tile: int, overlap: float) -> None:
    starts = axis_starts(size, tile, overlap)
    steps = np.diff(starts)
    assert (steps > 0).all()
    assert (steps <= max(1, tile * (1 - overlap) + 1)).all()
    if size > tile:
        assert (starts[0], starts[-1]) == (0, size - tile)
        assert len(starts) <= 2 + (size - tile) / max(1, tile * (1 - overlap) - 0.5)


def test_the_grid_runs_over_the_first_axis_slowest() -> None:
    grid = TileGrid((10, 20), (4, 8), 0.5)
    corners = [tuple(span.inside.start for span in tile) for tile in grid]
    assert corners == sorted(corners)
    assert len(grid) == len(corners) == 16
    assert corners[:5] == [(0, 0), (0, 4), (0, 8), (0, 12), (2, 0)]


@pytest.mark.parametrize("shape", [(3, 5), (1, 9), (12, 2)])
def test_a_tile_beyond_the_image_is_its_reflection(shape: tuple[int, int]) -> None:
    image = _Image(np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32))
    for tile in TileGrid(shape, (8, 8), 0.5):
        block = read_tile(image, tile, (8, 8))
        assert block.shape == (2, 8, 8)
        np.testing.assert_array_equal(
            block[(slice(None), *(span.within for span in tile))],
            image.array[(slice(None), *(span.inside for span in tile))],
        )
        assert np.isin(block, image.array).all()


class _Image:
    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.shape = array.shape

    def read(self, slices: tuple[slice, ...]) -> np.ndarray:
        return self.array[(slice(None), *slices)]
