"""Preprocessing of images and labels, and its inverse for class indices."""

from pathlib import Path
from typing import Any
from unittest import mock

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from tests.data.images import write_nifti
from unetpp import slabs
from unetpp.data import preprocess
from unetpp.data.arrays import open_array_or_file
from unetpp.data.preprocess import (
    network_grid,
    prepare_case_image,
    prepare_case_label,
    prepare_image,
    to_label_values,
)
from unetpp.data.resampling import resample_block, resample_nearest
from unetpp.errors import DataError
from unetpp.formats.sources import ArraySource
from unetpp.labels import encode, make_labels
from unetpp.layouts.cases import Case
from unetpp.plan import DataPlan, Normalization
from unetpp.volume import Geometry, Volume

RNG = np.random.default_rng(0)
COLOR = ("red", "green", "blue")


def plan(dims: int = 2, channels: tuple[str, ...] = ("image",), **fields: Any) -> DataPlan:
    values = {
        "classes": ("background", "foreground"),
        "label_values": (0, 255),
        "normalization": (Normalization(),) * len(channels),
    }
    return DataPlan(dims=dims, channels=channels, **{**values, **fields})


def source(array: np.ndarray, spacing_mm: tuple[float, ...] | None = None) -> ArraySource:
    return ArraySource(array, Geometry(spacing_mm=spacing_mm))


def resample_linear(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    slices = tuple(slice(0, size) for size in shape)
    return resample_block(source(array[None]), slices, array.shape, shape)[0]


def whole(image: preprocess.PreparedImage) -> np.ndarray:
    return image.read(tuple(slice(0, size) for size in image.shape[1:]))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("block", [7, 2**22])
def test_each_case_gets_mean_zero_and_standard_deviation_one(
    dtype: type, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slabs, "SLAB_VALUES", block)
    array = RNG.integers(20, 200, size=(2, 9, 14)).astype(dtype)
    array[1] //= 3
    seen = whole(prepare_image(source(array), plan(channels=("a", "b"))))
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen.mean(axis=(1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(seen.std(axis=(1, 2)), 1, atol=1e-5)


@settings(deadline=None)
@given(st.data())
def test_any_block_is_that_part_of_the_whole(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 9)] * data.draw(st.integers(2, 3))))
    array = np.random.default_rng(1).integers(0, 255, size=(1, *shape)).astype(np.uint8)
    image = prepare_image(source(array), plan(dims=len(shape)))
    slices = tuple(
        slice(*sorted(data.draw(st.lists(st.integers(0, size), min_size=2, max_size=2, unique=True)))) for size in shape
    )
    np.testing.assert_array_equal(image.read(slices), whole(image)[(slice(None), *slices)])


def test_reading_leaves_the_source_as_it_is() -> None:
    array = RNG.normal(size=(1, 4, 4)).astype(np.float32)
    before = array.copy()
    whole(prepare_image(source(array), plan(normalization=(Normalization(lower=0, upper=1),))))
    np.testing.assert_array_equal(array, before)


def test_an_absolute_scale_is_clipped_and_divided_by_the_plans_numbers() -> None:
    array = np.array([[[-2000, -100, 0, 100, 3000]]], dtype=np.int16)
    scale = Normalization(per_case=False, lower=-100, upper=300, mean=100, std=200)
    np.testing.assert_allclose(
        whole(prepare_image(source(array), plan(normalization=(scale,)))), [[[-1, -1, -0.5, 0, 1]]]
    )


def test_clipping_comes_before_the_statistics() -> None:
    array = np.array([[[0, 1, 1000]]], dtype=np.float32)
    seen = whole(prepare_image(source(array), plan(normalization=(Normalization(upper=2),))))
    np.testing.assert_allclose(seen, (np.array([[[0, 1, 2]]]) - 1) / np.std([0, 1, 2]), rtol=1e-6)


def test_a_constant_image_becomes_zero() -> None:
    assert (whole(prepare_image(source(np.full((1, 5, 5), 7, np.uint8)), plan())) == 0).all()


def test_statistics_hold_for_large_offsets() -> None:
    array = (1e6 + RNG.integers(0, 2, size=(1, 50, 50))).astype(np.float32)
    assert whole(prepare_image(source(array), plan())).std() == pytest.approx(1, abs=1e-3)


