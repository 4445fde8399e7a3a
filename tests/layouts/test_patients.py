"""Cases of one patient are found by their names, where these are sure."""

from __future__ import annotations

from pathlib import Path

import pytest

from unetpp.layouts.dataset import Case
from unetpp.layouts.patients import group_by_name


def make_cases(*ids: str, group: str | None = None) -> list[Case]:
    return [Case(id, (Path(f"{id}.png"),), group=group) for id in ids]


@pytest.mark.parametrize(
    "pattern",
    [
        "patient{:03}_frame{:02}",
        "sub-{:02}_ses-{}",
        "liver_{}_slice_{}",
        "p{}-visit{}",
        "s{:04}_Scan{}",
        "a{}_ses-{}_slice-7",
    ],
)
def test_frames_sessions_and_slices_are_of_a_patient(pattern: str) -> None:
    cases, (note,) = group_by_name(make_cases(*(pattern.format(who, when) for who in range(6) for when in (1, 12))))
    assert len({case.group for case in cases}) == 6
    assert all(case.id.startswith(str(case.group)) for case in cases)
    assert "12 cases are of 6 patients" in note


@pytest.mark.parametrize(
    "ids",
    [
        [f"hippocampus_{number:03}" for number in range(9)],
        [f"image_slice_{number}" for number in range(9)],  # no number before: nothing tells patients apart
        [f"volume1_slice_{number}" for number in range(9)],  # one volume: no folds would be left
        [f"case{number}_frame01" for number in range(9)],  # each has one
        [f"BraTS20_Training_{number:03}" for number in range(9)],
    ],
)
def test_other_names_say_nothing(ids: list[str]) -> None:
    cases = make_cases(*ids)
    assert group_by_name(cases) == (tuple(cases), ())


def test_groups_of_the_data_set_stay() -> None:
    ids = [f"p{who}_frame{when}" for who in range(6) for when in (1, 2)]
    cases = make_cases(*ids, group="all")
    assert group_by_name(cases) == (tuple(cases), ())


def test_a_case_alone_keeps_to_itself() -> None:
    ids = ["p1_frame1", "p1_frame2", *(f"p{number}_frame1" for number in range(2, 7))]
    cases, (note,) = group_by_name(make_cases(*ids))
    assert [case.group for case in cases] == ["p1", "p1", *[None] * 5]
    assert "p1_frame1 and p1_frame2" in note
