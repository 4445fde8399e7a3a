"""Volumes in canonical order, whatever order their file has."""

from __future__ import annotations

import itertools

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetpp import scratch
from unetpp.data.orientation import (
    Orientation,
    find_orientation,
    keep_axes,
    turn_geometry,
    turn_source,
)
from unetpp.formats.sources import ArraySource
from unetpp.volume import Geometry

orientations = st.builds(
    Orientation, st.permutations(range(3)).map(tuple), st.tuples(st.booleans(), st.booleans(), st.booleans())
)
shapes = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """Any permutation, flips, voxel sizes and origin, and a small rotation."""
    directions = np.eye(3)[draw(st.permutations(range(3)))]
    signs = [draw(st.sampled_from((-1.0, 1.0))) for _ in range(3)]
    angle = draw(st.floats(-0.6, 0.6))
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    zooms = [draw(st.floats(0.1, 8)) for _ in range(3)]
    affine = np.eye(4)
    affine[:3, :3] = rotation @ (directions * signs) * zooms
    affine[:3, 3] = [draw(st.floats(-100, 100)) for _ in range(3)]
    return affine


@given(orientations, shapes)
def test_turning_back_undoes_turning(orientation: Orientation, shape: tuple[int, ...]) -> None:
    array = np.arange(2 * np.prod(shape)).reshape(2, *shape)
    turned = orientation.turn(array)
    assert turned.shape[1:] == orientation.turn_sizes(shape)
    np.testing.assert_array_equal(orientation.turn_back(turned), array)
    assert np.shares_memory(orientation.turn_back(turned), array)


@given(affines(), shapes)
def test_a_volume_is_turned_as_nibabel_turns_it(affine: np.ndarray, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 99, shape).astype(np.int16)
    geometry = Geometry(spacing_mm=tuple(np.linalg.norm(affine[:3, :3], axis=0)[::-1]), affine=affine)
    orientation = find_orientation(geometry, 3)
    assert orientation is not None
    expected = nibabel.as_closest_canonical(nibabel.Nifti1Image(array.T, affine))
    np.testing.assert_array_equal(orientation.turn(array), np.asarray(expected.dataobj).T)
    turned = turn_geometry(geometry, orientation, shape)
    np.testing.assert_allclose(turned.affine, expected.affine, atol=1e-9)
    assert turned.spacing_mm == pytest.approx(expected.header.get_zooms()[::-1], rel=1e-5)
    assert find_orientation(turned, 3) == keep_axes(3)


@given(orientations, shapes, st.data())
def test_any_block_of_a_turned_source_is_that_part_of_the_whole(
    orientation: Orientation, shape: tuple[int, ...], data: st.DataObject
) -> None:
    array = np.arange(2 * np.prod(shape)).reshape(2, *shape)
    source = turn_source(ArraySource(array, Geometry()), orientation)
    limits = [sorted(data.draw(st.tuples(st.integers(0, size), st.integers(0, size)))) for size in source.shape[1:]]
    slices = tuple(slice(*limit) for limit in limits)
    np.testing.assert_array_equal(source.read(slices), orientation.turn(array)[(slice(None), *slices)])
    assert source.read(slices).flags.c_contiguous
    stored = orientation.find_stored_block(slices, array.shape[1:])
    assert orientation.find_turned_block(stored, array.shape[1:]) == slices


def test_a_header_without_a_place_has_no_orientation() -> None:
    assert find_orientation(Geometry(), 3) is None
    assert find_orientation(Geometry(affine=np.eye(4), is_placed=False), 3) is None
    assert find_orientation(Geometry(affine=np.zeros((4, 4))), 3) is None
    assert find_orientation(Geometry(affine=np.eye(4)), 2) is None


def test_all_orders_of_axes_are_told_apart() -> None:
    found = set()
    for codes in itertools.product("RL", "AP", "SI"):
        for order in itertools.permutations(codes):
            ornt = nibabel.orientations.axcodes2ornt(order)
            affine = np.linalg.inv(nibabel.orientations.inv_ornt_aff(ornt, (3, 4, 5)))
            found.add(find_orientation(Geometry(affine=affine), 3))
    assert len(found) == 48


def test_a_turned_array_on_disk_can_be_released(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "LARGE", 1)
    array = scratch.allocate_array((3, 4, 5), np.uint8)
    orientation = Orientation((2, 0, 1), (True, False, True))
    canonical = orientation.turn(array)
    canonical[...] = np.arange(60).reshape(canonical.shape)
    for view in (array, canonical, orientation.turn_back(canonical)):
        assert getattr(view, "_mmap", None) is not None and view.mode == "r+"
        scratch.release(view)
    np.testing.assert_array_equal(canonical, np.arange(60).reshape(canonical.shape))
    np.testing.assert_array_equal(orientation.turn_back(canonical), array)
