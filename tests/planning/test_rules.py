"""Each rule on made-up numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetpp.plan import AugmentPlan
from unetpp.planning import rules

sizes2 = st.tuples(st.integers(1, 3000), st.integers(1, 3000))


@given(shape=sizes2, multiple=st.sampled_from([2, 4, 8, 16]))
def test_patches_are_multiples_and_no_larger_than_needed(shape: tuple[int, int], multiple: int) -> None:
    patch = rules.choose_patch(shape, 256, (multiple, multiple)).value
    for size, length in zip(patch, shape, strict=True):
        assert size % multiple == 0
        assert size <= 256
        assert size < length + multiple


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
    on = {name for name, field in AugmentPlan.model_fields.items() if name.endswith("_probability") and field.default}
    assert set(few.value) == on
    assert many.value == {}
    assert "5 passes" in few.reason and "60 passes" in many.reason


def test_a_tile_is_never_smaller_than_a_training_patch() -> None:
    assert rules.choose_tile((128, 128), (520, 696), 256, (16, 16)).value == (256, 256)
    assert rules.choose_tile((64, 64), (60, 60), 256, (16, 16)).value == (64, 64)
    assert rules.choose_tile((300, 300), (520, 696), 256, (16, 16)).value == (300, 300)


def test_a_patch_of_thick_slices_has_as_many_voxels_as_a_cube_but_is_a_cube_in_mm() -> None:
    cube = rules.choose_patch((40, 512, 512), 96, (4, 16, 16)).value
    assert cube == (40, 96, 96)
    patch = rules.choose_patch((40, 512, 512), 96, (4, 16, 16), (5.0, 0.75, 0.75)).value
    assert patch == (20, 128, 128)
    assert rules.choose_tile(patch, (40, 512, 512), 96, (4, 16, 16), (5.0, 0.75, 0.75)).value == patch
    assert rules.choose_patch((300, 200, 200), 96, (16, 16, 16), (1.0, 1.0, 1.0)).value == (96, 96, 96)
