"""Each rule on made-up numbers."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetpp.planning import rules

sizes2 = st.tuples(st.integers(1, 3000), st.integers(1, 3000))
sizes3 = st.tuples(st.integers(1, 600), st.integers(1, 600), st.integers(1, 600))
spacings = st.one_of(st.none(), st.tuples(*[st.floats(0.2, 12)] * 3))


@given(shape=sizes3, spacing=spacings, depth=st.integers(1, 5))
def test_strides_leave_a_bottleneck_and_spare_thick_slices(
    shape: tuple[int, ...], spacing: tuple[float, ...] | None, depth: int
) -> None:
    strides = rules.choose_strides(shape, spacing, depth).value
    assert 1 <= len(strides) <= depth
    if max(shape) >= 2 * rules.MIN_BOTTLENECK and spacing is None:
        for axis, size in enumerate(shape):
            left = size
            for stride in strides:
                left = ceil(left / stride[axis])
            assert left >= min(size, rules.MIN_BOTTLENECK)


@given(shape=sizes3, spacing=spacings)
def test_only_axes_that_can_be_halved_decide_which_axis_is_thick(
    shape: tuple[int, ...], spacing: tuple[float, ...] | None
) -> None:
    strides = rules.choose_strides(shape, spacing, 5).value
    kernels = rules.choose_kernels(shape, spacing, strides).value
    sizes, lengths = list(shape), list(spacing or (1.0, 1.0, 1.0))
    for stride, kernel in zip([*strides, (1, 1, 1)], kernels, strict=True):
        halvable = [axis for axis in range(3) if sizes[axis] >= 2 * rules.MIN_BOTTLENECK]
        shortest = min((lengths[axis] for axis in halvable), default=float("inf"))
        for axis in range(3):
            is_thick = lengths[axis] >= rules.THICK * shortest
            assert kernel[axis] == (1 if is_thick or shape[axis] == 1 else 3)
            if halvable and stride != (1, 1, 1):
                assert stride[axis] == (2 if axis in halvable and not is_thick else 1)
        sizes = [ceil(size / step) for size, step in zip(sizes, stride, strict=True)]
        lengths = [length * step for length, step in zip(lengths, stride, strict=True)]
    if max(sizes) >= 2 * rules.MIN_BOTTLENECK:  # not stopped before the plane or the depth is used up
        assert len(strides) == 5


def test_thick_slices_are_down_sampled_and_convolved_across_later() -> None:
    strides = rules.choose_strides((24, 320, 320), (5.0, 0.7, 0.7), 5).value
    assert [stride[0] for stride in strides] == [1, 1, 2, 2, 1]
    kernels = rules.choose_kernels((24, 320, 320), (5.0, 0.7, 0.7), strides).value
    assert [kernel[0] for kernel in kernels] == [1, 1, 3, 3, 3, 3]
    assert all(kernel[1:] == (3, 3) for kernel in kernels)


@given(shape=sizes2, multiple=st.sampled_from([2, 4, 8, 16]))
def test_patches_are_multiples_and_no_larger_than_needed(shape: tuple[int, int], multiple: int) -> None:
    patch = rules.choose_patch(shape, 256, (multiple, multiple)).value
    for size, length in zip(patch, shape, strict=True):
        assert size % multiple == 0
        assert size <= 256
        assert size < length + multiple


def test_ct_is_clipped_to_its_foreground_and_mri_is_not() -> None:
    ct = rules.choose_normalization("CT", (-50.0, 200.0, 80.0, 30.0)).value
    assert (ct.per_case, ct.lower, ct.upper, ct.mean, ct.std) == (False, -50.0, 200.0, 80.0, 30.0)
    assert rules.choose_normalization("MRI", (0, 1, 2, 3)).value.per_case


def test_the_plan_keeps_the_voxel_size_if_all_files_have_one() -> None:
    assert rules.choose_spacing((1.0, 1.0, 1.0), varies=False).value == (1.0, 1.0, 1.0)
    assert rules.choose_spacing((2.0, 1.0, 1.0), varies=True).value == (2.0, 1.0, 1.0)
    assert rules.choose_spacing(None, varies=False).value is None


@pytest.mark.parametrize("minutes", [1, 20, 200])
def test_more_time_never_gives_a_narrower_network(minutes: float) -> None:
    seconds = {64: 8.0, 32: 2.0, 16: 0.7, 8: 0.3}
    less, more = (rules.choose_width_by_time(seconds, m).value for m in (minutes, minutes * 4))
    assert less <= more
    assert rules.choose_width_by_time(seconds, 1e-3).value == 8


def test_precision_follows_the_hardware() -> None:
    assert rules.choose_precision("cpu", True).value == "bf16"
    assert rules.choose_precision("cpu", False).value == "fp32"
    assert rules.choose_precision("cuda", False).value == "fp16"


def test_tiles_of_images_share_less_than_tiles_of_volumes() -> None:
    assert (rules.choose_overlap(2).value, rules.choose_overlap(3).value) == (0.25, 0.5)


def test_bodies_are_not_flipped_and_tissue_is() -> None:
    assert not rules.choose_symmetries(3, True, (0.01, 0.01, 0.01)).value
    assert not rules.choose_symmetries(3, False, (1.0, 1.0, 1.0)).value
    assert rules.choose_symmetries(3, False, (0.002, 0.0005, 0.0005)).value
    assert rules.choose_symmetries(3, False, None).value
    assert rules.choose_symmetries(2, False, (0.5, 0.5)).value


def test_few_passes_over_the_data_need_no_variation_beyond_flips() -> None:
    few, many = rules.choose_variation(5), rules.choose_variation(60)
    assert set(few.value.values()) == {0.0}
    assert {f"{name}_probability" for name in ("affine", "noise", "blur", "contrast", "brightness", "gamma")} == set(
        few.value
    )
    assert many.value == {}
    assert "5 passes" in few.reason and "60 passes" in many.reason


def test_a_tile_is_never_smaller_than_a_training_patch() -> None:
    assert rules.choose_tile((128, 128), (520, 696), 256, (16, 16)).value == (256, 256)
    assert rules.choose_tile((64, 64), (60, 60), 256, (16, 16)).value == (64, 64)
    assert rules.choose_tile((300, 300), (520, 696), 256, (16, 16)).value == (300, 300)


def test_the_names_of_nnunet_keep_their_meaning() -> None:
    foreground = (-50.0, 200.0, 80.0, 30.0)
    as_it_is = rules.choose_normalization("noNorm", foreground).value
    assert (as_it_is.per_case, as_it_is.mean, as_it_is.std, as_it_is.lower, as_it_is.upper) == (False, 0, 1, None, None)
    colors = rules.choose_normalization("rgb_to_0_1", foreground).value
    assert (colors.per_case, colors.mean, colors.std) == (False, 0, 255)
    assert rules.choose_normalization("zscore", foreground).value.per_case
    rescaled = rules.choose_normalization("rescale_to_0_1", foreground)
    assert rescaled.value.per_case
    assert "not followed" in rescaled.reason