def test_small_units_are_no_constant_image() -> None:
    array = (1e-9 * RNG.uniform(0.5, 3, size=(1, 50, 50))).astype(
        np.float32
    )  # a diffusion coefficient in square metres a second
    assert whole(prepare_image(source(array), plan())).std() == pytest.approx(1, abs=1e-3)
    assert not whole(prepare_image(source(np.full((1, 5, 5), 3e-9, np.float32)), plan())).any()


def test_three_modalities_of_a_volume_are_no_colors() -> None:
    array = RNG.normal(size=(3, 4, 5, 6)).astype(np.float32)
    with pytest.raises(DataError, match="got 3 channels; expected 1"):
        prepare_image(ArraySource(array, Geometry(".nii.gz", (1.0, 1.0, 1.0))), plan(dims=3))


def test_gray_is_repeated_for_a_network_of_colors() -> None:
    array = RNG.integers(0, 255, size=(1, 6, 6)).astype(np.uint8)
    seen = whole(prepare_image(source(array), plan(channels=COLOR)))
    assert seen.shape == (3, 6, 6)
    np.testing.assert_array_equal(seen[0], seen[2])


def test_colors_become_luminance_for_a_network_of_gray() -> None:
    gray = RNG.integers(0, 255, size=(1, 6, 6)).astype(np.uint8)
    color = np.repeat(gray, 3, axis=0)
    np.testing.assert_allclose(
        whole(prepare_image(source(color), plan())), whole(prepare_image(source(gray), plan())), atol=1e-5
    )
    green = np.zeros((3, 2, 2), np.uint8)
    green[1, 0] = 100
    raw = plan(normalization=(Normalization(per_case=False),))
    np.testing.assert_allclose(whole(prepare_image(source(green), raw)), [[[58.7, 58.7], [0, 0]]], rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "wanted", "words"),
    [
        ((2, 4, 4), plan(), ["2 channels", "1 (image)"]),
        ((1, 4, 4), plan(channels=("T1", "T2", "FLAIR")), ["1 channel;", "3 (T1, T2, FLAIR)"]),
        ((1, 4, 4, 4), plan(), ["3D", "2D"]),
        ((1, 4, 4), plan(dims=3), ["2D", "3D"]),
    ],
)
def test_what_does_not_fit_is_one_clear_problem(shape: tuple[int, ...], wanted: DataPlan, words: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        prepare_image(source(np.zeros(shape, np.uint8)), wanted, "scan.tif")
    assert len(caught.value.problems) == 1
    assert all(word in str(caught.value) for word in [*words, "scan.tif"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("per_case", [True, False])
def test_voxels_that_are_not_finite_are_refused(bad: float, per_case: bool) -> None:
    array = np.zeros((1, 5, 5), np.float32)
    array[0, 3, 3] = bad
    with pytest.raises(DataError, match="NaN or infinite"):
        prepare_image(source(array), plan(normalization=(Normalization(per_case=per_case, lower=0, upper=1),)))


def test_the_grid_has_the_plans_spacing_and_the_files_extent() -> None:
    assert network_grid((10, 20, 30), (3.0, 1.0, 1.0), (1.5, 1.0, 2.0)) == (20, 20, 15)
    assert network_grid((10, 20), None, (1.0, 1.0)) == (10, 20)
    assert network_grid((10, 20), (2.0, 2.0), None) == (10, 20)
    assert network_grid((1, 20), (0.1, 1.0), (5.0, 1.0)) == (1, 20)


def test_a_voxel_size_that_differs_by_one_percent_is_the_same() -> None:
    assert network_grid((100, 200, 300), (1.009, 1.0, 1.02), (1.0, 1.0, 1.0)) == (100, 200, 306)


def test_volumes_of_any_order_of_axes_have_one_grid(tmp_path: Path) -> None:
    wanted, affine = plan(dims=3, orientation="RAS", spacing_mm=(1.5, 1.3, 0.7)), np.diag([0.7, 1.3, 2.5, 1.0])
    stored = nibabel.Nifti1Image(RNG.integers(0, 99, (9, 7, 5)).astype(np.int16), affine)
    seen = []
    for codes in ("RAS", "LPS", "PIR", "SAL"):
        turn = io_orientation(affine), axcodes2ornt(codes)
        turned = stored.as_reoriented(ornt_transform(*turn))
        label = nibabel.Nifti1Image((np.asarray(turned.dataobj) > 50).astype(np.uint8) * 255, turned.affine)
        paths = tmp_path / f"{codes}.nii", tmp_path / f"{codes}_label.nii"
        nibabel.save(turned, paths[0])
        nibabel.save(label, paths[1])
        case = Case(codes, (paths[0],), (paths[1],))
        image = prepare_case_image(case, wanted)
        assert image.image_shape == turned.shape[::-1]
        assert image.turned_shape == (5, 7, 9)
        seen.append((whole(image), prepare_case_label(case, wanted, image)))
    assert seen[0][0].shape == (1, 8, 7, 9)
    for image, label in seen[1:]:
        np.testing.assert_allclose(image, seen[0][0], atol=1e-5)
        np.testing.assert_array_equal(label, seen[0][1])


def test_a_resampled_image_keeps_a_ramp_a_ramp() -> None:
    ramp = np.broadcast_to(np.arange(8, dtype=np.float32)[:, None, None], (8, 3, 4))[None]
    wanted = plan(dims=3, spacing_mm=(1.0, 2.0, 2.0), normalization=(Normalization(per_case=False),))
    image = prepare_image(source(ramp, (2.0, 2.0, 2.0)), wanted)
    assert image.shape == (1, 16, 3, 4)
    assert image.image_shape == (8, 3, 4)
    np.testing.assert_allclose(whole(image)[0, 1:-1, 0, 0], np.arange(14) / 2 + 0.25, atol=1e-5)


@settings(deadline=None)
@given(st.data())
def test_any_block_of_a_resampled_image_is_that_part_of_the_whole(data: st.DataObject) -> None:
    dims = data.draw(st.integers(2, 3))
    sizes = st.tuples(*[st.integers(1, 12)] * dims)
    lengths = st.tuples(*[st.sampled_from([0.4, 1.0, 1.7, 5.0])] * dims)
    array = np.random.default_rng(1).normal(size=(2, *data.draw(sizes))).astype(np.float32)
    raw = plan(dims, ("a", "b"), spacing_mm=data.draw(lengths), normalization=(Normalization(per_case=False),) * 2)
    with mock.patch.object(slabs, "SLAB_VALUES", data.draw(st.sampled_from([1, 30, 2**22]))):
        image = prepare_image(source(array, data.draw(lengths)), raw)
    grid = image.shape[1:]
    expected = np.stack([resample_linear(channel, grid) for channel in array])
    np.testing.assert_array_equal(whole(image), expected)
    slices = tuple(
        slice(*sorted(data.draw(st.lists(st.integers(0, size), min_size=2, max_size=2, unique=True)))) for size in grid
    )
    np.testing.assert_array_equal(image.read(slices), expected[(slice(None), *slices)])


SHAPES = st.integers(2, 3).flatmap(lambda dims: st.tuples(*[st.tuples(*[st.integers(1, 10)] * dims)] * 2))


@given(SHAPES)
def test_nearest_resampling_invents_nothing_and_is_undone_by_going_back(
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
) -> None:
    shape, other = shapes
    label = np.random.default_rng(2).choice([0, 3, 200], size=shape).astype(np.uint8)
    resampled = resample_nearest(label, other)
    assert (resampled.shape, resampled.dtype) == (other, label.dtype)
    assert set(np.unique(resampled)) <= set(np.unique(label))
    if all(new >= old for new, old in zip(other, shape, strict=True)):
        np.testing.assert_array_equal(resample_nearest(resampled, shape), label)


@settings(deadline=None)
@given(SHAPES)
def test_both_resamplings_agree_on_where_voxels_lie(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    shape, other = shapes
    if any(new < old for new, old in zip(other, shape, strict=True)):
        return
    steps = np.add.reduce(np.indices(shape)).astype(np.float32)
    assert np.abs(resample_linear(steps, other) - resample_nearest(steps, other)).max() <= len(shape) / 2 + 1e-4


def test_an_image_and_its_label_share_the_grid(tmp_path: Path) -> None:
    wanted, affine = plan(dims=3, spacing_mm=(1.0, 1.3, 0.7)), np.diag([1.0, 1.0, 2.5, 1.0])
    paths = [write_nifti(tmp_path / name, np.zeros((5, 7, 9), np.uint8), affine) for name in ("a.nii", "b.nii")]
    case = Case("a", (paths[0],), (paths[1],))
    image = prepare_case_image(case, wanted)
    assert image.shape == (1, *prepare_case_label(case, wanted, image).shape) != (1, 5, 7, 9)


@given(st.lists(st.integers(-1000, 70000), min_size=2, max_size=300, unique=True))
def test_label_values_and_class_indices_are_each_others_inverse(values: list[int]) -> None:
    wanted = plan(classes=tuple(f"class {value}" for value in values), label_values=tuple(values))
    stored = np.random.default_rng(3).choice(values, size=(1, 6, 7))
    indices = make_labels(wanted).encode(stored[0], "label")
    assert indices.dtype == (np.uint8 if len(values) <= 255 else np.uint16)
    np.testing.assert_array_equal(to_label_values(indices, wanted), stored[0])


def test_masks_are_written_with_the_smallest_numbers_that_hold_them() -> None:
    segmentation = np.array([[0, 1]], np.uint8)
    assert to_label_values(segmentation, plan()).tolist() == [[0, 255]]
    assert to_label_values(segmentation, plan()).dtype == np.uint8
    assert to_label_values(segmentation, plan(label_values=(0, 1000))).dtype == np.uint16


def test_a_value_of_no_class_is_refused_by_name() -> None:
    with pytest.raises(DataError) as caught:
        make_labels(plan()).encode(np.array([[0, 255, 7, 9]], np.uint8), "mask.png")
    assert all(word in str(caught.value) for word in ["mask.png", "7, 9", "255 (foreground)"])


def test_objects_are_foreground() -> None:
    label = np.array([[0, 1, 300, 2]], np.uint16)
    assert encode(Volume(label[None], Geometry()), plan(instances=True), "label").tolist() == [[0, 1, 1, 1]]


def test_a_case_is_prepared_from_its_files(tmp_path: Path) -> None:
    from PIL import Image

    array = RNG.integers(0, 255, size=(8, 9)).astype(np.uint8)
    for name, pixels in (("image.png", array), ("mask.png", np.where(array > 99, 255, 0).astype(np.uint8))):
        Image.fromarray(pixels).save(tmp_path / name)
    case = Case("a", (tmp_path / "image.png",), (tmp_path / "mask.png",))
    prepared = prepare_case_image(case, plan())
    image, label = whole(prepared)[0], prepare_case_label(case, plan(), prepared)
    np.testing.assert_allclose(image, (array - array.mean()) / array.std(), atol=1e-5)
    np.testing.assert_array_equal(label, array > 99)


@pytest.mark.parametrize("per_case", [True, False])
@pytest.mark.parametrize("shape", [(6, 5), (4, 6, 5)])
def test_filling_is_the_same_as_an_image_that_had_the_number(
    tmp_path: Path, shape: tuple[int, ...], per_case: bool
) -> None:
    """For files and arrays, normalized by their own mean or by the plan's, resampled or not."""
    array = RNG.normal(50, 9, shape).astype(np.float32)
    array[0], array[-1, 0] = np.nan, -np.inf
    filled = np.where(np.isfinite(array), array, np.float32(7))
    wanted = plan(len(shape), fill=7, normalization=(Normalization(per_case=per_case, lower=0, upper=80),))
    expected = whole(prepare_image(source(filled[None]), wanted))
    np.testing.assert_array_equal(whole(prepare_image(open_array_or_file(array, wanted, None)[0], wanted)), expected)
    if len(shape) == 3:
        path = tmp_path / "a.nii"
        write_nifti(path, array.T)
        np.testing.assert_array_equal(whole(prepare_case_image(Case("a", (path,)), wanted)), expected)
        from_file, _ = open_array_or_file(path, wanted, None)
        np.testing.assert_array_equal(whole(prepare_image(from_file, wanted)), expected)


def test_what_fills_is_a_number() -> None:
    with pytest.raises(ValueError, match="finite"):
        plan(fill=float("nan"))


@pytest.mark.parametrize("size", [1e30, 1e5, 1e-6])
def test_a_voxel_size_of_another_unit_is_refused(size: float) -> None:
    image = ArraySource(np.zeros((1, 4, 5, 6), np.float32), Geometry(".nii", (size, 1.0, 1.0)))
    with pytest.raises(DataError, match="within a factor of 50"):
        prepare_image(image, plan(dims=3, spacing_mm=(1.0, 1.0, 1.0)))
