"""Folds: which cases train and which validate. A group (a patient) is never split."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from unetpp.errors import DataError, Problem
from unetpp.files import write_json


class Grouped(Protocol):
    """What a case must tell to be put into a fold."""

    @property
    def id(self) -> str: ...
    @property
    def group(self) -> str | None: ...
    @property
    def split(self) -> str | None: ...


@dataclass(frozen=True)
class Split:
    """Case ids of one fold."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


def make_splits(cases: Sequence[Grouped], folds: int = 5, seed: int = 0) -> list[Split]:
    """Splits for cross-validation: every case validates once, groups stay together, sizes differ as little as groups allow.

    Where the data set itself says which cases validate (a `split` column), that is the only split. Cases of a split
    named `test` are left out. The result depends on ids, groups and seed alone, not on the order of files.

    Raises:
        DataError: fewer than two groups, or a declared split without training or validation cases.
    """
    usable = sorted((case for case in cases if case.split != "test"), key=lambda case: case.id)
    if any(case.split == "validation" for case in usable):
        return [_declared_split(usable)]
    groups: dict[str, list[str]] = {}
    for case in usable:
        groups.setdefault(case.group or f"case {case.id}", []).append(case.id)
    if len(groups) < 2:
        got = f"{len(groups)} independent {'case or group' if groups else 'cases or groups'}"
        raise DataError(
            Problem(
                "data set",
                got,
                "at least 2, one to train and one to validate",
                "Add cases, or give them groups that differ.",
            )
        )
    names = sorted(groups)
    np.random.default_rng(seed).shuffle(names)
    members: list[list[str]] = [[] for _ in range(min(folds, len(names)))]
    for name in sorted(names, key=lambda name: -len(groups[name])):  # stable: the shuffle decides among equals
        min(members, key=len).extend(groups[name])
    everyone = sorted(case.id for case in usable)
    return [Split(tuple(i for i in everyone if i not in set(fold)), tuple(sorted(fold))) for fold in members]


def _declared_split(cases: Sequence[Grouped]) -> Split:
    validation = tuple(case.id for case in cases if case.split == "validation")
    train = tuple(case.id for case in cases if case.split != "validation")
    if not train:
        raise DataError(
            Problem(
                "data set",
                "a split without training cases",
                "at least one case whose split is `train`",
                "Mend the `split` column.",
            )
        )
    both = {case.group for case in cases if case.group and case.split == "validation"} & {
        case.group for case in cases if case.split != "validation"
    }
    if both:
        got = f"a split in which the same group trains and validates ({', '.join(sorted(map(str, both))[:5])})"
        raise DataError(Problem("data set", got, "each group in one part", "Mend the `split` or the `group` column."))
    return Split(train, validation)


def write_splits(path: Path, splits: Sequence[Split]) -> None:
    write_json(path, [asdict(split) for split in splits])


def read_splits(path: Path) -> list[Split]:
    """Read `splits.json`, which the user may have edited.

    Raises:
        DataError: it cannot be read or is not a list of splits; or every split that cannot be trained on.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        splits = [Split(_ids(value["train"]), _ids(value["validation"])) for value in values]
    except (OSError, ValueError, KeyError, TypeError) as error:
        expected = 'a list of {"train": [case ids], "validation": [case ids]}'
        raise DataError(
            Problem(
                str(path),
                f"{type(error).__name__}: {error}",
                expected,
                "Mend the file, or delete it to have it made anew.",
            )
        ) from None
    problems = _unusable(path, splits)
    if problems:
        raise DataError(problems)
    return splits


def _ids(values: object) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise TypeError(f"{values!r} is no list")
    return tuple(map(str, values))


def _unusable(path: Path, splits: Sequence[Split]) -> list[Problem]:
    """An empty list of splits, a list without cases, and cases that would validate what they train."""
    action = "Mend the file, or delete it to have it made anew."
    problems = [] if splits else [Problem(str(path), "no splits", "at least one", action)]
    for fold, split in enumerate(splits):
        for name, ids in (("train", split.train), ("validation", split.validation)):
            problems += [] if ids else [Problem(str(path), f"no {name} cases in fold {fold}", "at least one", action)]
        both = sorted({*split.train} & {*split.validation})
        if both:
            some = ", ".join(both[:5]) + (", ..." if len(both) > 5 else "")
            problems.append(
                Problem(
                    str(path),
                    f"cases that train and validate in fold {fold} ({some})",
                    "each in one of the two lists",
                    action,
                )
            )
    return problems
