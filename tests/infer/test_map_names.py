"""Names of probability maps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from unetpp.infer.map_names import MapNames


def test_ordinary_names_are_image_and_class() -> None:
    assert MapNames(["liver", "lung left"]).choose("a") == ["a_liver", "a_lung_left"]


@given(
    st.lists(st.text("pP_1x /", min_size=1, max_size=4), min_size=1, max_size=5, unique=True),
    st.lists(st.text("p_1x/", min_size=1, max_size=4), min_size=1, max_size=5, unique=True),
)
def test_no_two_maps_have_one_name(classes: list[str], images: list[str]) -> None:
    names = MapNames(classes)
    chosen = [name for image in images for name in names.choose(image)]
    assert len(set(chosen)) == len(classes) * len(images)
    assert not any(mark in name for name in MapNames(classes).choose("image") for mark in " /")


def test_a_later_call_takes_no_name_of_an_earlier_one() -> None:
    classes = ["1_x", "x"]
    assert MapNames(classes).choose("p") == ["p_1_x", "p_x"]
    assert MapNames(classes, ["p"]).choose("p_1") == ["p_1_1_x", "p_1__x"]
    assert MapNames(classes, ["p"]).choose("p") == ["p_1_x", "p_x"]
