"""Splits of the cases into training and validation, one for each fold. A group (a patient) is never divided."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from unetpp.errors import DataError, Problem
from unetpp.files import write_json
from unetpp.json_files import read_json

NNUNET_SPLITS = "splits_final.json"
"""Splits that lie beside a data set, as nnU-Net writes them."""
_MAKE_ANEW = "Correct the file, or delete it to have it made anew."


class Groupable(Protocol):
    """Fields of a case that decide about its fold."""

    @property
    def id(self) -> str:
        """Name of the case."""

    @property
    def group(self) -> str | None:
        """Cases of one group stay together."""

    @property
    def split(self) -> str | None:
        """Subset that the data set declares."""

    @property
    def neighbors(self) -> tuple[str, ...]:
        """Ids of cases that do not train while this one validates."""


@dataclass(frozen=True)
class Split:
    """Case ids of one fold."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


def make_splits(
    cases: Sequence[Groupable], folds: int = 5, seed: int = 0, classes: Mapping[str, Collection[int]] | None = None
) -> list[Split]:
    """Make splits for cross-validation: every case validates once, groups stay together, sizes are balanced.

    Where a random order leaves a fold without a class that others have, cases are dealt by their classes instead, the
    rarest first: with few classes each fold then validates every class of which there are cases enough.

    If the data set declares validation cases (column `split`), that is the only split. Test cases are left out, and in
    each fold the neighbors of its validation cases. The result depends on ids, groups and seed, not on the order of the
    cases.

    Args:
        cases: the cases of a data set.
        folds: number of splits; fewer if there are fewer groups.
        seed: of the random order of the groups.
        classes: the classes that each case has; None: unknown.

    Returns:
        One split for each fold.

    Raises:
        DataError: fewer than two groups, or a declared split without training or validation cases.
    """
    usable = sorted((case for case in cases if case.split != "test"), key=lambda case: case.id)
    if any(case.split == "validation" for case in usable):
        return [_take_declared_split(usable)]
    groups: dict[str, list[str]] = {}
    for case in usable:
        groups.setdefault(case.group or f"case {case.id}", []).append(case.id)
    if len(groups) < 2:
        got = f"{len(groups)} independent {'case or group' if groups else 'cases or groups'}"
        expected, action = "at least 2, one to train and one to validate", "Add cases, or give them groups that differ."
        raise DataError(Problem("data set", got, expected, action))
    names = sorted(groups)
    np.random.default_rng(seed).shuffle(names)
    names.sort(key=lambda name: -len(groups[name]))  # stable: equal sizes keep the shuffled order
    ordered = {name: groups[name] for name in names}
    members = _deal(ordered, {}, min(folds, len(names)))
    if _lack_classes(members, ordered, classes or {}):
        members = _deal(ordered, classes or {}, len(members))
    near = {case.id: {case.id, *case.neighbors} for case in usable}
    left_out = [set[str]().union(*(near[name] for name in fold)) for fold in members]
    everyone = sorted(near)
    return [
        Split(tuple(name for name in everyone if name not in out), tuple(sorted(fold)))
        for fold, out in zip(members, left_out, strict=True)
    ]


def _deal(groups: Mapping[str, list[str]], classes: Mapping[str, Collection[int]], folds: int) -> list[list[str]]:
    """Deal groups to folds: those with the rarest class first, each to the fold that has the fewest of it.

    (Iterative stratification; Sechidis et al. 2011.) Without classes each goes to the smallest fold.
    """
    members: list[list[str]] = [[] for _ in range(folds)]
    counts = [Counter[int]() for _ in range(folds)]
    left = {name: _join_classes(ids, classes) for name, ids in groups.items()}
    while left:
        rest = Counter(each for found in left.values() for each in found)
        rarest = min(rest, key=lambda each: (rest[each], each), default=None)
        for name in [name for name, found in left.items() if rarest is None or rarest in found]:
            fold = min(range(folds), key=lambda fold: (counts[fold][rarest or 0], len(members[fold])))
            members[fold].extend(groups[name])
            counts[fold].update(left.pop(name))
    return members


def _join_classes(ids: Sequence[str], classes: Mapping[str, Collection[int]]) -> set[int]:
    return set[int]().union(*(classes.get(id, ()) for id in ids))


def _lack_classes(
    members: Sequence[Sequence[str]], groups: Mapping[str, list[str]], classes: Mapping[str, Collection[int]]
) -> bool:
    """Tell whether a class is in fewer folds than it could be."""
    has = Counter(each for ids in groups.values() for each in _join_classes(ids, classes))
    validated = Counter(each for ids in members for each in _join_classes(ids, classes))
    return any(validated[each] < min(len(members), count) for each, count in has.items())


def _take_declared_split(cases: Sequence[Groupable]) -> Split:
    validation = [case for case in cases if case.split == "validation"]
    train = [case for case in cases if case.split != "validation"]
    if not train:
        got, expected = "a split without training cases", "at least one case whose split is train"
        raise DataError(Problem("data set", got, expected, "Correct the column split."))
    both = {case.group for case in validation if case.group} & {case.group for case in train}
    if both:
        got = f"a split in which the same group trains and validates ({', '.join(sorted(map(str, both))[:5])})"
        action = "Correct the column split or the column group."
        raise DataError(Problem("data set", got, "each group in one subset", action))
    return Split(tuple(case.id for case in train), tuple(case.id for case in validation))


def write_splits(path: Path, splits: Sequence[Split]) -> None:
    """Write `splits.json`. Raises as `write_json`."""
    write_json(path, [asdict(split) for split in splits])


def read_splits(path: Path, validated: bool = True) -> list[Split]:
    """Read `splits.json`, which the user may have edited, or `splits_final.json` of nnU-Net, which says "val".

    Args:
        path: the file.
        validated: refuse splits without validation cases.

    Returns:
        One split for each fold.

    Raises:
        DataError: it cannot be read or is not a list of splits; or all splits that cannot be trained on.
    """
    try:
        values = read_json(path)
        splits = [
            Split(_read_ids(value["train"]), _read_ids(value["val" if "val" in value else "validation"]))
            for value in values
        ]
    except (OSError, ValueError, LookupError, TypeError) as error:
        expected = 'a list of {"train": [case ids], "validation": [case ids]}'
        raise DataError(Problem(str(path), f"{type(error).__name__}: {error}", expected, _MAKE_ANEW)) from None
    problems = _check(str(path), splits, validated)
    if problems:
        raise DataError(problems)
    return splits


def _read_ids(values: object) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError(f"{values!r} is no list")
    return tuple(map(str, values))


def _check(where: str, splits: Sequence[Split], validated: bool) -> list[Problem]:
    """Report an empty list of splits, lists without cases, and cases that validate what they train."""
    problems = [] if splits else [Problem(where, "no splits", "at least one", _MAKE_ANEW)]
    for fold, split in enumerate(splits):
        for name, ids in asdict(split).items():
            if not ids and (validated or name == "train"):
                problems.append(Problem(where, f"no {name} cases in fold {fold}", "at least one", _MAKE_ANEW))
        both = sorted({*split.train} & {*split.validation})
        if both:
            some = ", ".join(both[:5]) + (", ..." if len(both) > 5 else "")
            got = f"cases that train and validate in fold {fold} ({some})"
            problems.append(Problem(where, got, "each in one of the two lists", _MAKE_ANEW))
    return problems
