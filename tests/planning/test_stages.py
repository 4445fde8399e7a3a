"""Rules for stages: when there is a low resolution, and how low."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetpp.planning import geometry_rules, stages
from unetpp.planning.stages import LOW_RESOLUTION_FROM, choose_low_spacing, consider_stages, count_patches

PATCH = (64, 64, 64)
shapes = st.tuples(*[st.integers(1, 900)] * 3)
spacings = st.tuples(*[st.floats(0.2, 8)] * 3)


def find_sizes_of(
    shape: tuple[int, ...], spacing: tuple[float, ...], patch: tuple[int, ...] | None = None
) -> Callable[[tuple[float, ...]], tuple[tuple[int, ...], tuple[int, ...]]]:
    """Make the sizes on coarser grids; without a patch it has the shape of a case, as patches of the planner do."""

    def find_sizes(mm: tuple[float, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        coarse = tuple(max(1, round(size * own / new)) for size, own, new in zip(shape, spacing, mm, strict=True))
        return coarse, patch or geometry_rules.shape_patch(64**3, coarse, mm, (8, 8, 8))

    return find_sizes


@settings(deadline=None, max_examples=40)
@given(shapes, spacings, st.one_of(st.none(), st.just(PATCH)))
def test_at_low_resolution_a_patch_holds_a_quarter(
    shape: tuple[int, ...], spacing: tuple[float, ...], patch: tuple[int, ...] | None
) -> None:
    sizes = find_sizes_of(shape, spacing, patch)
    low, reason = choose_low_spacing(spacing, sizes)
    assert count_patches(*sizes(low)) <= LOW_RESOLUTION_FROM
    assert all(new >= old * 0.999 for new, old in zip(low, spacing, strict=True))
    assert (low == spacing) == (count_patches(*sizes(spacing)) <= LOW_RESOLUTION_FROM)
    assert "low resolution" in reason
    finer = tuple(max(old, new / 1.03) for new, old in zip(low, spacing, strict=True))  # no coarser than needed
    grown = [new > old * 1.001 for new, old in zip(low, spacing, strict=True)]
    if patch and any(grown) and min(sizes(low)[0]) > max(PATCH):
        assert count_patches(*sizes(finer)) > LOW_RESOLUTION_FROM * 0.97


@settings(deadline=None, max_examples=40)
@given(shapes, spacings)
def test_thick_slices_are_spared_until_the_others_are_half_as_thick(
    shape: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    low = choose_low_spacing(spacing, find_sizes_of(shape, spacing, PATCH)).value
    for axis, (new, old) in enumerate(zip(low, spacing, strict=True)):
        if new > old * 1.001 and old == max(spacing):
            assert all(2.03 * other >= new for place, other in enumerate(low) if place != axis)


def test_a_ct_becomes_coarse_within_slices_first() -> None:
    spacing = (5.0, 0.8, 0.8)
    low = choose_low_spacing(spacing, find_sizes_of((100, 512, 512), spacing, (28, 96, 96))).value
    assert low[1] == low[2] and low[0] == pytest.approx(2 * low[1], rel=0.03)  # then all of them
    assert choose_low_spacing(spacing, find_sizes_of((28, 512, 512), spacing, (28, 96, 96))).value[0] == 5.0
    assert prod(low) / prod(spacing) == pytest.approx(count_patches((100, 512, 512), (28, 96, 96)) / 4, rel=0.05)


def test_low_resolution_comes_first_for_volumes_far_larger_than_a_patch() -> None:
    assert stages.choose_resolution(100.0, (1.0, 1.0, 1.0), 300, None).value == "cascade"
    assert stages.choose_resolution(100.0, (1.0, 1.0, 1.0), 300, 600).value == "cascade"
    for patches, spacing, cases, minutes, word in (
        (26.9, (1.0, 1.0, 1.0), 300, None, ""),
        (100.0, None, 300, None, "voxel sizes"),
        (100.0, (1.0, 1.0, 1.0), 9, None, "9 cases"),
        (100.0, (1.0, 1.0, 1.0), 300, 20.0, "20 minutes are short"),
    ):
        choice = stages.choose_resolution(patches, spacing, cases, minutes)
        assert choice.value == "full" and word in choice.reason


def test_what_stands_against_a_low_resolution_is_told() -> None:
    spacing = (1.0, 1.0, 1.0)
    assert "2D" in stages.find_obstacle(2, 50.0, spacing, False)
    assert "voxel sizes" in stages.find_obstacle(3, 50.0, None, False)
    assert "50%" in stages.find_obstacle(3, 2.0, spacing, False)
    assert "start from" in stages.find_obstacle(3, 50.0, spacing, True)
    assert stages.find_obstacle(3, 50.0, spacing, False) == ""


def test_what_was_considered_is_told() -> None:
    (only,) = consider_stages(2, (512, 512), None, (256, 256))
    assert only == "2D, chosen: the network is given images; a patch holds 25% of the typical image"
    chosen, flat, low = consider_stages(3, (64, 64, 64), (1.0, 1.0, 1.0), (64, 64, 64))
    assert chosen.startswith("3D, chosen: ") and "100%" in chosen
    assert flat.startswith("2D, not chosen: ")
    assert low == "low resolution first, not needed: the typical volume is 1.0 patches"
    thick = consider_stages(3, (40, 512, 512), (5.0, 0.8, 0.8), (24, 128, 128))
    assert thick[1].startswith("2D, worth a comparison: ")
    assert thick[2].startswith("low resolution first, worth a comparison: ")
    assert consider_stages(3, (1, 64, 64), None, (1, 64, 64))[1].startswith("2D, as good: ")
    assert "not possible" in consider_stages(3, (400, 400, 400), None, (64, 64, 64))[2]
    for resolution, first in (("cascade", "low resolution first, chosen"), ("low", "3D at low resolution, chosen")):
        lines = consider_stages(3, (400, 400, 400), (1.0, 1.0, 1.0), PATCH, resolution)
        assert lines[0].startswith(first) and len(lines) == 3 and sum("chosen: " in line for line in lines) == 2
