"""Deformations. An image whose channels are the coordinates of its voxels shows where each voxel was taken from."""

from __future__ import annotations

from math import pi

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms import Affine
from torch import Tensor

from unetpp.train.augment import make_rotation
from unetpp.train.deformation import Deformation, count_points, make_spline

PATCHES = st.one_of(st.tuples(*[st.integers(1, 12)] * 2), st.tuples(*[st.integers(1, 9)] * 3))


def make_coordinates(window: tuple[int, ...]) -> Tensor:
    """Return (dims, *window), the offset of each voxel from the center."""
    return torch.stack(torch.meshgrid(*(torch.arange(n) - (n - 1) / 2 for n in window), indexing="ij"))


def find_sources(deformation: Deformation, patch: tuple[int, ...]) -> np.ndarray:
    margin = deformation.find_margin(patch)
    window = tuple(size + 2 * more for size, more in zip(patch, margin, strict=True))
    found, _ = deformation.apply(make_coordinates(window), torch.zeros(window, dtype=torch.uint8), patch)
    return found.numpy()


def draw_matrix(dims: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    matrix = make_rotation(dims, 0, 1, rng.uniform(-pi, pi))
    matrix = matrix @ make_rotation(dims, dims - 2, dims - 1, rng.uniform(-pi, pi))
    return matrix / rng.uniform(0.5, 1.5, dims)


@given(patch=PATCHES, seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=60)
def test_every_voxel_is_taken_from_its_place_and_no_border_is_invented(patch: tuple[int, ...], seed: int) -> None:
    deformation = Deformation(draw_matrix(len(patch), seed))
    expected = np.tensordot(deformation.matrix, make_coordinates(patch).numpy(), 1)  # linear beyond the patch as well
    assert np.allclose(find_sources(deformation, patch), expected, atol=1e-3)


@given(patch=PATCHES, seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_no_label_gets_a_value_that_it_had_not(patch: tuple[int, ...], seed: int) -> None:
    deformation = Deformation(draw_matrix(len(patch), seed))
    window = tuple(n + 2 * more for n, more in zip(patch, deformation.find_margin(patch), strict=True))
    values = torch.tensor([0, 7, 255, 300, 65535], dtype=torch.int32)
    label = values[torch.randint(5, window, generator=torch.Generator().manual_seed(seed))]
    _, found = deformation.apply(torch.zeros(1, *window), label, patch)
    assert found.shape == patch and found.dtype == label.dtype
    assert set(found.unique().tolist()) <= set(label.unique().tolist())


@given(patch=PATCHES)
@settings(deadline=None, max_examples=20)
def test_an_identity_changes_nothing(patch: tuple[int, ...]) -> None:
    deformation = Deformation(np.eye(len(patch)))
    image, label = torch.randn(2, *patch), torch.randint(9, patch)
    assert deformation.find_margin(patch) == [0] * len(patch)
    same_image, same_label = deformation.apply(image, label, patch)
    assert torch.allclose(same_image, image, atol=1e-4) and torch.equal(same_label, label)


@pytest.mark.parametrize(
    ("patch", "plane"), [((9, 9), (0, 1)), ((8, 8), (0, 1)), ((3, 8, 8), (1, 2)), ((6, 5, 6), (0, 2))]
)
def test_a_quarter_turn_is_rot90(patch: tuple[int, ...], plane: tuple[int, int]) -> None:
    deformation = Deformation(make_rotation(len(patch), *plane, pi / 2))
    assert deformation.find_margin(patch) == [0] * len(patch)
    image, label = torch.randn(2, *patch), torch.randint(9, patch)
    turned, classes = deformation.apply(image, label, patch)
    a, b = plane
    assert torch.allclose(turned, torch.rot90(image, -1, (a + 1, b + 1)), atol=1e-4)
    assert torch.equal(classes, torch.rot90(label, -1, plane))


@pytest.mark.parametrize("dims", [2, 3])
def test_a_rotation_with_scaling_is_that_of_monai(dims: int) -> None:
    angles, factors = ([0.4], [0.8, 1.25]) if dims == 2 else ([0.4, -0.3, 0.2], [0.8, 1.1, 1.25])
    matrix = make_rotation(2, 0, 1, 0.4)
    if dims == 3:  # MONAI's second angle has the other sign
        matrix = make_rotation(3, 1, 2, 0.4) @ make_rotation(3, 0, 2, 0.3) @ make_rotation(3, 0, 1, 0.2)
    deformation = Deformation(matrix / factors)
    patch = (16, 20, 18)[:dims]
    margin = deformation.find_margin(patch)
    window = [size + 2 * more for size, more in zip(patch, margin, strict=True)]
    image, label = torch.randn(1, *window), torch.randint(5, window)
    inside = (slice(None), *(slice(more, more + size) for size, more in zip(patch, margin, strict=True)))
    parameters = {"rotate_params": angles if dims == 3 else angles[0], "scale_params": [1 / each for each in factors]}
    expected = Affine(**parameters, mode="bilinear", padding_mode="border", image_only=True)(image)[inside]
    classes = Affine(**parameters, mode="nearest", padding_mode="border", image_only=True)(label[None].float())[inside]
    found_image, found_label = deformation.apply(image, label, patch)
    assert torch.allclose(found_image, torch.as_tensor(expected), atol=1e-3)
    assert (found_label == torch.as_tensor(classes)[0]).float().mean() > 0.999  # halfway between two voxels


@given(patch=PATCHES, shift=st.floats(0.5, 6), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=40)
def test_an_elastic_deformation_is_smooth_bounded_and_does_not_fold(
    patch: tuple[int, ...], shift: float, seed: int
) -> None:
    distance = 4 * shift
    points = [count_points(size, distance) for size in patch]
    shifts = shift * np.random.default_rng(seed).uniform(-1, 1, (len(patch), *points))
    sources = find_sources(Deformation(np.eye(len(patch)), shifts, distance), patch)
    assert np.abs(sources - make_coordinates(patch).numpy()).max() <= shift + 1e-3
    for axis, size in enumerate(patch):
        if size > 1:
            assert np.diff(sources[axis], axis=axis).min() > 0.4  # at most half as dense, as the shift changes by half


@given(st.integers(1, 60), st.floats(1, 40))
@settings(deadline=None)
def test_the_weights_of_control_points_sum_to_one(size: int, distance: float) -> None:
    weights = make_spline(torch.arange(size) - (size - 1) / 2, count_points(size, distance), distance)
    assert (weights >= 0).all() and torch.allclose(weights.sum(1), torch.ones(size), atol=1e-4)


@given(axis=st.integers(0, 2), seed=st.integers(0, 100), is_elastic=st.booleans())
@settings(deadline=None, max_examples=30)
def test_slices_that_stay_in_place_are_deformed_as_a_volume_would_be(axis: int, seed: int, is_elastic: bool) -> None:
    a, b = (each for each in range(3) if each != axis)
    rng = np.random.default_rng(seed)
    scaling = np.where(np.arange(3) == axis, 1, rng.uniform(0.7, 1.3, 3))
    shifts = rng.uniform(-2, 2, (3, *(1 if each == axis else 4 for each in range(3))))
    shifts[axis] = 0
    flat = Deformation(make_rotation(3, a, b, rng.uniform(-1, 1)) * scaling, shifts if is_elastic else None, 8.0)
    volume = Deformation(flat.matrix + 1e-9, flat.shifts, 8.0)
    patch = (5, 6, 7)
    assert flat._split_axes() == ([axis], [a, b]) and volume._split_axes()[0] == []
    window = [size + 2 * more for size, more in zip(patch, flat.find_margin(patch), strict=True)]
    assert window[axis] == patch[axis]
    image, label = torch.randn(2, *window), torch.randint(9, window)
    found, expected = (each.apply(image, label, patch) for each in (flat, volume))
    assert torch.allclose(found[0], expected[0], atol=1e-3)
    assert (found[1] == expected[1]).float().mean() > 0.99
