from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays

from unetpp.volume import Geometry, find_box


def shifted(millimetres: float) -> np.ndarray:
    affine = np.diag([0.5, 0.5, 2.0, 1.0])
    affine[0, 3] = millimetres
    return affine


@pytest.mark.parametrize(("shift", "same"), [(0.0, True), (0.004, True), (0.1, False), (5.0, False)])
def test_affines_match_to_a_hundredth_of_a_voxel(shift: float, same: bool) -> None:
    one, two = (Geometry(".nii", (2.0, 0.5, 0.5), affine) for affine in (shifted(0.0), shifted(shift)))
    assert one.matches(two) is same
    assert two.matches(one) is same


def test_a_rotated_grid_does_not_match() -> None:
    turned = shifted(0.0)[:, [1, 0, 2, 3]]
    assert not Geometry(".nii", (2.0, 0.5, 0.5), shifted(0.0)).matches(Geometry(".nii", (2.0, 0.5, 0.5), turned))


def test_spacing_decides_where_there_is_no_affine() -> None:
    assert Geometry(".mha", (1.0, 1.0)).matches(Geometry(".mha", (1.0, 1.001)))
    assert not Geometry(".mha", (1.0, 1.0)).matches(Geometry(".mha", (1.0, 1.2)))
    assert not Geometry(".mha", (1.0, 1.0)).matches(Geometry(".mha", (1.0, 1.0, 1.0)))


def test_a_format_without_millimetres_fits_any() -> None:
    assert Geometry(".png").matches(Geometry(".nii.gz", (2.0, 0.5, 0.5), shifted(0.0)))
    assert Geometry(".png").matches(Geometry(".tif"))


@settings(max_examples=40, deadline=None)
@given(mask=arrays(bool, array_shapes(min_dims=2, max_dims=3, max_side=5)))
def test_a_box_holds_all_voxels_of_a_mask_and_is_the_smallest(mask: np.ndarray) -> None:
    box = find_box(mask)
    assert (box is None) == (not mask.any())
    if box is not None:
        assert mask[box].sum() == mask.sum()
        for axis in range(mask.ndim):
            assert mask[box].take(0, axis).any() and mask[box].take(-1, axis).any()
