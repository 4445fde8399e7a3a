"""Each rule of sizes in space on made-up numbers."""

from __future__ import annotations

from math import ceil, prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetpp.planning import geometry_rules

sizes3 = st.tuples(st.integers(1, 600), st.integers(1, 600), st.integers(1, 600))
spacings = st.one_of(st.none(), st.tuples(*[st.floats(0.2, 12)] * 3))


@given(shape=sizes3, spacing=spacings, depth=st.integers(1, 5))
def test_strides_leave_a_bottleneck_and_spare_thick_slices(
    shape: tuple[int, ...], spacing: tuple[float, ...] | None, depth: int
) -> None:
    strides = geometry_rules.choose_strides(shape, spacing, depth).value
    assert 1 <= len(strides) <= depth
    if max(shape) >= 2 * geometry_rules.MIN_BOTTLENECK and spacing is None:
        for axis, size in enumerate(shape):
            left = size
            for stride in strides:
                left = ceil(left / stride[axis])
            assert left >= min(size, geometry_rules.MIN_BOTTLENECK)


@given(shape=sizes3, spacing=spacings)
def test_only_axes_that_can_be_halved_decide_which_axis_is_thick(
    shape: tuple[int, ...], spacing: tuple[float, ...] | None
) -> None:
    strides = geometry_rules.choose_strides(shape, spacing, 5).value
    kernels = geometry_rules.choose_kernels(shape, spacing, strides).value
    sizes, lengths = list(shape), list(spacing or (1.0, 1.0, 1.0))
    for stride, kernel in zip([*strides, (1, 1, 1)], kernels, strict=True):
        halvable = [axis for axis in range(3) if sizes[axis] >= 2 * geometry_rules.MIN_BOTTLENECK]
        shortest = min((lengths[axis] for axis in halvable), default=float("inf"))
        for axis in range(3):
            is_thick = lengths[axis] >= geometry_rules.THICK * shortest
            assert kernel[axis] == (1 if is_thick or shape[axis] == 1 else 3)
            if halvable and stride != (1, 1, 1):
                assert stride[axis] == (2 if axis in halvable and not is_thick else 1)
        sizes = [ceil(size / step) for size, step in zip(sizes, stride, strict=True)]
        lengths = [length * step for length, step in zip(lengths, stride, strict=True)]
    if max(sizes) >= 2 * geometry_rules.MIN_BOTTLENECK:  # not stopped before the plane or the depth is used up
        assert len(strides) == 5


def test_thick_slices_are_down_sampled_and_convolved_across_later() -> None:
    strides = geometry_rules.choose_strides((24, 320, 320), (5.0, 0.7, 0.7), 5).value
    assert [stride[0] for stride in strides] == [1, 1, 2, 2, 1]
    kernels = geometry_rules.choose_kernels((24, 320, 320), (5.0, 0.7, 0.7), strides).value
    assert [kernel[0] for kernel in kernels] == [1, 1, 3, 3, 3, 3]
    assert all(kernel[1:] == (3, 3) for kernel in kernels)


def test_the_plan_keeps_the_voxel_size_if_all_files_have_one() -> None:
    assert geometry_rules.choose_spacing((1.0, 1.0, 1.0), varies=False).value == (1.0, 1.0, 1.0)
    assert geometry_rules.choose_spacing((2.0, 1.0, 1.0), varies=True).value == (2.0, 1.0, 1.0)
    assert geometry_rules.choose_spacing(None, varies=False).value is None


def test_thick_slices_of_most_cases_become_finer_as_in_nnunet() -> None:
    median, fine, shape = (5.0, 0.8, 0.8), (2.0, 0.7, 0.7), (60, 512, 512)
    found = geometry_rules.choose_spacing(median, True, fine, shape)
    assert found.value == (2.0, 0.8, 0.8)
    assert "slices of 2 mm (percentile 10; the median is 5)" in found.reason
    assert geometry_rules.choose_spacing(median, True, (0.5, 0.7, 0.7), shape).value == (0.8, 0.8, 0.8)
    assert geometry_rules.choose_spacing(median, False, fine, shape).value == median
    assert geometry_rules.choose_spacing(median, True, fine, (200, 512, 512)).value == median
    assert geometry_rules.choose_spacing((2.3, 0.8, 0.8), True, (1.0, 0.7, 0.7), shape).value == (2.3, 0.8, 0.8)


