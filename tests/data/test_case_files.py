"""Labels of several files: an object each, parts of one mask, or a class each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import write_png
from unetpp.data.case_files import read_case_classes, read_case_label
from unetpp.data.inspect import Inspection, inspect_dataset
from unetpp.errors import DataError
from unetpp.layouts.dataset import Case, Dataset
from unetpp.plan import AS_FILES_SAY, DataPlan, LabelPlan, Normalization, ReadPlan

SHAPE = (12, 10)


def part(rows: slice, value: int = 255) -> np.ndarray:
    array = np.zeros(SHAPE, np.uint16 if value > 255 else np.uint8)
    array[rows] = value
    return array


def write_case(folder: Path, stem: str, **parts: np.ndarray) -> Case:
    noise = np.random.default_rng(len(stem) + ord(stem[-1])).integers(0, 255, SHAPE, dtype=np.uint8)
    image = write_png(folder / "images" / f"{stem}.png", noise)
    labels = tuple(write_png(folder / name / f"{stem}.png", array) for name, array in parts.items())
    return Case(stem, (image,), labels)


def data_plan(found: Inspection) -> DataPlan:
    classes = found.meaning.classes
    return DataPlan(
        dims=2,
        channels=("image",),
        classes=classes.names,
        label_values=classes.values,
        labels=found.meaning.plan,
        normalization=(Normalization(),),
    )


def test_one_mask_for_each_object(tmp_path: Path) -> None:
    case = write_case(tmp_path, "a", first=part(slice(0, 2)), second=part(slice(8, 12), 1))
    label = read_case_label(case, AS_FILES_SAY)
    assert label.array[0, :, 0].tolist() == [1, 1, *[0] * 6, *[2] * 4]
    wrong = replace(case, labels=(case.labels[0], write_png(tmp_path / "small.png", part(slice(1))[1:])))
    with pytest.raises(DataError, match="11 x 10"):
        read_case_label(wrong, AS_FILES_SAY)


def test_parts_of_one_mask_are_united(tmp_path: Path) -> None:
    cases = (
        write_case(tmp_path, "a", first=part(slice(0, 2)), second=part(slice(1, 5))),
        write_case(tmp_path, "b", first=part(slice(3, 6))),
        write_case(tmp_path, "c", first=part(slice(3, 9), 65535)),
    )
    found = inspect_dataset(Dataset("d", tmp_path, "folder", cases, joined="union"))
    assert (found.problems, found.meaning.plan.kind) == ([], "binary")
    for case, rows in zip(cases, (slice(0, 5), slice(3, 6), slice(3, 9)), strict=True):
        np.testing.assert_array_equal(read_case_classes(case, data_plan(found)), part(rows, 1))


def test_one_file_for_each_class(tmp_path: Path) -> None:
    names = ("kidney", "liver")
    cases = (
        replace(write_case(tmp_path, "a", kidney=part(slice(0, 3)), liver=part(slice(4, 9), 1)), label_classes=names),
        replace(
            write_case(tmp_path, "b", liver=part(slice(2, 6)), kidney=part(slice(5, 9))), label_classes=names[::-1]
        ),
        replace(write_case(tmp_path, "c", liver=part(slice(2, 6))), label_classes=names[1:]),
    )
    found = inspect_dataset(Dataset("d", tmp_path, "folder", cases, joined="classes"))
    assert (found.problems, found.classes) == ([], ("background", "kidney", "liver"))
    assert any("masks of several classes overlap" in note for note in found.notes)
    rows = [read_case_classes(case, data_plan(found))[:, 0].tolist() for case in cases]
    assert rows[0] == [1, 1, 1, 0, 2, 2, 2, 2, 2, 0, 0, 0]
    assert rows[1] == [0, 0, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0]
    assert rows[2] == [0, 0, 2, 2, 2, 2, *[0] * 6]


@pytest.mark.parametrize(
    ("setting", "kind", "classes"),
    [
        (None, "classes", ("background", "class_100", "class_200")),
        ("binary:150", "binary", ("background", "foreground")),
        ("objects", "objects", ("background", "foreground")),
        ("classes,ignore:200", "classes", ("background", "foreground")),
    ],
)
def test_the_user_says_what_the_values_mean(
    tmp_path: Path, setting: str | None, kind: str, classes: tuple[str, ...]
) -> None:
    label = part(slice(0, 4), 100) + part(slice(4, 8), 200)
    cases = tuple(write_case(tmp_path, stem, masks=label) for stem in "ab")
    plan = None if setting is None else LabelPlan.model_validate(setting)
    found = inspect_dataset(Dataset("d", tmp_path, "folder", cases), ReadPlan(labels=plan))
    assert (found.problems, found.meaning.plan.kind, found.classes) == ([], kind, classes)
    column = read_case_classes(cases[0], data_plan(found))[:, 0].tolist()
    assert column[8:] == [0] * 4
    expected = {None: (1, 2), "binary:150": (0, 1), "objects": (1, 1), "classes,ignore:200": (1, 255)}[setting]
    assert (column[0], column[4]) == expected


@pytest.mark.parametrize(
    ("name", "classes", "kind"),
    [
        ("2d/colour-coded-masks", ("background", "green", "red"), "colors"),
        ("2d/halved-masks", ("background", "foreground"), "binary"),
        ("2d/jpeg-masks", ("background", "foreground"), "binary"),
        ("2d/mask-in-the-alpha-channel", ("background", "foreground"), "classes"),
        ("2d/masks-of-two-depths", ("background", "foreground"), "binary"),
        ("2d/masks-white-is-zero", ("background", "foreground"), "classes"),
        ("2d/near-binary-masks", ("background", "foreground"), "binary"),
        ("2d/palette-order-differs", ("background", "green", "red"), "colors"),
        ("2d/void-255-in-palette-masks", ("background", "class_1", "class_2"), "classes"),
        ("3d/labels-one-hot-4d", ("background", "class_1", "class_2"), "channels"),
        ("3d/labels-rounded-by-scaling", ("background", "class_1", "class_2"), "classes"),
        ("3d/slicer-segment-values-differ", ("background", "right organ", "left organ"), "segments"),
    ],
)
def test_labels_of_users(cases: Path, name: str, classes: tuple[str, ...], kind: str) -> None:
    from unetpp.layouts.cases import find_cases

    found = inspect_dataset(find_cases(cases / name))
    assert (found.problems, found.classes, found.meaning.plan.kind) == ([], classes, kind)
    shares = [
        np.bincount(read_case_classes(case, plan_of(found)).reshape(-1)) for case in find_cases(cases / name).cases
    ]
    assert all(0 < share[1] < share[0] for share in shares)


def plan_of(found: Inspection) -> DataPlan:
    dims = len(found.facts[0].shape)
    return data_plan(found).model_copy(update={"dims": dims})


def test_objects_of_users_are_asked_for(cases: Path) -> None:
    from unetpp.layouts.cases import find_cases

    (problem,) = inspect_dataset(find_cases(cases / "2d" / "objects-in-masks")).problems
    assert "instances" in problem.action
