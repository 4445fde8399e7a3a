from __future__ import annotations

import numpy as np
import pytest

from unetpp.volume import Geometry


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
