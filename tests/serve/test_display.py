"""Turning files to the page and painted voxels back is exact, for any orientation, oblique ones too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetpp.errors import DataError
from unetpp.volume import Geometry

pytest.importorskip("nibabel")
from unetpp.serve.display import DisplayGrid

SIZES = st.tuples(*[st.integers(2, 6)] * 3)


def turn_affine(order: list[int], flips: list[int], angle: float, spacing: tuple[float, ...]) -> np.ndarray:
    """An affine whose axes are permuted, flipped and oblique."""
    turned = np.zeros((3, 3))
    for column, (axis, flip) in enumerate(zip(order, flips, strict=True)):
        turned[axis, column] = flip * spacing[column]
    cosine, sine = np.cos(angle), np.sin(angle)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]) @ turned
    affine[:3, 3] = (-7.5, 3.25, 11)
    return affine


AFFINES = st.builds(
    turn_affine,
    st.permutations([0, 1, 2]),
    st.lists(st.sampled_from([-1, 1]), min_size=3, max_size=3),
    st.floats(-0.6, 0.6),
    st.tuples(*[st.floats(0.5, 3)] * 3),
)


@given(SIZES, AFFINES)
def test_what_is_painted_comes_back_to_its_voxel(size: tuple[int, ...], affine: np.ndarray) -> None:
    array = np.arange(np.prod(size)).reshape(size)
    grid = DisplayGrid.of(size, Geometry(affine=affine))
    shown = grid.turn(array)
    assert shown.shape == grid.shape
    block, values = grid.place(shown, grid.affine, "image")
    assert np.array_equal(array[block], values)
    directions = grid.affine[:3, :3]
    assert (np.abs(directions).argmax(axis=0) == [0, 1, 2]).all() and (np.diag(directions) > 0).all()


@given(SIZES, AFFINES, st.data())
def test_boxes_show_and_take_their_part(size: tuple[int, ...], affine: np.ndarray, data: st.DataObject) -> None:
    array = np.arange(np.prod(size)).reshape(size)
    grid = DisplayGrid.of(size, Geometry(affine=affine))
    starts = [data.draw(st.integers(0, length - 1)) for length in grid.shape]
    box = tuple(
        (start, data.draw(st.integers(start + 1, length))) for start, length in zip(starts, grid.shape, strict=True)
    )
    part = grid.turn(array[grid.locate(box)])
    assert np.array_equal(part, grid.turn(array)[tuple(slice(*each) for each in box)])
    block, values = grid.place(part, grid.move(box), "image")
    assert np.array_equal(array[block], values) and values.size == part.size
    assert grid.find_shown(grid.locate(box)) == box and grid.find_shown(block) == box
    first = grid.find_voxel((0, 0, 0), grid.move(box))
    assert array[first] == part[0, 0, 0]


@given(SIZES, AFFINES, st.permutations([0, 1, 2]), st.lists(st.booleans(), min_size=3, max_size=3))
def test_a_viewer_may_turn_its_axes(
    size: tuple[int, ...], affine: np.ndarray, order: list[int], flips: list[bool]
) -> None:
    """A viewer that paints on other axes than it was given says so in its affine."""
    array = np.arange(np.prod(size)).reshape(size)
    grid = DisplayGrid.of(size, Geometry(affine=affine))
    shown, place = grid.turn(array), grid.affine
    for axis, flip in enumerate(flips):
        if flip:
            shown = np.flip(shown, axis)
            place = place.copy()
            place[:3, 3] += place[:3, axis] * (shown.shape[axis] - 1)
            place[:3, axis] *= -1
    turned = np.eye(4)
    turned[:3, :3] = np.eye(3)[:, order]
    block, values = grid.place(shown.transpose(order), place @ turned, "image")
    assert np.array_equal(array[block], values)


def test_pictures_have_their_first_row_on_top() -> None:
    picture = np.arange(6).reshape(2, 3)
    grid = DisplayGrid.of((2, 3), Geometry(".png"))
    assert grid.shape == (3, 2, 1)
    assert grid.turn(picture)[:, 1, 0].tolist() == [0, 1, 2]  # y points up
    block, values = grid.place(grid.turn(picture), grid.affine, "image")
    assert np.array_equal(picture[block], values)


@pytest.mark.parametrize("change", ["shift", "scale", "outside", "oblique"])
def test_strokes_of_another_grid_are_refused(change: str) -> None:
    grid = DisplayGrid.of((4, 5, 6), Geometry(affine=np.diag([1.0, 1.0, 2.0, 1.0])))
    affine = grid.affine.copy()
    if change == "shift":
        affine[0, 3] += 0.4
    if change == "outside":
        affine[1, 3] += 1
    if change == "scale":
        affine[2, 2] *= 1.5
    if change == "oblique":
        affine[0, 1] += 0.2
    with pytest.raises(DataError, match="another grid"):
        grid.place(np.zeros(grid.shape), affine, "image")