lengths = st.lists(st.floats(0.1, 20), min_size=2, max_size=3)


@given(lengths, st.data())
def test_no_axis_becomes_coarser_than_the_median_or_finer_than_all_others(
    median: list[float], data: st.DataObject
) -> None:
    fine = [size * data.draw(st.floats(0.05, 1)) for size in median]
    shape = tuple(data.draw(st.integers(1, 600)) for _ in median)
    target = geometry_rules.choose_spacing(median, True, fine, shape).value
    assert target is not None
    changed = [axis for axis, (old, new) in enumerate(zip(median, target, strict=True)) if old != new]
    assert len(changed) <= 1
    for axis in changed:
        assert max(size for other, size in enumerate(median) if other != axis) <= target[axis] < median[axis]


def test_images_are_resampled_as_nnunet_does_where_cases_need_it() -> None:
    thick, fine = (5.0, 1.0, 1.0), (1.0, 1.0, 1.0)
    assert geometry_rules.choose_resampling(False, [thick], thick).value == "linear"
    assert geometry_rules.choose_resampling(True, [thick], None).value == "linear"
    found = geometry_rules.choose_resampling(True, [fine, None], thick)
    assert found.value == "cubic" and "nearest slice" in found.reason
    assert "nearest" not in geometry_rules.choose_resampling(True, [fine], (1.2, 1.0, 1.0)).reason


@pytest.mark.parametrize(
    ("patch", "depth"),
    [
        ((128, 128), 4),
        ((256, 256), 4),
        ((512, 512), 6),
        ((4096, 64), 6),
        ((16, 512, 512), 6),
        ((96, 96, 96), 4),
        ((128, 128, 128), 5),
        ((320, 320, 320), 5),
        ((24, 104, 104), 4),
        ((3, 3, 3), 4),
    ],
)
def test_larger_patches_may_be_down_sampled_more_often(patch: tuple[int, ...], depth: int) -> None:
    assert geometry_rules.choose_depth(patch).value == depth
    assert geometry_rules.choose_depth(patch, is_short=True).value == (3 if patch == (128, 128) else depth)


@given(sizes3)
def test_the_deepest_level_keeps_four_voxels_along_the_longest_side(patch: tuple[int, ...]) -> None:
    depth = geometry_rules.choose_depth(patch).value
    strides = geometry_rules.choose_strides(patch, None, depth).value
    assert geometry_rules.USUAL_DEPTH <= depth <= geometry_rules.LARGEST_DEPTH[2]
    assert len(strides) <= depth
    if max(patch) >= 8:
        assert max(patch) / 2 ** len(strides) >= geometry_rules.MIN_BOTTLENECK / 2


AXES = st.tuples(st.integers(1, 900), st.sampled_from([0.5, 1.0, 2.7, 6.0]), st.sampled_from([1, 2, 8, 32]))


@given(st.integers(1, 10**7), st.lists(AXES, min_size=2, max_size=3))
def test_a_patch_uses_its_voxels_and_no_more_than_the_case(voxels: int, axes: list[tuple[int, float, int]]) -> None:
    shape, spacing, multiples = (tuple(values) for values in zip(*axes, strict=True))
    patch = geometry_rules.shape_patch(voxels, shape, spacing, multiples)
    for side, size, step in zip(patch, shape, multiples, strict=True):
        assert side % step == 0 and side < size + step
    assert prod(patch) <= max(voxels, prod(multiples))
    larger = [
        side + step * (side < size) for side, size, step in zip(patch, shape, multiples, strict=True)
    ]  # one step more along every axis that is not covered
    assert prod(larger) > voxels or tuple(larger) == patch
    free = [
        (side, mm, step) for side, mm, step, size in zip(patch, spacing, multiples, shape, strict=True) if side < size
    ]
    for side, mm, step in free:  # axes alike have sides alike
        assert all(side == other for other, *alike in free if alike == [mm, step])


def test_a_patch_of_many_voxels_is_the_whole_case() -> None:
    assert geometry_rules.shape_patch(10**9, (30, 200, 180), (5.0, 1.0, 1.0), (8, 16, 16)) == (32, 208, 192)
    assert geometry_rules.shape_patch(96**3, (2000, 2000, 2000), None, (16, 16, 16)) == (96, 96, 96)
    assert geometry_rules.shape_patch(1, (3, 3, 3), None, (2, 2, 2)) == (2, 2, 2)
