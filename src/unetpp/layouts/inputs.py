"""Images to predict: files, lists, folders in folders, patient folders and data sets. Nothing is left out silently."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from unetpp.errors import DataError, Problem
from unetpp.formats import format_names, is_image, suffix_of
from unetpp.layouts.case_names import make_ids_unique
from unetpp.layouts.cases import find_cases, refuse_unreadable
from unetpp.layouts.channel_files import NNUNET_FOLDERS, group_channel_files, hold_all_channels, split_channel
from unetpp.layouts.contents import (
    Content,
    describe_no_file,
    describe_others,
    describe_unread_file,
    list_content,
)
from unetpp.layouts.dataset import Case
from unetpp.layouts.dataset_json import NAME as DATASET_JSON
from unetpp.layouts.label_names import is_label_folder, is_label_name
from unetpp.layouts.manifest import read_image_list
from unetpp.layouts.names import find_origin, read_role
from unetpp.words import count_noun, list_some

_LISTS = (".csv", ".txt")
_NO_IMAGES = ("label", "field of view")
_NO_PART_OF_NAMES = ("images", *NNUNET_FOLDERS)
"""Folders that do not appear in the names of results."""


@dataclass(frozen=True)
class FoundImages:
    """Images to predict, and what is left out."""

    cases: tuple[Case, ...]
    """Cases without labels. Their ids differ and name the results; "p1/a" lies in a folder p1."""
    skipped: tuple[Problem, ...] = ()
    """Images that cannot be predicted, with the reason."""
    notes: tuple[str, ...] = ()
    """Files that are no images."""


@dataclass
class _Found:
    """What was found so far."""

    channels: Sequence[str]
    out: Path | None
    cases: list[Case] = field(default_factory=list)
    skipped: list[Problem] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    labels: list[Path] = field(default_factory=list)
    """Labels that belong to no image."""
    beside: list[Path] = field(default_factory=list)
    """Labels that lie beside their images."""
    pictures: list[Path] = field(default_factory=list)
    """Pictures that were made from images: superpixels, overlays, predictions."""


def find_images(
    inputs: Sequence[str | Path], channels: Sequence[str] = ("image",), out: Path | None = None
) -> FoundImages:
    """Find the images to predict in files, lists, folders and data sets.

    Files that do not exist or are not images are included: reading them reports what is wrong. A folder is searched
    with the folders in it, and results lie in the same folders. Images in patient folders (one image in each, of the
    same name) are named by the folder: `p1/ct.nii.gz` gives `p1_ct.nii.gz`. Of a data set, the images are predicted and
    not the labels.

    Args:
        inputs: files, CSV tables with a column image, text files with a path in each line, and folders.
        channels: names of the channels of the network. If there are several, files `NAME_0000`, `NAME_0001`, ...
            (nnU-Net) or `NAME_t1`, `NAME_t2` (the names of the channels) form one case.
        out: folder of the results, which is not searched.

    Returns:
        The images, those that are skipped, and notes.

    Raises:
        DataError: there is no image; all reasons.
    """
    found = _Found(channels, out)
    for path in map(Path, inputs):
        try:
            with refuse_unreadable(path):
                _add(path, found)
        except DataError as error:
            found.skipped += error.problems
    cases, notes = _make_ids_differ(found.cases)
    if found.beside:
        notes.append(f"{count_noun(len(found.beside), 'label')} beside the images left out: {_some(found.beside)}")
    if found.labels:
        notes.append(f"{count_noun(len(found.labels), 'label file')} without an image left out: {_some(found.labels)}")
    if found.pictures:
        notes.append(f"{count_noun(len(found.pictures), 'picture')} of images left out: {_some(found.pictures)}")
    if not cases:
        raise DataError(found.skipped or [_describe_nothing(inputs, found.others)])
    return FoundImages(tuple(cases), tuple(found.skipped), (*notes, *describe_others(found.others)))


def _describe_nothing(inputs: Sequence[str | Path], others: Sequence[Path]) -> Problem:
    got = f"a folder with {_some(others)}" if others else "a folder with nothing in it"
    where = str(inputs[0]) if len(inputs) else "inputs"
    return Problem(where, got, f"images: {format_names()}", "Check the path, or convert the files.")


def _some(paths: Iterable[Path]) -> str:
    return list_some((path.name for path in paths), 5)


def _add(path: Path, found: _Found) -> None:
    before = len(found.cases) + len(found.skipped)
    if path.is_dir() and is_image(path):
        found.cases.append(_single(path))
    elif path.is_dir() and (problem := describe_unread_file(path)) is None:
        _add_folder(path, found)
        if before == len(found.cases) + len(found.skipped):
            found.skipped.append(_describe_nothing([path], [each for each in found.others if path in each.parents]))
    elif path.is_file() and path.suffix.lower() in _LISTS:
        cases, problems = read_image_list(path)
        found.cases += cases
        found.skipped += problems
    elif path.is_file() and path.name == DATASET_JSON:
        _add_folder(path.parent, found)
    elif (path.is_symlink() and not path.exists()) or (path.exists() and not (path.is_file() or path.is_dir())):
        found.skipped.append(describe_no_file(path))
    elif path.exists() and (problem := describe_unread_file(path)) is not None:
        found.skipped.append(problem)
    else:
        found.cases.append(_complete_channels(path, len(found.channels)))


def _complete_channels(path: Path, channels: int) -> Case:
    """Make the case of a single file; NAME_0000 stands for all channels, and is named as in its folder."""
    name, number = split_channel(path)
    if number is not None and (path.parent.name in NNUNET_FOLDERS or channels > 1):
        suffix = suffix_of(path)
        files = [path.with_name(f"{name}_{channel:04}{suffix}") for channel in range(channels)]
        others = path.with_name(f"{name}_{channels:04}{suffix}")
        if path in files and all(file.is_file() for file in files) and not others.exists():
            return Case(name, tuple(files))
    return Case(path.name[: len(path.name) - len(suffix_of(path))], (path,))


def _add_folder(folder: Path, found: _Found) -> None:
    content = list_content(folder, found.out)
    found.skipped += content.unread
    found.others += content.others
    for inner, files in content.images.items():
        stems = {_single(path).id for path in files}
        pictures = {path for path in files if find_origin(_single(path).id) in stems}
        content.images[inner] = [path for path in files if path not in pictures]
        found.pictures += sorted(pictures)
    cases, labels = _read_data_set(folder)
    if cases:
        _add_data_set(folder, cases, labels, content, found)
    else:
        labeled = {inner for inner in content.images if inner != folder and read_role(inner.name) in _NO_IMAGES}
        labeled = labeled if len(labeled) < len(content.images) else set()
        found.labels += [path for inner in content.images if inner in labeled for path in content.images[inner]]
        by_folder = {
            inner: _group(inner, files, found) for inner, files in content.images.items() if inner not in labeled
        }
        found.cases += _name_by_folders(folder, {inner: cases for inner, cases in by_folder.items() if cases})


def _read_data_set(folder: Path) -> tuple[list[Case], set[Path]]:
    """Read the images and the labels of a data set; nothing of any other folder."""
    try:
        dataset = find_cases(folder, tolerant=True)
    except DataError:
        return [], set()
    labels = {label for case in dataset.cases for label in case.labels}
    if not labels or any(_differ_in_type_alone(case) for case in dataset.cases):
        return [], set()
    by_images: dict[tuple[Path, ...], list[Case]] = {}
    for case in dataset.cases:
        by_images.setdefault(case.images, []).append(case)
    cases = [  # planes and areas of one file are one image here
        Case(same[0].id if len(same) == 1 else _complete_channels(images[0], 1).id, images)
        for images, same in by_images.items()
    ]
    return cases, labels


def _differ_in_type_alone(case: Case) -> bool:
    """Tell whether a.png was taken for the label of a.jpg beside it: to predict, both are images."""
    names = {path.parent / _single(path).id for path in case.images}
    return any(label.parent / _single(label).id in names for label in case.labels)


def _add_data_set(root: Path, cases: list[Case], labels: set[Path], content: Content, found: _Found) -> None:
    """Add the images of a data set, with those that have no label; labels are no images."""
    used = {image for case in cases for image in case.images}
    image_folders = {image.parent for image in used}
    folders = {label.parent for label in labels} - image_folders
    found.beside += sorted(label for label in labels if label.parent in image_folders)
    found.cases += cases
    bare = {_single(path).id for path in used} - {
        case.id for case in cases
    }  # ct of p1/ct, which is named by its folder
    for folder, files in content.images.items():
        rest = [path for path in files if path not in used and path not in labels]
        if folders & {folder, *folder.parents} or is_label_folder(folder.name):
            found.labels += rest
            continue
        images = [path for path in rest if not is_label_name(path)]
        found.labels += [path for path in rest if is_label_name(path)]
        found.cases += [
            replace(case, id="_".join(folder.relative_to(root).parts)) if case.id in bare else case
            for case in _group(folder, images, found)
        ]


def _group(folder: Path, files: list[Path], found: _Found) -> list[Case]:
    """Make the cases of one folder, in the order of their names; channels are joined by number or by name."""
    count = len(found.channels)
    cases, rest = _join_by_number(folder, files, found)
    if count > 1:
        named, rest = _join_by_name(folder, rest, found)
        cases += named
    return sorted([*cases, *(_single(path) for path in rest)], key=lambda case: case.id)


def _single(path: Path) -> Case:
    return Case(path.name[: len(path.name) - len(suffix_of(path))], (path,))


def _join_by_number(folder: Path, files: list[Path], found: _Found) -> tuple[list[Case], list[Path]]:
    """Join NAME_0000, NAME_0001, ... if there are as many as the network has channels.

    A single channel has such a number in folders of nnU-Net, and where every one of several files has the number 0:
    frames of a film would go on to 1.
    """
    count, groups = len(found.channels), group_channel_files(files)
    are_first = len(files) > 1 and all(split_channel(path)[1] == 0 for path in files)
    may_be_one = folder.name in NNUNET_FOLDERS or are_first
    number = 1 if hold_all_channels(groups) else count
    complete = {
        name: paths
        for name, paths in groups.items()
        if [split_channel(path)[1] for path in paths] == list(range(number)) and (may_be_one or number > 1)
    }
    used = {path for paths in complete.values() for path in paths}
    if count > 1 and complete:
        for name in groups.keys() - complete.keys():
            numbers = [split_channel(path)[1] for path in groups[name]]
            if None not in numbers and numbers != [None]:
                have = list_some((f"{number:04}" for number in numbers), 6)
                found.skipped.append(_describe_channels(folder, name, f"the channels {have}", found.channels))
                used |= set(groups[name])
    cases = [Case(name, tuple(paths)) for name, paths in complete.items()]
    return cases, [path for path in files if path not in used]


def _join_by_name(folder: Path, files: list[Path], found: _Found) -> tuple[list[Case], list[Path]]:
    """Join NAME_t1, NAME_t2, ... in the order of the network's channels."""
    groups: dict[str, dict[str, Path]] = {}
    for path in files:
        for channel in found.channels:
            if match := re.fullmatch(rf"(|.*[-_. ]){re.escape(channel)}", _single(path).id, re.IGNORECASE):
                groups.setdefault(match[1].rstrip("-_. "), {})[channel] = path
    cases, used = [], set()
    for name, by_channel in groups.items():
        id = name or folder.name
        if len(by_channel) == len(found.channels):
            cases.append(Case(id, tuple(by_channel[channel] for channel in found.channels)))
        elif len(by_channel) > 1:
            have = f"the channels {', '.join(by_channel)}"
            found.skipped.append(_describe_channels(folder, id, have, found.channels))
        if len(by_channel) > 1:
            used |= set(by_channel.values())
    return cases, [path for path in files if path not in used]


