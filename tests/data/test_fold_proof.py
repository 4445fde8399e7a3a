"""Proof that no group of cases is on both sides of a fold."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from unetpp.data.fold_proof import find_shared, prove_folds
from unetpp.data.folds import Split, make_splits
from unetpp.layouts.dataset import Case, Dataset
from unetpp.layouts.patients import group_by_name


def make_dataset(groups: list[str | None]) -> Dataset:
    paths = (Path("a.png"),)
    cases = tuple(Case(f"case{number}", paths, paths, group=group) for number, group in enumerate(groups))
    return Dataset("some", Path("some"), "csv", cases)


@given(st.lists(st.sampled_from([None, "anna", "bert", "carl"]), min_size=4, max_size=20))
def test_drawn_folds_share_no_group_and_every_case_validates_once(groups: list[str | None]) -> None:
    dataset = make_dataset([*groups, None, "dora"])
    proof = prove_folds(dataset, make_splits(dataset.cases))
    assert proof.shared == 0
    assert sum(fold.validation for fold in proof.folds) == proof.cases == len(dataset.cases)
    assert sum(fold.validation_groups for fold in proof.folds) == proof.groups
    assert all(fold.train_groups + fold.validation_groups == proof.groups for fold in proof.folds)


def test_a_patient_on_both_sides_is_counted_and_named() -> None:
    dataset = make_dataset(["anna", "anna", "bert", None])
    split = Split(("case0", "case2"), ("case1", "case3"))
    proof = prove_folds(dataset, [split])
    assert (proof.shared, proof.folds[0].shared, proof.largest) == (1, ("anna",), 2)
    assert "the column group of the table" in proof.origin and "1 case without one" in proof.origin
    assert find_shared(Split(("case0", "case1"), ("case2",)), {"case0": "anna", "case2": "bert"}) == ()


def test_patients_that_names_tell_are_said_to_be_so() -> None:
    paths = (Path("a.png"),)
    cases = tuple(Case(f"p{number // 2}_frame{number % 2}", paths, paths) for number in range(10))
    dataset = Dataset("some", Path("some"), "folders", group_by_name(cases)[0])
    proof = prove_folds(dataset, make_splits(dataset.cases))
    assert proof.groups == 5 and "by their names, which differ in the number of a frame" in proof.origin


def test_equal_images_on_both_sides_are_counted() -> None:
    dataset = make_dataset([None] * 4)
    split = Split(("case0", "case1"), ("case2", "case3"))
    digests = {"case0": "a", "case1": "b", "case2": "a", "case3": "c"}
    assert prove_folds(dataset, [split], digests.items()).equal_images == 1
    assert prove_folds(dataset, [split]).equal_images == 0


def test_without_groups_the_page_says_what_to_do() -> None:
    proof = prove_folds(make_dataset([None] * 4), [Split(("case0",), ("case1",))])
    assert proof.origin.startswith("nothing in names and folders tells patients apart")
    assert (proof.cases, proof.groups, proof.folds[0].unused) == (2, 2, 0)
