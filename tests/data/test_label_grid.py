from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.test_inspect import inspect
from unetpp.data.case_files import open_case_image, read_case_classes, read_case_label
from unetpp.data.label_grid import Grid, place_label
from unetpp.errors import DataError, Problem
from unetpp.layouts.dataset import Case
from unetpp.plan import DataPlan, Normalization
from unetpp.volume import Geometry, Segment, Volume

AFFINE = np.array([[2.0, 0.0, 0.0, -30.0], [0.0, 2.5, 0.0, -40.0], [0.0, 0.0, 3.0, 20.0], [0.0, 0.0, 0.0, 1.0]])
SHAPE = (4, 5, 6)


def make_geometry(affine: np.ndarray, **fields: Any) -> Geometry:
    sizes = np.linalg.norm(affine[:3, :3], axis=0)[::-1]
    return Geometry(".nii.gz", tuple(sizes.tolist()), affine, **fields)


def make_label(shape: tuple[int, ...] = SHAPE, affine: np.ndarray = AFFINE, **fields: Any) -> Volume:
    array = np.zeros((1, *shape), np.uint8)
    array[(0, *(slice(1, -1),) * len(shape))] = np.arange(1, 1 + np.prod([size - 2 for size in shape])).reshape(
        [size - 2 for size in shape]
    )
    return Volume(array, make_geometry(affine, **fields))


def turn(array_xyz: np.ndarray, affine: np.ndarray, axes: list[int], flips: list[bool]) -> tuple[np.ndarray, Any]:
    """Store a volume (x, y, z) with other axes, at the same place."""
    ornt = np.column_stack([np.argsort(axes), np.where(np.array(flips)[np.argsort(axes)], -1, 1)])
    turned = nibabel.orientations.apply_orientation(array_xyz, ornt)
    return turned, affine @ nibabel.orientations.inv_ornt_aff(ornt, array_xyz.shape)


def problem(label: Volume, grid: Grid) -> Problem:
    with pytest.raises(DataError) as caught:
        place_label(label, grid, "label.nii")
    return caught.value.problems[0]


@settings(deadline=None)
@given(
    axes=st.permutations([0, 1, 2]),
    flips=st.lists(st.booleans(), min_size=3, max_size=3),
    angles=st.lists(st.floats(-180, 180), min_size=3, max_size=3),
    crop=st.lists(st.integers(0, 1), min_size=6, max_size=6),
    use_qform=st.booleans(),
)
def test_any_storage_of_the_same_grid_is_brought_onto_the_image(
    axes: list[int], flips: list[bool], angles: list[float], crop: list[int], use_qform: bool
) -> None:
    whole = make_label()
    affine = AFFINE.copy()
    for angle, (first, second) in zip(np.radians(angles), ((0, 1), (1, 2), (0, 2)), strict=True):
        rotation = np.eye(4)
        rotation[[first, first, second, second], [first, second, first, second]] = (
            np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle),
        )  # fmt: skip
        affine = rotation @ affine
    grid = Grid(SHAPE, make_geometry(affine))
    stored = whole.array[0].T
    part = tuple(slice(first, size - last) for size, first, last in zip(stored.shape, crop[:3], crop[3:], strict=True))
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ crop[:3]
    turned, place = turn(stored[part], moved, axes, flips)
    other = make_geometry(np.diag([9.0, 9, 9, 1]), other_affines=(place,)) if use_qform else make_geometry(place)
    label = replace(whole, array=turned.T[None], geometry=other, segments=(Segment("organ", 1),))
    found = place_label(label, grid, "label.nii")
    np.testing.assert_array_equal(found.array, whole.array)
    assert found.geometry.matches(grid.geometry)
    assert found.segments == label.segments


def test_transparency_and_channels_turn_with_the_label() -> None:
    label = make_label()
    turned, affine = turn(label.array[0].T, AFFINE, [2, 0, 1], [True, False, True])
    stored = Volume(np.stack([turned.T, turned.T]), make_geometry(affine), alpha=turned.T)
    found = place_label(stored, Grid(SHAPE, label.geometry), "label.nii")
    assert found.alpha is not None
    np.testing.assert_array_equal(found.alpha, label.array[0])
    np.testing.assert_array_equal(found.array, np.stack([label.array[0]] * 2))
    assert found.geometry.notes == ("label: turned onto the axes of the image",)


def test_a_larger_label_is_cropped_where_it_is_background() -> None:
    label = make_label()
    image = AFFINE.copy()
    image[:3, 3] += AFFINE[:3, :3] @ [1, 1, 1]
    found = place_label(label, Grid((2, 3, 4), make_geometry(image)), "label.nii")
    np.testing.assert_array_equal(found.array, label.array[:, 1:-1, 1:-1, 1:-1])
    assert "marked voxels outside its image" in problem(label, Grid((2, 3, 3), make_geometry(image))).got
    far = AFFINE.copy()
    far[0, 3] += 200
    assert problem(label, Grid((2, 3, 3), make_geometry(far))).got == "a label with marked voxels outside its image"


def test_a_label_without_a_header_has_the_voxels_of_its_image() -> None:
    grid = Grid(SHAPE, make_geometry(AFFINE))
    for label in (make_label(affine=np.eye(4)), make_label(affine=np.diag([-1.0, -1, 1, 1]))):
        found = place_label(label, grid, "label.nii")
        np.testing.assert_array_equal(found.array, label.array)
        assert found.geometry.notes == (
            "label: without a header of its own; its voxels are taken for those of the image, of the same size",
        )
    assert problem(make_label((4, 5, 7), np.eye(4)), grid).got == "a 3D label of 4 x 5 x 7 voxels"


