"""Each rule of intensities on made-up numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetpp.plan import Normalization
from unetpp.planning import intensity_rules

FOREGROUND = (-50.0, 200.0, 80.0, 30.0)


def chosen(name: str, inside: float = 1.0) -> Normalization:
    return intensity_rules.choose_normalization(name, FOREGROUND, inside).value


@pytest.mark.parametrize(
    "name", ["CT", "ct", " HU ", "Hounsfield units", "CT_venous", "ncct", "abdomen CT", "SUV", "pet_suv", "SUVbw"]
)
def test_what_has_an_absolute_scale_is_clipped_to_its_foreground(name: str) -> None:
    fixed = Normalization(per_case=False, lower=-50.0, upper=200.0, mean=80.0, std=30.0)
    assert chosen(name) == chosen(name, 0.1) == fixed


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("MRI", "MR has no absolute scale"),
        ("T1-weighted", "no absolute scale"),
        ("t1ce", "MR has"),
        ("FLAIR", "MR has"),
        ("PET", "name the channel SUV"),
        ("PET/CT", "name the channel SUV"),
        ("DAPI", "light and stain"),
        ("green", "light and stain"),
        ("CBCT", "no absolute scale"),
        ("zscore", "no absolute scale"),
        ("ZScoreNormalization", "no absolute scale"),
        ("raw", "no absolute scale"),
        ("01", "no absolute scale"),
        ("sonogram \u8d85", "no absolute scale"),
    ],
)
def test_others_are_normalized_case_by_case(name: str, why: str) -> None:
    found = intensity_rules.choose_normalization(name, FOREGROUND)
    assert found.value == Normalization()
    assert why in found.reason


@pytest.mark.parametrize("name", ["noNorm", "none", "NoNormalization", "no norm"])
def test_nothing_is_done_to_what_asks_for_it(name: str) -> None:
    assert chosen(name) == chosen(name, 0.1) == Normalization(per_case=False)


@pytest.mark.parametrize("name", ["rescale_to_0_1", "rescale to 0..1", "RescaleTo01Normalization", "min-max"])
def test_rescaling_is_followed(name: str) -> None:
    assert chosen(name) == chosen(name, 0.1) == Normalization(scale="0_to_1")


@pytest.mark.parametrize("name", ["rgb_to_0_1", "RGBTo01Normalization"])
def test_colors_are_divided_by_255(name: str) -> None:
    assert chosen(name) == Normalization(per_case=False, std=255)


@given(st.floats(0, 1), st.sampled_from(["MRI", "zscore", "image", "PET"]))
def test_empty_surroundings_are_left_out_of_the_statistics_from_a_quarter_on(inside: float, name: str) -> None:
    assert chosen(name, inside) == Normalization(nonzero=inside < 0.75)


@given(st.text(), st.floats(0, 1))
def test_any_name_has_a_normalization_and_a_reason(name: str, inside: float) -> None:
    value, reason = intensity_rules.choose_normalization(name, FOREGROUND, inside)
    assert isinstance(value, Normalization) and reason
