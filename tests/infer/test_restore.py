"""Resampling in bands equals one interpolation of the whole."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from unetpp.data.resampling import choose_methods, resample_block
from unetpp.formats.sources import ArraySource
from unetpp.infer.bands import Band, collect
from unetpp.infer.options import PredictOptions
from unetpp.infer.restore import resample_bands
from unetpp.volume import Geometry


def in_bands(probabilities: Tensor, heights: list[int]) -> Iterator[Band]:
    """The rows in bands of these heights, over and over, from one buffer that is overwritten each time."""
    first, number = 0, 0
    while first < probabilities.shape[2]:
        rows = probabilities[:, :, first : first + heights[number % len(heights)]]
        buffer = rows.clone()
        yield Band(first, buffer)
        buffer.fill_(torch.nan)
        first, number = first + rows.shape[2], number + 1


SHAPES = st.integers(2, 3).flatmap(lambda dims: st.tuples(*[st.tuples(*[st.integers(1, 12)] * dims)] * 2))


@settings(deadline=None, max_examples=80)
@given(SHAPES, st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_bands_equal_interpolation_of_the_whole(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], heights: list[int]
) -> None:
    grid, shape = shapes
    whole = torch.rand(2, 3, *grid, generator=torch.Generator().manual_seed(0))
    expected = functional.interpolate(
        whole, size=shape, mode="bilinear" if len(grid) == 2 else "trilinear", align_corners=False
    )
    found = torch.full((2, 3, *shape), torch.nan)
    for band in resample_bands(in_bands(whole, heights), grid, shape):
        found[:, :, band.first_row : band.first_row + band.probabilities.shape[2]] = band.probabilities
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@settings(deadline=None, max_examples=60)
@given(st.tuples(*[st.tuples(*[st.integers(1, 8)] * 3)] * 2), st.integers(0, 2), st.integers(1, 5))
def test_bands_are_restored_as_the_predictor_without_torch_does(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], thick: int, height: int
) -> None:
    grid, shape = shapes
    whole = torch.rand(1, 2, *grid, generator=torch.Generator().manual_seed(0))
    source = ArraySource(whole[0].numpy(), Geometry())
    slices = tuple(slice(0, size) for size in shape)
    expected = resample_block(source, slices, grid, shape, choose_methods(3, "linear", thick))
    found = torch.full((1, 2, *shape), torch.nan)
    for band in resample_bands(in_bands(whole, [height]), grid, shape, thick):
        found[:, :, band.first_row : band.first_row + band.probabilities.shape[2]] = band.probabilities
    torch.testing.assert_close(found[0], torch.from_numpy(expected), atol=1e-5, rtol=1e-5)


def test_rows_come_in_order_and_once() -> None:
    whole = torch.rand(1, 1, 40, 3)
    bands = [
        (band.first_row, band.probabilities.shape[2]) for band in resample_bands(in_bands(whole, [7]), (40, 3), (93, 5))
    ]
    assert [first for first, _ in bands] == [
        sum(height for _, height in bands[:number]) for number in range(len(bands))
    ]
    assert sum(height for _, height in bands) == 93


@pytest.mark.parametrize("channels", [1, 3])
def test_collected_maps_agree_with_each_other(channels: int) -> None:
    whole = torch.rand(2, channels, 9, 5, generator=torch.Generator().manual_seed(1))
    whole = whole if channels == 1 else whole.softmax(dim=1)
    found = collect(in_bands(whole, [2, 3]), (9, 5), (1, 4), PredictOptions(probabilities=True, uncertainty="entropy"))
    assert list(found) == [1, 4]
    for number, prediction in enumerate(found.values()):
        probabilities = torch.from_numpy(prediction.probabilities)
        assert probabilities.shape == (max(2, channels), 9, 5)
        torch.testing.assert_close(
            probabilities[1 if channels == 1 else slice(None)], whole[number, 0 if channels == 1 else slice(None)]
        )
        torch.testing.assert_close(probabilities.sum(dim=0), torch.ones(9, 5))
        assert (prediction.segmentation == probabilities.argmax(dim=0).numpy()).all()
        expected = (
            torch.distributions.Categorical(probs=probabilities.movedim(0, -1)).entropy()
            / torch.tensor(float(len(probabilities))).log()
        )
        torch.testing.assert_close(torch.from_numpy(prediction.uncertainty), expected, atol=1e-5, rtol=1e-4)


def test_uncertainty_is_zero_where_sure_and_one_where_all_are_equal() -> None:
    whole = torch.tensor([0.0, 1.0, 0.5]).view(1, 1, 1, 3)
    found = collect([Band(0, whole)], (1, 3), (1,), PredictOptions(uncertainty="entropy"))[1]
    assert found.uncertainty is not None
    assert found.uncertainty.tolist() == [[0, 0, pytest.approx(1)]]
    assert found.segmentation.tolist() == [[0, 1, 0]]
