from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetpp.layouts.pairing import Pairs, pair_names

NUMBERS = range(1, 13)
NAMES = st.lists(
    st.from_regex(r"[a-z]{1,5}[0-9]{1,4}", fullmatch=True), min_size=2, max_size=12, unique_by=lambda name: name[1:]
).map(lambda names: [f"c{index:02}{name}" for index, name in enumerate(names)])
"""Names that differ also without letter case and leading zeros."""
ENDINGS = ("", "_mask", "_masks", "_segmentation", "_seg", "_gt", "_GT", "_manual1", "_1stHO", "_anno", "_label")
ENDINGS += ("-labels", ".seg", " mask", "_cp_masks", "_xyz", "-out", ".png", ".jpg")
BEGINNINGS = ("", "label_", "mask_", "gt_", "pred-", "q_")


def pair_pattern(image: str, *labels: str) -> Pairs:
    """Pair the names that two patterns make of the numbers from 1 to 12."""
    return pair_names([image.format(n) for n in NUMBERS], [label.format(n) for label in labels for n in NUMBERS])


@given(NAMES, st.sampled_from(ENDINGS), st.sampled_from(BEGINNINGS), st.sampled_from(["", "image_", "img_"]))
def test_endings_and_beginnings_that_all_labels_share(names: list[str], ending: str, begin: str, image: str) -> None:
    pairs = pair_names([image + name for name in names], [begin + name + ending for name in names])
    assert pairs.labels == {image + name: (begin + name + ending,) for name in names}
    assert not (pairs.unlabeled or pairs.orphaned or pairs.unclear or pairs.rival)
    assert bool(pairs.notes) == bool(image or begin or ending)


@given(NAMES, NAMES, st.sampled_from(ENDINGS))
def test_every_name_has_one_fate(images: list[str], labels: list[str], ending: str) -> None:
    marked = [label + ending for label in labels]
    pairs = pair_names(images, marked)
    assert sorted([*pairs.labels, *pairs.unlabeled, *pairs.rival]) == sorted(images)
    fates = [*(label for own in (*pairs.labels.values(), *pairs.rival.values()) for label in own)]
    assert sorted([*fates, *pairs.orphaned, *pairs.unclear]) == sorted(marked)


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1), unique=True))
def test_any_names_pair_with_themselves(names: list[str]) -> None:
    pairs = pair_names(names, names)
    assert pairs.labels == {name: (name,) for name in names}
    assert pairs.notes == []


@pytest.mark.parametrize(
    ("image", "label", "note"),
    [
        ("{:03}", "{:03}_segmentation", "labels are named NAME_segmentation"),
        ("image_{:03}", "mask_{:03}", "images are named image_NAME, labels mask_NAME"),
        ("{:02}_training", "{:02}_manual1", "images are named NAME_training, labels NAME_manual1"),
        ("{:03}_img", "{:03}_masks", "images are named NAME_img, labels NAME_masks"),
        ("img_{}", "img_mask_{}", "images are named img_NAME, labels img_mask_NAME"),
        ("x{}_raw", "foo-x{}", "images are named NAME_raw, labels foo-NAME"),
        ("{}", "{:03}", "letter case, leading zeros and separators in names do not count: 001 is a label of 1"),
        ("IMG_{}", "img_{}", "images are named IMG_NAME, labels img_NAME"),
        ("é{}", unicodedata.normalize("NFD", "é{}"), "names in two Unicode forms are compared as one"),
    ],
)
def test_patterns_are_described(image: str, label: str, note: str) -> None:
    pairs = pair_pattern(image, label)
    assert pairs.labels == {image.format(n): (label.format(n),) for n in NUMBERS}
    assert pairs.notes == [note]


def test_numbered_masks_are_parts() -> None:
    pairs = pair_names(["a (1)", "a (2)"], ["a (1)_mask", "a (2)_mask", "a (2)_mask_1"])
    assert pairs.labels["a (2)"] == ("a (2)_mask", "a (2)_mask_1")
    assert "several masks of one image are united: NAME_mask, NAME_mask_1" in pairs.notes


def test_left_and_right_are_parts() -> None:
    pairs = pair_pattern("{}", "{}_left_mask", "{}_right_mask")
    assert pairs.labels["7"] == ("7_left_mask", "7_right_mask")
    assert pairs.notes == ["several masks of one image are united: NAME_left_mask, NAME_right_mask"]


def test_endings_that_name_classes() -> None:
    pairs = pair_pattern("s{}", "s{}_liver", "s{}_left kidney")
    assert pairs.labels["s7"] == ("s7_liver", "s7_left kidney")
    assert pairs.classes["s7"] == ("liver", "left kidney")


@pytest.mark.parametrize(
    ("used", "other"), [("{}_1stHO", "{}_2ndHO"), ("{}.ah", "{}.vk"), ("{}_manual1", "{}_manual2")]
)
def test_the_first_of_several_observers_is_used_and_said(used: str, other: str) -> None:
    pairs = pair_pattern("im{}", f"im{used}", f"im{other}")
    assert pairs.labels["im3"] == (f"im{used}".format(3),)
    assert any("observers" in note and other.format("NAME") in note for note in pairs.notes)


@pytest.mark.parametrize(
    "labels",
    [("{}_seg_v1", "{}_seg_v2"), ("{}_label", "{}_mask"), ("{}", "{}_mask"), ("{}_seg1", "{}_seg2"), ("{}_1", "{}_2")],
)
def test_labels_that_contradict_each_other(labels: tuple[str, str]) -> None:
    pairs = pair_pattern("cell{}", *(f"cell{label}" for label in labels))
    assert not pairs.labels
    assert pairs.rival["cell4"] == tuple(f"cell{label}".format(4) for label in labels)


def test_other_forms_of_a_label_are_not_used() -> None:
    pairs = pair_pattern("x{}", "x{}_mask", "x{}_mask_color", "x{}_fov")
    assert pairs.labels["x3"] == ("x3_mask",)
    assert "not used: NAME_mask_color (pictures of labels); used: NAME_mask" in pairs.notes


def test_words_in_names_do_not_hide_beginnings() -> None:
    names = ["c00a0", "c01ah0", "c02gt0"]
    assert pair_names(names, [f"label_{name}" for name in names]).labels == {n: (f"label_{n}",) for n in names}


def test_a_label_that_fits_two_images_is_not_guessed() -> None:
    pairs = pair_names(["7", "07"], ["007"])
    assert (pairs.labels, pairs.unclear) == ({}, {"007": ("7", "07")})


def test_exact_names_are_never_given_away() -> None:
    pairs = pair_names(["x1", "x2", "y1", "y2"], ["x1", "x2", "z1", "z2"])
    assert pairs.labels == {"x1": ("x1",), "x2": ("x2",)}
    assert (pairs.unlabeled, pairs.orphaned) == (["y1", "y2"], ["z1", "z2"])


def test_one_pair_has_no_pattern() -> None:
    assert pair_names(["scan"], ["other"]).orphaned == ["other"]
