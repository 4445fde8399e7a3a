"""Planes of volumes, whose axes run to the right, the front and the head however they are stored."""

from __future__ import annotations

import nibabel
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from unetpp.formats.planes import AS_STORED, PlaneSource, PlaneTurn, find_turn, plane_geometry
from unetpp.formats.sources import ArraySource
from unetpp.volume import Geometry

RNG = np.random.default_rng(0)


def plane_turns() -> st.SearchStrategy[PlaneTurn]:
    return st.builds(PlaneTurn, st.booleans(), st.tuples(st.booleans(), st.booleans()))


@given(plane_turns())
def test_undoing_a_turn_gives_the_stored_plane(turn: PlaneTurn) -> None:
    plane = RNG.normal(size=(2, 3, 4))
    assert np.array_equal(turn.undo(turn.apply(plane)), plane)
    assert np.array_equal(turn.apply(turn.undo(plane)), plane)


def test_planes_without_an_orientation_are_the_slices_of_the_array() -> None:
    array = RNG.normal(size=(2, 3, 4, 5))
    source = ArraySource(array, Geometry(".tif", (3, 2, 1)))
    for plane in range(3):
        found = PlaneSource(source, plane)
        assert found.shape == (2, 4, 5)
        assert found.geometry.spacing_mm == (2, 1)
        assert np.array_equal(found.read((slice(None), slice(None))), array[:, plane])
        assert np.array_equal(found.read((slice(1, 3), slice(2, 5))), array[:, plane, 1:3, 2:5])
    assert find_turn(Geometry(".nii", (1, 1, 1), np.diag([-1, 1, 1, 1.0]), is_placed=False)) == AS_STORED


@given(st.permutations(range(2)), st.tuples(*[st.booleans()] * 3), st.integers(0, 2), st.data())
def test_a_plane_is_the_same_however_its_axes_are_stored(
    order: list[int], flips: tuple[bool, ...], normal: int, data: st.DataObject
) -> None:
    in_plane = [axis for axis in range(3) if axis != normal]
    whole = nibabel.Nifti1Image(RNG.normal(size=(3, 4, 5)), np.diag([1, 2, 3, 1.0]))
    # columns along the first axis of the patient in the plane, rows along the second, slices along the normal
    axes = [in_plane[order[0]], in_plane[order[1]], normal]
    directions = [("RAS", "LPI")[flip][axis] for axis, flip in zip(axes, flips, strict=True)]
    stored = whole.as_reoriented(
        nibabel.orientations.ornt_transform(
            nibabel.io_orientation(whole.affine), nibabel.orientations.axcodes2ornt(directions)
        )
    )
    array = np.asarray(stored.dataobj).T[None]
    spacing = tuple(float(size) for size in stored.header.get_zooms()[::-1])
    source = ArraySource(array, Geometry(".nii", spacing, stored.affine))
    plane = data.draw(st.integers(0, array.shape[1] - 1))
    found = PlaneSource(source, plane)
    place = array.shape[1] - 1 - plane if flips[2] else plane
    expected = np.take(np.asarray(whole.dataobj), place, normal).T[None]
    assert np.array_equal(found.read((slice(None), slice(None))), expected)
    assert np.array_equal(found.read((slice(1, 2), slice(0, 2))), expected[:, 1:2, 0:2])
    assert found.geometry.spacing_mm == tuple(float(axis + 1) for axis in reversed(in_plane))
    assert plane_geometry(source.geometry).affine is None