def test_an_image_that_states_no_place_accepts_its_voxel_size() -> None:
    grid = Grid(SHAPE, make_geometry(AFFINE, is_placed=False))
    moved = AFFINE.copy()
    moved[:3, 3] += 0.7
    assert place_label(make_label(affine=moved), grid, "label.nii").geometry.notes == (
        "label: the header of the image states no place; the label has the same size and voxel size",
    )
    assert (
        "voxel size 3 x 3 x 3 against 2 x 2.5 x 3 mm" in problem(make_label(affine=np.diag([3.0] * 3 + [1])), grid).got
    )


def test_a_default_place_turns_nothing() -> None:
    """The places that formats invent may be mirrored to each other; nobody stated them."""
    mirrored = AFFINE @ np.diag([-1.0, 1, 1, 1])
    mirrored[:3, 3] = (AFFINE @ [5, 0, 0, 1])[:3]
    placed, unplaced = Grid(SHAPE, make_geometry(AFFINE)), Grid(SHAPE, make_geometry(AFFINE, is_placed=False))
    for label, grid in (
        (make_label(affine=mirrored, is_placed=False), placed),
        (make_label(affine=mirrored), unplaced),
    ):
        np.testing.assert_array_equal(place_label(label, grid, "label.nii").array, make_label().array)
    other = make_label(affine=np.diag([4.0, 4, 4, 1]), is_placed=False)
    assert "voxel size 4 x 4 x 4 against 2 x 2.5 x 3 mm" in problem(other, placed).got


def test_another_place_is_refused_and_the_setting_named() -> None:
    grid = Grid(SHAPE, make_geometry(AFFINE))
    moved, larger = AFFINE.copy(), AFFINE @ np.diag([1.5, 1, 1, 1])
    moved[0, 3] += 2  # one voxel: of a label of the same size, more likely an error than a part of it
    found = problem(make_label(affine=moved), grid)
    assert "origin -28 x -40 x 20 against -30 x -40 x 20 mm" in found.got
    assert '`data.label_grid="image"`' in found.action
    np.testing.assert_array_equal(
        place_label(make_label(affine=moved), grid, "label.nii", "image").array, make_label().array
    )
    assert "voxel size 3 x 2.5 x 3 against 2 x 2.5 x 3 mm" in problem(make_label((3, 5, 7), larger), grid).got
    tilted = AFFINE.copy()
    tilted[:3, :3] = [[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]] @ AFFINE[:3, :3]
    assert "axes turned by 36.9 degrees" in problem(make_label(affine=tilted), grid).got
    assert "LPS against RAS" in problem(make_label(affine=np.diag([-2.0, -2.5, 3, 1])), grid).got


def test_small_rounding_is_none() -> None:
    affine = AFFINE.copy()
    affine[:3, :3] += AFFINE[:3, :3] @ np.array([[0, -1e-3, 0], [1e-3, 0, 0], [0, 0, 0]])
    affine[:3, 3] += 0.1
    found = place_label(make_label(affine=affine), Grid(SHAPE, make_geometry(AFFINE)), "label.nii")
    assert found.geometry.notes == ()


def test_one_plane_belongs_to_an_image_of_two_axes() -> None:
    flat = Volume(np.ones((1, 5, 6), np.uint8), Geometry(".png"))
    assert place_label(flat, Grid((1, 5, 6), make_geometry(AFFINE)), "label.png").shape == (1, 5, 6)
    thick = Volume(np.ones((1, 1, 5, 6), np.uint8), make_geometry(AFFINE))
    assert place_label(thick, Grid((5, 6), Geometry(".png")), "label.nii").shape == (5, 6)
    assert problem(flat, Grid(SHAPE, make_geometry(AFFINE))).expected == "3D, 4 x 5 x 6 voxels, as its image"


@pytest.mark.parametrize(
    ("case", "note"),
    [
        ("labels-drawn-in-itk-no-codes", None),
        ("labels-with-other-axes", "p0.nii.gz and 2 more: label: turned onto the axes of the image"),
        ("labels-without-header", "p0.nii.gz and 2 more: label: without a header of its own"),
        ("slicer-cropped-extent", "p0.nrrd and 2 more: label: covers a part of the image; the rest is background"),
    ],
)
def test_labels_of_users(cases: Path, case: str, note: str | None) -> None:
    pytest.importorskip("SimpleITK")
    found = inspect(cases / "3d" / case)
    assert not found.problems
    assert [text for text in found.notes if "label:" in text][:1] == [
        text for text in found.notes if note and note in text
    ]


def test_training_and_inspection_read_the_same_label(tmp_path: Path) -> None:
    array = np.zeros((6, 5, 4), np.uint8)
    array[1:3, 2:4, 1:3] = 1
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    nibabel.save(nibabel.Nifti1Image(array.astype(np.int16), AFFINE), tmp_path / "images/a.nii")
    turned, affine = turn(array, AFFINE, [1, 2, 0], [True, False, True])
    nibabel.save(nibabel.Nifti1Image(turned, affine), tmp_path / "labels/a.nii.gz")
    case = Case("a", (tmp_path / "images/a.nii",), (tmp_path / "labels/a.nii.gz",))
    plan = DataPlan(
        dims=3,
        channels=("image",),
        classes=("background", "organ"),
        label_values=(0, 1),
        normalization=(Normalization(),),
    )
    np.testing.assert_array_equal(read_case_classes(case, plan), array.T)
    np.testing.assert_array_equal(read_case_label(case, plan, open_case_image(case, plan)).array[0], array.T)
