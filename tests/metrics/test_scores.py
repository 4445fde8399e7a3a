"""Scores against values known from geometry, and against MONAI's own entry points."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unetpp.metrics.scores import (
    CaseScore,
    bootstrap_interval,
    compare_dice,
    compute_dice_losses,
    fast_dice,
    mean_of,
    score_case,
    summarize,
)


def cube(
    start: tuple[int, int, int], size: tuple[int, int, int], shape: tuple[int, int, int] = (24, 24, 24)
) -> np.ndarray:
    array = np.zeros(shape, np.uint8)
    array[tuple(slice(first, first + length) for first, length in zip(start, size, strict=True))] = 1
    return array


@pytest.mark.parametrize(("axis", "shift"), [(0, 2), (1, 2), (2, 2), (2, 5)])
@pytest.mark.parametrize("spacing", [(2.0, 1.0, 0.5), (1.0, 1.0, 1.0), None])
def test_shifted_cuboids(axis: int, shift: int, spacing: tuple[float, ...] | None) -> None:
    """The face that moved out is `shift` voxels from the other surface and more than 5 % of it: HD95 is the shift."""
    size = (8, 12, 12)
    start = [4, 4, 4]
    reference = cube((4, 4, 4), size)
    start[axis] += shift
    score = score_case("a", cube((start[0], start[1], start[2]), size), reference, 2, spacing).classes[0]
    moved = shift * (1.0 if spacing is None else spacing[axis])
    assert score.hd95_mm == pytest.approx(moved)
    assert score.dice == pytest.approx((size[axis] - shift) / size[axis])
    assert score.iou == pytest.approx((size[axis] - shift) / (size[axis] + shift))


def test_surface_dice_of_shifted_cuboids() -> None:
    """Shifted by 2 voxels of 2 mm along Z: the sides of 6 common slices coincide, the 2 that stick out are too far."""
    score = score_case("a", cube((6, 4, 4), (8, 12, 12)), cube((4, 4, 4), (8, 12, 12)), 2, (2.0, 1.0, 0.5)).classes[0]
    ring, face = 2 * 12 + 2 * 10, 10 * 10
    # of the face that lies inside the other cuboid, a rim is within 1 mm of its sides: 1 voxel along Y, 2 along X
    rim = face - (10 - 2 * 1) * (10 - 2 * 2)
    assert score.nsd == pytest.approx((6 * ring + rim) / (8 * ring + 2 * face))


def test_errors_of_volumes_and_their_limits_of_agreement() -> None:
    reference = cube((4, 4, 4), (4, 4, 4))
    halves, sames, wholes = (score_case("a", cube((4, 4, 4), (2 * n, 4, 4)), reference, 2) for n in (1, 2, 4))
    none = score_case("b", reference, np.zeros_like(reference), 2)  # no percent of nothing
    found = summarize([halves, sames, wholes, none], ("background", "cube"))
    assert [case.classes["cube"].volume_error for case in found.cases] == [-50, 0, 100, None]
    assert [case.mean.volume_error for case in found.cases] == [-50, 0, 100, None]
    spread = 1.96 * np.std([-50, 0, 100], ddof=1)
    assert found.classes["cube"].volume_error == pytest.approx(50 / 3)
    assert found.classes["cube"].volume_limits == pytest.approx((50 / 3 - spread, 50 / 3 + spread))
    alone = summarize([halves], ("background", "cube")).classes["cube"]
    assert (alone.volume_error, alone.volume_limits) == (-50, None)
    two = summarize([score_case("a", reference * 2, reference, 3)], ("background", "core", "rim"))
    assert two.cases[0].mean.volume_error is None  # that of several classes has no mean
    assert two.classes["core"].volume_error == -100


def test_identical_and_absent_and_missing() -> None:
    both = cube((4, 4, 4), (6, 6, 6))
    first = score_case("a", both, both, 3, (1.0, 1.0, 1.0))
    assert (first.classes[0].dice, first.classes[0].hd95_mm, first.classes[0].nsd) == (1.0, 0.0, 1.0)
    absent = first.classes[1]
    assert (absent.dice, absent.iou, absent.hd95_mm, absent.nsd, absent.undefined_distance) == (
        None,
        None,
        None,
        None,
        False,
    )
    missing = score_case("b", np.zeros_like(both), both, 2).classes[0]
    assert (missing.dice, missing.iou, missing.hd95_mm, missing.nsd, missing.undefined_distance) == (
        0.0,
        0.0,
        None,
        0.0,
        True,
    )
    assert first.mean().dice == 1.0


def test_objects_at_the_border_of_the_image() -> None:
    reference = np.ones((16, 16), np.uint8)
    prediction = reference.copy()
    prediction[:3] = 0
    score = score_case("a", prediction, reference, 2).classes[0]
    assert score.hd95_mm == pytest.approx(3.0)


masks = hnp.arrays(np.uint8, st.tuples(st.integers(2, 9), st.integers(2, 9)), elements=st.integers(0, 2))


@settings(max_examples=60, deadline=None)
@given(masks)
def test_agrees_with_monai(reference: np.ndarray) -> None:
    from monai.metrics import compute_dice, compute_hausdorff_distance, compute_iou, compute_surface_dice

    moved_by_one = np.roll(reference, 1, axis=0)
    spacing = (2.0, 0.75)
    for index, score in enumerate(score_case("a", moved_by_one, reference, 3, spacing).classes, start=1):
        pair = tuple(torch.from_numpy(array == index)[None, None] for array in (moved_by_one, reference))
        if score.dice is None:
            assert not pair[0].any() and not pair[1].any()
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            hd95 = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=spacing)
            nsd = compute_surface_dice(*pair, [1.0], include_background=True, spacing=spacing)
        assert score.dice == pytest.approx(float(compute_dice(*pair)), abs=1e-6)
        assert score.iou == pytest.approx(float(compute_iou(*pair)), abs=1e-6)
        assert score.hd95_mm == pytest.approx(float(hd95), abs=1e-5)
        assert score.nsd == pytest.approx(float(nsd), abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(masks)
def test_fast_dice_is_the_mean_dice_of_the_case(reference: np.ndarray) -> None:
    prediction = np.roll(reference, 1, axis=1)
    expected = score_case("a", prediction, reference, 3, surface_metrics=False).mean().dice
    assert fast_dice(prediction, reference, 3) == (None if expected is None else pytest.approx(expected))


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"got a prediction of shape \(3, 3\); expected \(4, 4\)"):
        score_case("a", np.zeros((3, 3), np.uint8), np.zeros((4, 4), np.uint8), 2)


def pair_of_cases() -> list[CaseScore]:
    small, large = np.zeros((2, 16, 16), np.uint8)
    small[:2, :2], large[:12, :12] = 1, 1
    half = large.copy()
    half[6:] = 0
    return [
        score_case("small", small, small, 2, surface_metrics=False),
        score_case("large", half, large, 2, surface_metrics=False),
    ]


def test_mean_is_over_cases_and_pooled_over_voxels() -> None:
    summary = summarize(pair_of_cases(), ["background", "cell"])
    large = 2 * 72 / (72 + 144)
    assert summary.mean.dice == pytest.approx((1 + large) / 2)
    assert summary.pooled.dice == pytest.approx(2 * (4 + 72) / (8 + 72 + 144))
    assert summary.classes["cell"].dice == pytest.approx((1 + large) / 2)
    assert [case.id for case in summary.cases] == ["small", "large"]
    assert summary.cases[1].classes["cell"].iou == pytest.approx(0.5)
    assert summary.distance_unit == "pixel"
    assert "MONAI" in summary.metric_impl


def test_what_is_lost_is_counted_case_by_case() -> None:
    names = ["background", "cell"]
    small, large = np.zeros((2, 16, 16), np.uint8)
    small[:2, :2], large[:12, :12] = 1, 1
    best = summarize(
        [
            score_case("large", large, large, 2),
            score_case("small", small, small, 2),
            score_case("only here", small, small, 2),
        ],
        names,
    )
    lost, interval = compare_dice(summarize(pair_of_cases(), names), best)
    expected = 1 - 2 * 72 / (72 + 144)
    assert lost == pytest.approx(expected / 2)
    assert interval and interval[0] < expected / 2 < interval[1]
    assert compare_dice(best, best) == (0, (0, 0))
    assert compute_dice_losses([None, None, 0.8], [0.0, None, None]) == [
        1.0,
        pytest.approx(-0.2),
    ]  # found where nothing is; nothing to lose; not found where the other is wrong


def test_summary_without_any_foreground_has_no_numbers() -> None:
    empty = np.zeros((4, 4), np.uint8)
    summary = summarize([score_case("a", empty, empty, 2)], ["background", "cell"])
    assert summary.mean.dice is None and summary.pooled.dice is None and summary.classes["cell"].cases == 0


def test_infinite_distances_are_counted_not_averaged() -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[2:5, 2:5] = 1
    summary = summarize(
        [score_case("found", mask, mask, 2), score_case("lost", np.zeros_like(mask), mask, 2)], ["background", "cell"]
    )
    assert summary.mean.hd95_mm == 0.0
    assert summary.mean.hd95_undefined == summary.classes["cell"].hd95_undefined == 1


def test_the_interval_of_few_cases_is_nearly_that_of_student() -> None:
    values = np.array([0.953, 0.958, 0.951, 0.960, 0.956])
    low, high = bootstrap_interval(values.tolist()) or (0.0, 0.0)
    half = 2.776 * values.std(ddof=1) / 5**0.5
    assert low == pytest.approx(values.mean() - half, abs=0.25 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.25 * half)


def test_bootstrap_interval_covers_the_mean() -> None:
    values = np.random.default_rng(1).normal(0.8, 0.1, 100).tolist()
    low, high = bootstrap_interval(values) or (1.0, 0.0)
    error = 1.96 * np.std(values) / 10
    assert low == pytest.approx(np.mean(values) - error, abs=0.004)
    assert high == pytest.approx(np.mean(values) + error, abs=0.004)
    assert bootstrap_interval([0.5]) is None


def test_the_interval_of_many_cases_takes_little_memory() -> None:
    values = np.random.default_rng(2).random(20_000)
    bootstrap_interval(values[:2].tolist())  # imports
    tracemalloc.start()
    low, high = bootstrap_interval(values.tolist()) or (0.0, 0.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6  # all draws at once: 640 MB
    drawn = np.random.default_rng(0).choice(values, size=(2000, 20_000))
    assert (low, high) == pytest.approx(tuple(np.quantile(drawn.mean(axis=1), [0.025, 0.975])), abs=1e-6)


def test_mean_of_what_is_there() -> None:
    assert mean_of([1.0, None, 3.0, float("nan"), float("inf")]) == 2.0
    assert mean_of([None]) is None


@given(data=st.data())
@settings(deadline=None, max_examples=30)
def test_voxels_that_nobody_labeled_do_not_count(data: st.DataObject) -> None:
    """What is predicted there changes nothing, and the scores are those of the labeled voxels alone."""
    reference = data.draw(hnp.arrays(np.uint8, (6, 7), elements=st.sampled_from([0, 1, 2, 255])))
    first, other = (data.draw(hnp.arrays(np.uint8, (6, 7), elements=st.integers(0, 2))) for _ in range(2))
    labeled = reference != 255
    second = np.where(labeled, first, other)
    assert score_case("a", first, reference, 3) == score_case("a", second, reference, 3)
    dice = fast_dice(first, reference, 3)
    assert dice == fast_dice(second, reference, 3) == fast_dice(first[labeled], reference[labeled], 3)
    assert score_case("a", first, reference, 3, surface_metrics=False).mean().dice == (
        None if dice is None else pytest.approx(dice)
    )


def test_an_outline_that_nobody_labeled_leaves_a_perfect_score() -> None:
    """As in PASCAL VOC: the object's border is unknown, and the prediction ends somewhere in it."""
    reference, prediction = cube((6, 6, 6), (8, 8, 8)), cube((5, 6, 7), (9, 8, 8))
    reference[cube((4, 4, 4), (12, 12, 12)) & ~cube((7, 7, 7), (6, 6, 6)) & 1 > 0] = 255
    score = score_case("a", prediction, reference, 2, (1.0, 1.0, 1.0)).classes[0]
    assert (score.dice, score.iou, score.hd95_mm, score.nsd) == (1, 1, 0, 1)
