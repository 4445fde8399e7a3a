"""Proof that folds are apart: no patient (group of cases) and no image trains and validates in the same fold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from unetpp.data.folds import Groupable, Split
from unetpp.layouts.dataset import Dataset
from unetpp.layouts.patients import find_patient
from unetpp.words import count_noun

_ORIGINS = {
    "csv": "the column group of the table",
    "bids": "the subjects of BIDS",
    "volumes": "the folders of the patients",
    "cell_tracking": "the sequences of frames",
}
"""Where groups come from, by the layout of the data set; in the others, from folders."""


@dataclass(frozen=True)
class FoldCount:
    """Cases and groups of one fold."""

    train: int
    """Cases that train."""
    validation: int
    """Cases that validate."""
    train_groups: int
    validation_groups: int
    shared: tuple[str, ...]
    """Groups on both sides."""
    equal_images: int
    """Validation cases whose image also trains, under another name."""
    unused: int
    """Cases of the splits on neither side, such as neighbors of what validates."""
    classes: int = 0
    """Number of classes that its validation cases have, background included."""


@dataclass(frozen=True)
class FoldProof:
    """Which groups of cases the folds have, and how they divide them. A case without a group is one of its own."""

    origin: str
    """How groups were found, in words."""
    cases: int
    groups: int
    largest: int
    """Cases of the largest group."""
    folds: tuple[FoldCount, ...]

    @property
    def shared(self) -> int:
        """Number of groups that train and validate in the same fold."""
        return len({name for fold in self.folds for name in fold.shared})

    @property
    def equal_images(self) -> int:
        """Largest number, over the folds, of validation cases whose image also trains."""
        return max((fold.equal_images for fold in self.folds), default=0)


def prove_folds(
    dataset: Dataset,
    splits: Sequence[Split],
    digests: Iterable[tuple[str, str]] = (),
    classes: Mapping[str, Collection[int]] | None = None,
) -> FoldProof:
    """Count cases and groups on both sides of every fold.

    Args:
        dataset: the data set.
        splits: cases of each fold.
        digests: (id, hash of the voxels) of cases whose images are compared.
        classes: the classes that each case has.
    """
    named = {case for split in splits for case in (*split.train, *split.validation)}
    cases = [case for case in dataset.cases if case.id in named]
    group = {case.id: name_group(case) for case in cases}
    same, sizes = dict(digests), Counter(group.values())
    return FoldProof(
        origin=_describe_origin(dataset, cases),
        cases=len(named),
        groups=len(sizes),
        largest=max(sizes.values(), default=0),
        folds=tuple(_count_fold(split, group, same, len(named), classes or {}) for split in splits),
    )


def name_group(case: Groupable) -> str:
    """Name the group of a case; one without is a group of its own, whose name none of a user equals by accident."""
    return case.group or f"case {case.id}"


def find_shared(split: Split, group: dict[str, str]) -> tuple[str, ...]:
    """Find the groups that train and validate in a fold, given the group of each case."""
    both = {group[case] for case in split.train if case in group} & {
        group[case] for case in split.validation if case in group
    }
    return tuple(sorted(both))


def _count_fold(
    split: Split, group: dict[str, str], digests: dict[str, str], cases: int, classes: Mapping[str, Collection[int]]
) -> FoldCount:
    trained = {digests[case] for case in split.train if case in digests}
    return FoldCount(
        train=len(split.train),
        validation=len(split.validation),
        train_groups=len({group[case] for case in split.train if case in group}),
        validation_groups=len({group[case] for case in split.validation if case in group}),
        shared=find_shared(split, group),
        equal_images=sum(digests.get(case) in trained for case in split.validation if case in digests),
        unused=cases - len({*split.train, *split.validation}),
        classes=len(set[int]().union(*(classes.get(case, ()) for case in split.validation))),
    )


def _describe_origin(dataset: Dataset, cases: Sequence[Groupable]) -> str:
    """Say how groups were found, and what to do where nothing tells them."""
    grouped = [case for case in cases if case.group]
    if not grouped:
        return (
            "nothing in names and folders tells patients apart, so each case counts as one of its own; if several "
            "are of one patient, say so in the column group of a CSV table, or in splits.json"
        )
    if any(case.is_part for case in dataset.cases):
        origin = "the files of which cases are parts"
    elif all(case.group == find_patient(case.id) for case in grouped):
        origin = "their names, which differ in the number of a frame, session, visit, scan or slice alone"
    else:
        origin = _ORIGINS.get(dataset.layout, "the folders of the cases")
    alone = len(cases) - len(grouped)
    rest = f"; {count_noun(alone, 'case')} without one, each of its own" if alone else ""
    return f"by {origin}: {count_noun(len(grouped), 'case')} with a group{rest}"
