from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetpp.data.folds import make_splits, read_splits, write_splits
from unetpp.errors import DataError


@dataclass(frozen=True)
class Grouped:
    id: str
    group: str | None = None
    split: str | None = None
    neighbors: tuple[str, ...] = ()


@given(
    groups=st.lists(st.one_of(st.none(), st.sampled_from("abcd")), min_size=2, max_size=30),
    seed=st.integers(0, 5),
    data=st.data(),
)
def test_folds_cover_every_case_once_and_never_split_a_group(
    groups: list[str | None], seed: int, data: st.DataObject
) -> None:
    cases = [Grouped(f"case {number:02}", group) for number, group in enumerate(groups)]
    if len({case.group or case.id for case in cases}) < 2:
        with pytest.raises(DataError, match="at least 2"):
            make_splits(cases, seed=seed)
        return
    splits = make_splits(cases, seed=seed)
    validated = [case for split in splits for case in split.validation]
    assert sorted(validated) == sorted(case.id for case in cases)
    group_of = {case.id: case.group or case.id for case in cases}
    for split in splits:
        assert split.train and split.validation
        assert set(split.train) | set(split.validation) == set(group_of)
        assert not {group_of[i] for i in split.train} & {group_of[i] for i in split.validation}
    assert make_splits(data.draw(st.permutations(cases)), seed=seed) == splits


def test_five_folds_of_ten_cases_have_two_each() -> None:
    splits = make_splits([Grouped(str(number)) for number in range(10)])
    assert [len(split.validation) for split in splits] == [2] * 5
    assert make_splits([Grouped(str(number)) for number in range(10)], seed=1) != splits


@given(
    groups=st.lists(st.one_of(st.none(), st.sampled_from("abcd")), min_size=10, max_size=30),
    rare=st.lists(st.sets(st.integers(1, 3)), min_size=30, max_size=30),
    seed=st.integers(0, 5),
)
def test_each_fold_validates_every_class_of_which_there_are_cases_enough(
    groups: list[str | None], rare: list[set[int]], seed: int
) -> None:
    cases = [Grouped(f"case {number:02}", group) for number, group in enumerate(groups)]
    has = {case.id: {0, *classes} for case, classes in zip(cases, rare, strict=False)}
    splits = make_splits(cases, seed=seed, classes=has)
    assert sorted(id for split in splits for id in split.validation) == sorted(has)
    assert all(split.validation for split in splits)
    group_of = {case.id: case.group or case.id for case in cases}
    assert not any({group_of[i] for i in one.train} & {group_of[i] for i in one.validation} for one in splits)
    first = min((1, 2, 3), key=lambda each: (_count(each, cases, has) or 99, each))
    validated = sum(any(first in has[id] for id in split.validation) for split in splits)
    assert validated >= min(len(splits), _count(first, cases, has))  # of others groups may already be dealt


def _count(each: int, cases: list[Grouped], has: dict[str, set[int]]) -> int:
    return len({case.group or case.id for case in cases if each in has[case.id]})


def test_a_class_in_a_quarter_of_the_cases_validates_in_each_fold() -> None:
    cases = [Grouped(f"{number:02}") for number in range(20)]
    for seed in range(20):
        has = {case.id: {0, 1} if int(case.id) % 4 == seed % 4 else {0} for case in cases}
        splits = make_splits(cases, seed=seed, classes=has)
        assert [sum(1 in has[id] for id in split.validation) for split in splits] == [1] * 5
        assert [len(split.validation) for split in splits] == [4] * 5
    everywhere = {case.id: {0, 1} for case in cases}
    assert make_splits(cases, classes=everywhere) == make_splits(cases)  # folds of before stay what they were


def test_a_declared_split_is_taken_and_test_cases_are_left_out() -> None:
    cases = [Grouped("a", split="train"), Grouped("b", split="validation"), Grouped("c"), Grouped("d", split="test")]
    (split,) = make_splits(cases)
    assert (split.train, split.validation) == (("a", "c"), ("b",))


def test_splits_survive_their_file_and_broken_files_are_reported(tmp_path: Path) -> None:
    splits = make_splits([Grouped(str(number)) for number in range(7)])
    write_splits(tmp_path / "splits.json", splits)
    assert read_splits(tmp_path / "splits.json") == splits
    (tmp_path / "splits.json").write_text('[{"train": []}]')
    with pytest.raises(DataError, match=r"splits.json.*delete it"):
        read_splits(tmp_path / "splits.json")


@pytest.mark.parametrize(
    ("content", "gots"),
    [
        ("[]", ["no splits"]),
        (
            '[{"train": [], "validation": ["a"]}, {"train": ["a"], "validation": []}]',
            ["no train cases in fold 0", "no validation cases in fold 1"],
        ),
        ('[{"train": ["a", "b"], "validation": ["b", "c"]}]', ["cases that train and validate in fold 0 (b)"]),
        ('[{"train": "abc", "validation": ["d"]}]', ["TypeError: 'abc' is no list"]),
    ],
)
def test_splits_that_cannot_be_trained_on_are_reported(tmp_path: Path, content: str, gots: list[str]) -> None:
    (tmp_path / "splits.json").write_text(content)
    with pytest.raises(DataError) as caught:
        read_splits(tmp_path / "splits.json")
    assert [problem.got for problem in caught.value.problems] == gots


def test_a_declared_split_keeps_groups_together() -> None:
    cases = [Grouped("a", "p1", "train"), Grouped("b", "p1", "validation"), Grouped("c", "p2", "train")]
    with pytest.raises(DataError, match=r"the same group trains and validates \(p1\)"):
        make_splits(cases)
    assert make_splits([Grouped("a", None, "train"), Grouped("b", None, "validation")])[0].validation == ("b",)
