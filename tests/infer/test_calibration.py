"""The line from confidence to true Dice."""

from __future__ import annotations

import numpy as np
import pytest

from unetpp.infer.calibration import calibrate, calibrate_together, describe_low, join_levels
from unetpp.measured import Calibration
from unetpp.results import LOW


def test_the_level_is_that_of_the_lowest_tenth_and_of_few_cases_the_lowest() -> None:
    true = [0.5, 0.7, 0.8, 0.85, None, 0.9]
    found = calibrate([0.6, 0.72, 0.81, 0.84, 0.3, 0.95], true)
    assert found.expected_dice_correlation == pytest.approx(1)
    assert (found.review_below, found.calibrated_cases) == (0.6, 5)
    assert describe_low(found) == f"{LOW}, below all 5 validation cases (confidence below 0.6; by chance 1 in 6)"
    many = calibrate(np.linspace(0.5, 0.9, 19).tolist(), [0.8] * 19)  # two of 20 are not above the second lowest
    assert many.review_below == pytest.approx(0.5 + 0.4 / 18) and describe_low(many) == LOW
    assert calibrate(np.linspace(0.5, 0.9, 9).tolist(), [0.8] * 9).review_below == 0.5
    assert calibrate([0.9, 0.8, None, 0.7, 0.6], [0.9, 0.8, 0.7, 0.7, 0.6]).expected_dice_slope is None


def test_the_dice_is_predicted_by_a_line_that_cases_left_out_judge() -> None:
    expected = [0.80, 0.85, 0.90, 0.95, 0.97]
    straight = calibrate(expected, [2 * guess - 1.0 for guess in expected])
    assert (straight.expected_dice_slope, straight.expected_dice_offset) == (
        pytest.approx(2),
        pytest.approx(-1),
    )
    assert straight.expected_dice_error == pytest.approx(0, abs=1e-12)
    outlier = calibrate(expected, [0.6, 0.7, 0.8, 0.9, 0.5])
    assert (
        outlier.expected_dice_error
        > np.abs(
            np.polyval(np.polyfit(expected, [0.6, 0.7, 0.8, 0.9, 0.5], 1), expected) - [0.6, 0.7, 0.8, 0.9, 0.5]
        ).mean()
    )


def test_a_level_marks_a_tenth_of_images_like_the_cases_or_as_few_as_can_be_told() -> None:
    """Whatever the distribution: here a skew one."""
    rng = np.random.default_rng(0)
    for cases, share in ((5, 1 / 6), (9, 0.1), (15, 0.1)):
        drawn = rng.beta(8, 2, (400, cases + 1)).tolist()
        below = [new < (calibrate(known, known).review_below or 0.0) for new, *known in drawn]
        assert np.mean(below) == pytest.approx(share, abs=0.045)


def test_of_folds_of_few_cases_the_lowest_level_counts() -> None:
    folds = [Calibration(review_below=level, calibrated_cases=cases) for level, cases in ((0.7, 5), (0.6, 6))]
    assert join_levels(folds) == Calibration(calibrated_cases=11, review_below=0.6)
    many = [fold.merge(Calibration(calibrated_cases=20)) for fold in folds]
    assert join_levels(many) == Calibration(calibrated_cases=40)
    assert join_levels([*folds, Calibration(review_below=0.8)]) == join_levels([]) == Calibration()


@pytest.mark.parametrize(
    ("expected", "true"),
    [([0.9] * 5, [0.1, 0.2, 0.3, 0.4, 0.5]), ([0.5, 0.6, 0.7, 0.8, 0.9], [0.9, 0.8, 0.7, 0.6, 0.5])],
)
def test_expectations_that_say_nothing_predict_the_mean(expected: list[float], true: list[float]) -> None:
    found = calibrate(expected, true)
    assert (found.expected_dice_slope, found.expected_dice_offset) == (0, pytest.approx(np.mean(true)))
    assert found.expected_dice_correlation == (0 if len(set(expected)) == 1 else pytest.approx(-1))


def test_folds_of_few_cases_are_calibrated_together_as_one_of_all_of_them() -> None:
    confidence, true = [0.80, 0.85, 0.90, 0.95, 0.97, 0.99], [0.6, 0.7, 0.75, 0.9, 0.85, 0.95]
    few = calibrate(confidence[:3], true[:3])
    assert few == Calibration(confidence_and_dice=tuple(zip(confidence[:3], true[:3], strict=True)))
    rest = Calibration.model_validate_json(calibrate([*confidence[3:], None], [*true[3:], 0.1]).to_json())
    assert calibrate_together([few, rest, Calibration()]) == calibrate(confidence, true)
    assert calibrate_together([few]).expected_dice_slope is None
    assert calibrate_together([few, rest, calibrate(confidence, true)]) == Calibration()
    assert calibrate_together([]) == calibrate_together([Calibration()]) == Calibration()


def test_no_more_is_expected_than_any_case_of_the_calibration_has() -> None:
    found = calibrate([0.5, 0.6, 0.7, 0.8, 0.9], [0.1, 0.2, 0.35, 0.4, 0.5])
    assert found.expect_dice(0.99) == 0.5 == found.expected_dice_highest
    assert (found.expect_dice(0.6) or 1.0) < 0.3
