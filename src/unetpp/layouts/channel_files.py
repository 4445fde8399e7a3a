"""Channels in files of their own, named as nnU-Net has them: BRATS_001_0002.nii.gz is channel 2 of case BRATS_001."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from unetpp.errors import Problem
from unetpp.formats import is_medical, stem_of
from unetpp.layouts.dataset import Case, Dataset
from unetpp.layouts.folders import describe_missing, list_images, note_unlabeled
from unetpp.words import list_some

_LABEL_FOLDERS = ("labels", "masks")
NNUNET_FOLDERS = ("imagesTr", "imagesTs", "imagesVa", "imagesVal")
_VALIDATION_FOLDERS = (("imagesVa", "labelsVa"), ("imagesVal", "labelsVal"))
_CHANNEL = re.compile(r"(.+)_(\d{4})$")


def split_channel(path: Path) -> tuple[str, int | None]:
    """Split the name of a file into the name of its case and the number of its channel, if it has one."""
    match = _CHANNEL.match(stem_of(path))
    return (match[1], int(match[2])) if match else (stem_of(path), None)


def group_channel_files(paths: Iterable[Path], labels: Container[str] = ()) -> dict[str, list[Path]]:
    """Group files by case, channels in order.

    A name without a channel number is a case by itself, and so is one that a label has: `labels` are their stems.
    """
    cases: dict[str, list[Path]] = {}
    for path in sorted(paths):
        stem = stem_of(path)
        cases.setdefault(stem if stem in labels else split_channel(path)[0], []).append(path)
    return cases


def hold_all_channels(cases: Mapping[str, list[Path]]) -> bool:
    """Tell whether each case is one picture NAME_0000: nnU-Net declares its colors as channels, but has them in it."""
    return bool(cases) and all(
        len(paths) == 1 and split_channel(paths[0])[1] == 0 and not is_medical(paths[0]) for paths in cases.values()
    )


def find_missing_channels(cases: Mapping[str, list[Path]], usual: int | None = None) -> dict[str, str]:
    """Find the cases that lack a channel, or have one too many.

    Args:
        cases: as `group_channel_files` returns them.
        usual: the number of channels; None: that of most cases.

    Returns:
        Name of the case -> what it has, in words.
    """
    numbers = {
        name: [None if stem_of(path) == name else split_channel(path)[1] for path in paths]
        for name, paths in cases.items()
    }
    counts = Counter(len(found) for found in numbers.values())
    usual = usual or (counts.most_common(1)[0][0] if counts else 0)
    return {
        name: f"the {'channel' if len(found) == 1 else 'channels'} {list_some((f'{number:04}' for number in found), 6)}"
        for name, found in numbers.items()
        if None not in found and found != list(range(usual))
    }


def find_channel_folders(root: Path) -> tuple[Path, Path] | None:
    """Find `imagesTr/` and `labelsTr/`, or `images/` and labels in which `p0.nii.gz` belongs to `p0_0000.nii.gz`."""
    if (root / "imagesTr").is_dir() and (root / "labelsTr").is_dir():
        return root / "imagesTr", root / "labelsTr"
    images = list_images(root / "images")
    if not images or any(split_channel(path)[1] is None for path in images):
        return None
    names, stems = set(group_channel_files(images)), {stem_of(path) for path in images}
    for folder in (root / name for name in _LABEL_FOLDERS):
        labels = {stem_of(path) for path in list_images(folder)}
        if labels and not labels & stems and len(labels & names) > len(labels) / 2:
            return root / "images", folder
    return None


def read_channel_folders(root: Path, name: str) -> Dataset | None:
    """Read the folders that `find_channel_folders` finds; None without them. Classes follow from the label values."""
    folders = find_channel_folders(root)
    if folders is None:
        return None
    cases, problems, notes = pair_channel_files(*folders)
    cases, more_problems, more_notes = add_validation_cases(root, cases)
    problems, notes = problems + more_problems, notes + more_notes
    return Dataset(name, root, "nnunet", tuple(cases), problems=tuple(problems), notes=tuple(notes))


def pair_channel_files(
    image_folder: Path, label_folder: Path, ending: str = "", channels: Sequence[str] | None = None
) -> tuple[list[Case], list[Problem], list[str]]:
    """Pair the files of an image's channels with its label.

    Args:
        image_folder: images NAME_0000, NAME_0001, ...
        label_folder: labels NAME.
        ending: end of the names of images and labels; other files are ignored.
        channels: declared names of the channels; None: there are as many as most cases have.

    Returns:
        Cases, problems of names, and notes.
    """
    labels = {stem_of(path): path for path in list_images(label_folder) if path.name.endswith(ending)}
    images = group_channel_files((path for path in list_images(image_folder) if path.name.endswith(ending)), labels)
    labeled = {stem: paths for stem, paths in images.items() if stem in labels}
    usual = 1 if hold_all_channels(labeled) else len(channels or ()) or None
    incomplete = find_missing_channels(labeled, usual)
    unlabeled = [paths[0].name for stem, paths in images.items() if stem not in labels]
    is_partly_labeled = bool(unlabeled) and bool(labels) and labels.keys() <= images.keys()
    problems = [
        describe_missing(label_folder, "label", f"{image_folder.name}/{name}")
        for name in unlabeled
        if not is_partly_labeled
    ]
    problems += [
        describe_missing(image_folder, "image", f"{label_folder.name}/{label.name}")
        for stem, label in labels.items()
        if stem not in images
    ]
    problems += [describe_channels(image_folder, stem, found, channels) for stem, found in incomplete.items()]
    cases = [
        Case(stem, tuple(images[stem]), (label,))
        for stem, label in labels.items()
        if stem in images and stem not in incomplete
    ]
    return cases, problems, [note_unlabeled(unlabeled, len(images))] if is_partly_labeled else []


def add_validation_cases(
    root: Path, cases: Sequence[Case], channels: Sequence[str] | None = None
) -> tuple[list[Case], list[Problem], list[str]]:
    """Add the labeled cases of `imagesVa/` or `imagesVal/`, which validate; the others train.

    Args:
        root: the folder with these folders.
        cases: those of `imagesTr/`.
        channels: declared names of the channels.

    Returns:
        Cases, problems of names, and notes.
    """
    for images, labels in _VALIDATION_FOLDERS:
        if list_images(root / images) and list_images(root / labels):
            more, problems, notes = pair_channel_files(root / images, root / labels, channels=channels)
            notes.append(f"the cases of {images}/ validate, those of imagesTr/ train")
            train = [replace(case, split="train") for case in cases]
            return [*train, *(replace(case, split="validation") for case in more)], problems, notes
    return list(cases), [], []


def describe_channels(where: Path, name: str, found: str, channels: Sequence[str] | None) -> Problem:
    """Describe the problem of a case that lacks a channel.

    Args:
        where: the folder of its files.
        name: the case.
        found: what it has, as `find_missing_channels` says.
        channels: declared names of the channels.

    Returns:
        The problem.
    """
    expected = f"{len(channels)} channels, as declared" if channels else "the channels of the other cases"
    action = "Add the missing file, or remove the case."
    return Problem(str(where), f"{found} for {name}", f"{expected}, numbered from 0000", action)
