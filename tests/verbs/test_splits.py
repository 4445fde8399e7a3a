"""Splits: given, of nnU-Net, edited, and completed by cases that came later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unetpp.data.folds import Split, write_splits
from unetpp.errors import DataError
from unetpp.layouts.dataset import Case, Dataset
from unetpp.progress import Stage
from unetpp.run_folder import RunFolder
from unetpp.verbs.splits import choose_split, find_splits


class Notes:
    """Collects what the user is told."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def stage(self, title: str) -> Stage:
        return lambda done, total, note="": None

    def note(self, text: str) -> None:
        self.texts.append(text)


def case(name: str, **fields: Any) -> Case:
    return Case(name, (Path(f"{name}.png"),), **{"labels": (Path(f"{name}_mask.png"),), **fields})


def dataset(root: Path, *cases: Case) -> Dataset:
    return Dataset("toy", root, "csv", cases)


def test_edited_splits_name_cases_of_the_data_set_that_have_labels(tmp_path: Path) -> None:
    data = dataset(tmp_path / "data", *map(case, "abc"), case("d", labels=(), split="test"))
    folder = RunFolder(tmp_path)
    write_splits(folder.splits, [Split(("a", "b"), ("c",))])
    assert find_splits(folder, data, Notes()) == [Split(("a", "b"), ("c",))]
    write_splits(folder.splits, [Split(("a", "d"), ("c", "e"))])
    with pytest.raises(DataError) as caught:
        find_splits(folder, data, Notes())
    assert [problem.got for problem in caught.value.problems] == [
        "1 case not in the data set: e",
        "1 case without a label: d",
    ]


@pytest.mark.parametrize("place", ["nnUNet_raw/Dataset004_X", "nnUNet_preprocessed/Dataset004_X"])
def test_splits_of_nnunet_are_found_beside_the_data(tmp_path: Path, place: str) -> None:
    root = tmp_path / "nnUNet_raw/Dataset004_X"
    for folder in (root, tmp_path / place):
        folder.mkdir(parents=True, exist_ok=True)
    (tmp_path / place / "splits_final.json").write_text(json.dumps([{"train": ["a", "b"], "val": ["c"]}]))
    notes = Notes()
    assert find_splits(RunFolder(tmp_path / "run"), dataset(root, *map(case, "abc")), notes) == [
        Split(("a", "b"), ("c",))
    ]
    assert "splits_final.json" in notes.texts[0]


def test_splits_of_nnunet_may_be_given_in_the_run(tmp_path: Path) -> None:
    (tmp_path / "splits.json").write_text(json.dumps([{"train": ["a"], "val": ["b"]}]))
    assert find_splits(RunFolder(tmp_path), dataset(tmp_path, *map(case, "ab")), Notes()) == [Split(("a",), ("b",))]


def test_patients_may_be_named_instead_of_their_cases(tmp_path: Path) -> None:
    cases = [case(f"{patient}_{slice_}", group=patient) for patient in ("p1", "p2") for slice_ in (1, 2)]
    write_splits(tmp_path / "splits.json", [Split(("p1",), ("p2",))])
    found = find_splits(RunFolder(tmp_path), dataset(tmp_path, *cases), Notes())
    assert found == [Split(("p1_1", "p1_2"), ("p2_1", "p2_2"))]


def test_a_patient_on_both_sides_is_told(tmp_path: Path) -> None:
    cases = [case(name, group="p1") for name in "ab"]
    write_splits(tmp_path / "splits.json", [Split(("a",), ("b",))])
    notes = Notes()
    find_splits(RunFolder(tmp_path), dataset(tmp_path, *cases), notes)
    assert notes.texts == ["note: splits.json: p1 trains and validates in fold 0: its scores are too good"]


def test_new_cases_are_named_and_taken_in(tmp_path: Path) -> None:
    splits = [Split(("a",), ("b",)), Split(("b",), ("a",))]
    write_splits(tmp_path / "splits.json", splits)
    data = dataset(tmp_path, *map(case, "abcd"), case("e", split="test"), case("f", labels=()))
    notes = Notes()
    assert find_splits(RunFolder(tmp_path), data, notes) == splits
    assert notes.texts == [
        "note: 2 new cases are not in splits.json: c, d; `add_cases` takes new cases into the training set"
    ]
    notes = Notes()
    find_splits(RunFolder(tmp_path), dataset(tmp_path, case("a"), case("b")), notes, add_cases=True)
    assert "no new cases were found" in notes.texts[0]
    added = find_splits(RunFolder(tmp_path), data, Notes(), add_cases=True)
    assert added == [Split(("a", "c", "d"), ("b",)), Split(("b", "c", "d"), ("a",))]


def test_new_cases_that_belong_to_validation_do_not_train(tmp_path: Path) -> None:
    write_splits(tmp_path / "splits.json", [Split(("a",), ("b",))])
    known = [case("a", group="p1"), case("b", group="p2")]
    new = [case("c", group="p2"), case("d", neighbors=("b",)), case("e", split="validation"), case("f", group="p1")]
    notes = Notes()
    added = find_splits(RunFolder(tmp_path), dataset(tmp_path, *known, *new), notes, add_cases=True)
    assert added == [Split(("a", "f"), ("b",))]
    assert notes.texts == ["fold 0: 1 new case trains; left out, as they belong to validation: c, d, e"]


def test_without_validation_every_case_trains(tmp_path: Path) -> None:
    data = dataset(tmp_path, *map(case, "edcba"), case("f", split="test"))
    splits = find_splits(RunFolder(tmp_path), data, Notes(), validated=False)
    assert choose_split(splits, "none") == Split(("a", "b", "c", "d", "e"), ())
    assert choose_split(splits, 1) == splits[1]


def test_one_case_is_enough_without_validation(tmp_path: Path) -> None:
    data, folder = dataset(tmp_path / "data", case("a")), RunFolder(tmp_path)
    splits = find_splits(folder, data, Notes(), validated=False)
    write_splits(folder.splits, splits)
    assert choose_split(find_splits(folder, data, Notes(), validated=False), "none") == Split(("a",), ())
    with pytest.raises(DataError, match="no validation cases in fold 0"):
        find_splits(folder, data, Notes())
