"""Splits of a run: read, taken over from nnU-Net, or drawn; completed by cases that came later."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from unetpp.data.fold_proof import find_shared
from unetpp.data.folds import NNUNET_SPLITS, Split, make_splits, read_splits
from unetpp.errors import DataError, Problem
from unetpp.layouts.dataset import Case, Dataset
from unetpp.progress import Progress
from unetpp.run_folder import NO_VALIDATION, FoldName, RunFolder
from unetpp.words import count_noun, list_numbers, list_some

SPLIT_SEED = 0
"""Seed of the folds: the same for all training seeds, so that all runs are scored on the same cases."""


def find_splits(
    folder: RunFolder,
    dataset: Dataset,
    progress: Progress,
    add_cases: bool = False,
    validated: bool = True,
    classes: Mapping[str, Collection[int]] | None = None,
) -> list[Split]:
    """Read the splits of a run, else those of nnU-Net beside the data; without either, draw them.

    Args:
        folder: run folder.
        dataset: the data set.
        progress: is told of cases that are in no split.
        add_cases: let such cases train in every fold; validation stays as it is, so that scores stay comparable.
        validated: whether splits without validation cases are of use.
        classes: the classes that each case has, of which every drawn fold gets its share; None: unknown.

    Raises:
        DataError: splits that cannot be used, or cases of them that are not in the data set or have no label.
    """
    source = next((path for path in (folder.splits, *_list_nnunet_files(dataset.root)) if path.is_file()), None)
    if source is None:
        return _draw_splits(dataset, validated, classes)
    if source != folder.splits:
        progress.note(f"Folds as in {source}.")
    splits = _find_cases(read_splits(source, validated), dataset, source)
    for text in _find_shared_groups(splits, dataset):
        progress.note(f"note: {source.name}: {text}")
    named = {case for split in splits for case in (*split.train, *split.validation)}
    new = [case for case in dataset.cases if case.labels and case.split != "test" and case.id not in named]
    if not new:
        if add_cases and source == folder.splits:
            progress.note(f"note: no new cases were found in {dataset.root}: all of them are in {source} already")
        return splits
    if add_cases:
        added = [_add_cases(split, new, dataset) for split in splits]
        texts = [_describe_added(split, new) for split in added]
        for text in dict.fromkeys(texts):
            folds = [fold for fold, other in enumerate(texts) if other == text]
            progress.note(f"{list_numbers('fold', folds)}: {text}")
        return added
    noun, verb = ("1 new case", "is") if len(new) == 1 else (f"{len(new):,} new cases", "are")
    take = "`add_cases` takes new cases into the training set"
    progress.note(f"note: {noun} {verb} not in {source.name}: {list_some(case.id for case in new)}; {take}")
    return splits


def choose_split(splits: Sequence[Split], fold: FoldName) -> Split:
    """Return the cases of a fold; without validation, every case of the splits trains."""
    if fold != NO_VALIDATION:
        return splits[int(fold)]
    return Split(tuple(sorted({case for split in splits for case in (*split.train, *split.validation)})), ())


def _list_nnunet_files(root: Path) -> list[Path]:
    """List where nnU-Net puts its splits: in nnUNet_preprocessed beside nnUNet_raw; people put them beside the data."""
    root = root.resolve()
    return [root / NNUNET_SPLITS, root.parent.parent / "nnUNet_preprocessed" / root.name / NNUNET_SPLITS]


def _draw_splits(dataset: Dataset, validated: bool, classes: Mapping[str, Collection[int]] | None) -> list[Split]:
    """Draw five folds, or take the split that the data set declares."""
    try:
        return make_splits(dataset.cases, seed=SPLIT_SEED, classes=classes)
    except DataError:
        labelled = tuple(sorted(case.id for case in dataset.cases if case.labels and case.split != "test"))
        if validated or not labelled:
            raise
        return [Split(labelled, ())]  # too few cases to divide, but enough to train on


def _find_cases(splits: Sequence[Split], dataset: Dataset, source: Path) -> list[Split]:
    """Replace names of groups (patients) by their cases, and require that all cases exist and have labels."""
    labelled, groups = {case.id: bool(case.labels) for case in dataset.cases}, dict[str, list[str]]()
    for case in dataset.cases:
        groups.setdefault(case.group or "", []).append(case.id)

    def find(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(id for name in names for id in ([name] if name in labelled else groups.get(name, [name])))

    found = [Split(find(split.train), find(split.validation)) for split in splits]
    named = {case for split in found for case in (*split.train, *split.validation)}
    action = "Give the same data as before, or correct the file; `out` of another run begins anew."
    checks = (
        (sorted(named - set(labelled)), "not in the data set", "cases of the data set", action),
        (
            sorted(case for case in named if labelled.get(case) is False),
            "without a label",
            "cases with a label",
            "Add their labels, or remove them from the file.",
        ),
    )
    problems = [
        Problem(str(source), f"{count_noun(len(cases), 'case')} {lack}: {list_some(cases, 10)}", expected, remedy)
        for cases, lack, expected, remedy in checks
        if cases
    ]
    if problems:
        raise DataError(problems)
    return found


def _find_shared_groups(splits: Sequence[Split], dataset: Dataset) -> list[str]:
    """Find groups (patients) that train and validate in the same fold."""
    group = {case.id: case.group for case in dataset.cases if case.group}
    shared = ((fold, find_shared(split, group)) for fold, split in enumerate(splits))
    return [
        f"{list_some(both)} trains and validates in fold {fold}: its scores are too good"
        for fold, both in shared
        if both
    ]


def _add_cases(split: Split, new: Sequence[Case], dataset: Dataset) -> Split:
    """Add cases to the training set of a fold, but for those that belong to its validation."""
    held_out = set(split.validation)
    groups = {case.group for case in dataset.cases if case.id in held_out and case.group}
    kept = [
        case.id
        for case in new
        if case.split != "validation" and case.group not in groups and not held_out & set(case.neighbors)
    ]
    return Split((*split.train, *kept), split.validation)


def _describe_added(split: Split, new: Sequence[Case]) -> str:
    """Say how many new cases train in a fold, and which do not."""
    left_out = sorted({case.id for case in new} - set(split.train))
    count = len({case.id for case in new}) - len(left_out)
    text = f"{count_noun(count, 'new case')} {'trains' if count == 1 else 'train'}"
    return f"{text}; left out, as they belong to validation: {list_some(left_out)}" if left_out else text
