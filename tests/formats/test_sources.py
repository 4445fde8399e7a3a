"""Parts of a source equal the slices of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetpp.formats.sources import AreaSource, ArraySource, StackedSource, area_geometry
from unetpp.volume import Geometry


@st.composite
def areas(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """A spatial shape and an area within it."""
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=2, max_size=3)))
    spans = [sorted(draw(st.lists(st.integers(0, size), min_size=2, max_size=2, unique=True))) for size in shape]
    return shape, tuple((span[0], span[1]) for span in spans)


@given(areas(), st.data())
def test_blocks_of_an_area_equal_those_of_the_whole(
    found: tuple[tuple[int, ...], tuple[tuple[int, int], ...]], data: st.DataObject
) -> None:
    shape, area = found
    array = np.arange(2 * np.prod(shape)).reshape(2, *shape)
    part = AreaSource(ArraySource(array, Geometry()), area)
    expected = array[(slice(None), *(slice(*span) for span in area))]
    assert part.shape == expected.shape
    assert np.array_equal(part.read((slice(None),) * len(shape)), expected)
    block = tuple(
        slice(*sorted(data.draw(st.tuples(st.integers(0, size), st.integers(0, size))))) for size in part.shape[1:]
    )
    assert np.array_equal(part.read(block), expected[(slice(None), *block)])


def test_an_area_lies_where_its_voxels_lie_in_the_whole() -> None:
    affine = np.array([[0, -2.0, 0, 5], [3, 0, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1]])
    found = area_geometry(Geometry(".nii", (4, 2, 3), affine, other_affines=(2 * affine,)), ((1, 3), (4, 9), (2, 8)))
    assert found.affine is not None
    assert found.spacing_mm == (4, 2, 3)
    assert np.allclose(found.affine @ [0, 0, 0, 1], affine @ [2, 4, 1, 1])
    assert np.allclose(found.other_affines[0] @ [1, 0, 0, 1], 2 * affine @ [3, 4, 1, 1])


def test_channels_of_several_sources_are_concatenated() -> None:
    first, second = (ArraySource(np.full((1, 2, 3), value, np.uint8), Geometry()) for value in (1, 2))
    stacked = StackedSource((first, second))
    assert stacked.shape == (2, 2, 3)
    assert stacked.read((slice(0, 1), slice(0, 2)))[:, 0].tolist() == [[1, 1], [2, 2]]


@pytest.mark.parametrize("area", [((0, 2), (0, 3))])
def test_an_area_of_an_image_without_a_place_has_none(area: tuple[tuple[int, int], ...]) -> None:
    assert area_geometry(Geometry(".tif"), area).affine is None
