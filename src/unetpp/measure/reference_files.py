"""The references that segmentations are scored against, and which belong together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from os.path import realpath
from pathlib import Path
from typing import NamedTuple

from unetpp.data.inspect import collect_declared, complete_reading
from unetpp.errors import DataError, Problem
from unetpp.formats import is_medical, stem_of
from unetpp.infer.record import PredictionRecord
from unetpp.labels.meaning import Declared
from unetpp.layouts.cases import find_cases, refuse_unreadable
from unetpp.layouts.dataset import Case
from unetpp.layouts.paired_files import split_mixed_folder
from unetpp.layouts.pairing import describe_name, pair_names
from unetpp.measure.prediction_files import (
    find_label_files,
    list_images,
)
from unetpp.plan import LabelPlan, ReadPlan, Region


class References(NamedTuple):
    """Reference label files."""

    cases: Mapping[str, Case]
    """Cases with labels, by stem."""
    declared: Declared
    """What is known of them."""
    reading: ReadPlan
    regions: tuple[Region, ...] | None = None
    """Regions that their data set declares."""


def read_references(path: Path, in_folders: bool, plan: LabelPlan | None) -> References:
    """Find the references of a folder (and of the folders in it, if segmentations lie in such) or of a data set."""
    with refuse_unreadable(path):
        flat = list_images(path)
        inner = find_label_files(path) if path.is_dir() and (in_folders or not flat) else {}
    if flat and split_mixed_folder({stem_of(file): [file] for file in flat}) is None:
        return _list_references(path, inner or {stem_of(file): file for file in flat}, plan)
    try:
        dataset = find_cases(path, tolerant=True)
    except DataError:
        if inner:  # labels alone, in folders
            return _list_references(path, inner, plan)
        raise
    cases = {case.id: case for case in dataset.cases if case.labels}
    if not cases:
        expected = "a folder of label files, or a data set with labels"
        raise DataError(Problem(str(path), "no labels", expected, "Check the path."))
    reading = ReadPlan(labels=plan)
    declared = replace(collect_declared(dataset, reading), where=str(path))
    return References(cases, declared, complete_reading(declared, reading), dataset.regions)


def _list_references(path: Path, files: Mapping[str, Path], plan: LabelPlan | None) -> References:
    """Make references of label files without images."""
    objects, medical = Path(realpath(path)).name == "instances", any(map(is_medical, files.values()))
    declared = Declared(str(path), objects=objects, plan=plan, mask_value=1 if medical else 255)
    return References({name: Case(name, (), (file,)) for name, file in files.items()}, declared, ReadPlan(labels=plan))


def name_after_predictions(
    files: Mapping[str, Path], references: Mapping[str, Case]
) -> tuple[dict[str, Case], list[Problem]]:
    """Name references after the predictions that they belong to: a reference a_segmentation after a prediction a.

    Returns:
        References by name, and a problem for each prediction that several belong to.
    """
    pairs = pair_names(files, references)
    several = {**pairs.rival, **{stem: own for stem, own in pairs.labels.items() if len(own) > 1}}
    renamed = {own[0]: stem for stem, own in pairs.labels.items() if len(own) == 1}
    left_out = {name for own in several.values() for name in own}
    problems = [
        Problem(
            str(files[stem]),
            f"several references ({', '.join(describe_name(name, stem) for name in own)})",
            "one reference for each segmentation",
            "Move those that are not meant out of the folder.",
        )
        for stem, own in several.items()
    ]
    kept = {renamed.get(name, name): case for name, case in references.items() if name not in left_out}
    return kept, problems


def find_unpaired(
    folder: Path, where: Path, files: Mapping[str, Path], references: Mapping[str, Case], record: PredictionRecord
) -> tuple[list[Problem], list[str]]:
    """Find references without a segmentation, and segmentations without a reference: problems, and notes.

    Where all that `predict` was asked for is there, and has a reference, others were not asked for: that is a note.
    """
    problems = list(_list_unpaired(folder, where, files, references))
    asked = record.files is not None and len(files) == len(record.files) and not record.failed
    if not (problems and asked and files.keys() <= references.keys()):
        return problems, []
    (problem,) = problems
    return [], [f"{problem.got}, which were not predicted; these scores leave them out"]


def _list_unpaired(
    folder: Path, where: Path, files: Mapping[str, Path], references: Mapping[str, Case]
) -> Iterator[Problem]:
    """List the problems of references without a segmentation, and of segmentations without a reference."""
    for place, missing, found, other, others, action in (
        (folder, "segmentation", files, "reference", references, "Predict them too"),
        (where, "reference", references, "segmentation", files, "Add them"),
    ):
        stems = sorted(others.keys() - found.keys())
        if stems:
            some = ", ".join([*stems[:3], *["..."] * (len(stems) > 3)])
            got = f"no {missing} for {len(stems)} of {len(others)} {other}s ({some})"
            expected = f"one for each {other}, with the same stem"
            yield Problem(str(place), got, expected, f"{action}; these scores leave them out.")