def _describe_channels(folder: Path, name: str, have: str, channels: Sequence[str]) -> Problem:
    got, expected = f"{have} for {name}", f"{len(channels)} channels, as in training: {', '.join(channels)}"
    return Problem(str(folder), got, expected, "Add the missing file.")


def _name_by_folders(root: Path, by_folder: dict[Path, list[Case]]) -> list[Case]:
    """Name cases by the folders below `root` that they lie in."""
    parts = {
        folder: tuple(part for part in folder.relative_to(root).parts if part not in _NO_PART_OF_NAMES)
        for folder in by_folder
    }
    stems = {case.id for cases in by_folder.values() for case in cases}
    if len(stems) == 1 and all(parts.values()) and all(len(cases) == 1 for cases in by_folder.values()):
        return [
            replace(case, id="_".join((*parts[folder], case.id)))
            for folder, cases in by_folder.items()
            for case in cases
        ]
    named = []
    for folder, cases in by_folder.items():
        by_id = len(cases) == 1 and bool(parts[folder]) and _is_named_by_folder(folder, cases[0])
        named += [replace(case, id="/".join(parts[folder] if by_id else (*parts[folder], case.id))) for case in cases]
    return named


def _is_named_by_folder(folder: Path, case: Case) -> bool:
    """Tell whether a folder names its only case, as in training: ID/images/x.png; ID/ID_t1.nii.gz, ID/ID_t2.nii.gz."""
    return folder.name == "images" or (len(case.images) > 1 and case.id == folder.name)


def _make_ids_differ(cases: Sequence[Case]) -> tuple[list[Case], list[str]]:
    """Drop inputs that are given twice; rename those of equal names by their folders, then by their types."""
    cases = make_ids_unique({tuple(image.absolute() for image in case.images): case for case in cases}.values())
    counts = Counter(case.id for case in cases)
    renamed = {id(case): replace(case, id=f"{case.id}_{_type(case)}") for case in cases if counts[case.id] > 1}
    notes = []
    if renamed:
        some = list_some((f"{case.images[0].name} gives {case.id}" for case in renamed.values()), 4)
        notes.append(
            f"{len(renamed)} images have the name of another; their results are named by the type, too: {some}"
        )
    return _number_repeated(renamed.get(id(case), case) for case in cases), notes


def _number_repeated(cases: Iterable[Case]) -> list[Case]:
    """Number ids that are still equal, or equal now."""
    found: dict[str, Case] = {}
    for case in cases:
        numbers, id = itertools.count(2), case.id
        while id in found:
            id = f"{case.id}_{next(numbers)}"
        found[id] = replace(case, id=id)
    return list(found.values())


def _type(case: Case) -> str:
    return suffix_of(case.images[0]).strip(".").replace(".", "_")
