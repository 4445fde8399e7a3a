"""Volumes as public sets have them: BraTS, KiTS, LiTS, iSeg and others with a folder for each patient or names alike.

Files named like labels (`ID_seg`, `segmentation-0`, `label`) are labels; the others are images. An image belongs to the
label whose other words its name has; the words that remain name the channel: `ID_t1` and `ID_seg` give t1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unetpp.errors import Problem
from unetpp.formats import is_medical, stem_of
from unetpp.layouts.bids import read_bids
from unetpp.layouts.case_names import make_ids_unique
from unetpp.layouts.class_files import read_class_files
from unetpp.layouts.contents import list_content
from unetpp.layouts.dataset import Case, Dataset
from unetpp.layouts.folders import SUBSETS
from unetpp.layouts.label_names import is_agreement, is_label_folder, is_label_name, split_label_name
from unetpp.words import count_noun, list_some

_CT_PAIRS = (("imaging", "segmentation"), ("volume", "segmentation"))
"""Words of image and label in KiTS and LiTS, which are CT."""
_MODALITIES = re.compile(r"ct|hu|pet|mri?|us|adc|dwi|swi|flair|(t1|t2|pd)[a-z0-9]*", re.IGNORECASE)
_BATCH = re.compile(r"batch|part|set|data|image|train|test|val", re.IGNORECASE)
"""Names of folders that are no patients."""
_BRATS_TIME_POINT = re.compile(r"(BraTS-.+-\d+)-\d+")


@dataclass
class _Scan:
    """The images of one label, in the folder that both lie in."""

    folder: Path
    label: Path
    images: dict[str, Path] = field(default_factory=dict)
    """By channel."""


def read_volumes(root: Path, name: str) -> Dataset | None:
    """Read a data set of volumes as it is downloaded; None if there is none."""
    return read_class_files(root, name) or read_bids(root, name) or read_scans(root, name)


def read_scans(root: Path, name: str) -> Dataset | None:
    """Read images with labels beside them, in one folder or in a folder for each patient; None if there are none."""
    scans: list[_Scan] = []
    problems: list[Problem] = []
    unlabeled: list[Path] = []
    content = {
        folder: medical
        for folder, files in list_content(root).images.items()
        if (medical := list(filter(is_medical, files)))
    }
    for folder, files in content.items():
        found, rest = _match(folder, *_divide(folder, files), problems, is_patient=len(content) > 1)
        scans += found
        unlabeled += rest
    if not scans and not problems:
        scans, unlabeled = _match_two_folders(content, problems)
    if not scans:  # whoever knows the layout better comes first
        return Dataset(name, root, "volumes", (), problems=tuple(problems)) if problems else None
    channels, usual = _choose_channels(scans)
    complete = [scan for scan in scans if _has_channels(scan, usual, problems)]
    folders = {scan.folder: scan.folder.relative_to(root).parts for scan in scans}
    length = _count_session_folders(set(map(_below_subset, folders.values())))
    shared = len(folders) < len(scans)  # several images in a folder
    cases = make_ids_unique(_make_case(scan, folders, shared, length) for scan in complete)
    notes = [f"without a label, left out: {count_noun(len(unlabeled), 'image')} ({_names(unlabeled)})"]
    notes = notes if unlabeled else []
    if agreed := [scan.label.name for scan in scans if is_agreement(scan.label)]:
        notes.append(f"labels of several persons: {agreed[0]} is used, which joins them")
    return Dataset(name, root, "volumes", tuple(cases), channels, problems=tuple(problems), notes=tuple(notes))


def _divide(folder: Path, files: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Divide the files of a folder into labels and images; a folder of labels holds no images."""
    if is_label_folder(folder.name):
        return [], []
    labels = [path for path in files if is_label_name(path)]
    known = set(labels)
    return labels, [path for path in files if path not in known]


def _match_two_folders(
    content: Mapping[Path, Sequence[Path]], problems: list[Problem]
) -> tuple[list[_Scan], list[Path]]:
    """Match images of several channels with the labels in a folder beside theirs: `imagesTr/ID__CT`, `labelsTr/ID`."""
    labels = [folder for folder in content if is_label_folder(folder.name)]
    images = (
        [folder for folder in content if folder not in labels and folder.parent == labels[0].parent] if labels else []
    )
    if len(labels) != 1 or len(images) != 1:
        return [], []
    found: list[Problem] = []
    scans, rest = _match(images[0], content[labels[0]], content[images[0]], found, is_patient=False)
    if not any(len(scan.images) > 1 for scan in scans):
        return [], []
    problems += found
    return scans, rest


def _match(
    folder: Path, labels: Sequence[Path], images: Sequence[Path], problems: list[Problem], is_patient: bool
) -> tuple[list[_Scan], list[Path]]:
    """Match the images of a folder with their labels; return images without a label, too."""
    if not labels or not images:
        return [], list(images)
    agreed = [path for path in labels if is_agreement(path)]
    if len(agreed) == 1 and is_patient:  # of several persons
        labels = agreed
    scans: dict[tuple[str, ...], _Scan] = {}
    doubtful: list[Path] = []
    for label in labels:
        key = _words(split_label_name(label))
        if key in scans:
            doubtful += [scans[key].label, label]
        scans.setdefault(key, _Scan(folder, label))
    unmatched = []
    for image in images:
        if (found := _find_label(image, scans)) is not None:
            scans[found[0]].images[found[1]] = image
        else:
            unmatched.append(image)
    if len(labels) == 1 and unmatched == images and is_patient:
        scan = next(iter(scans.values()))
        scan.images = {_name_channel(folder, image): image for image in images}
        unmatched = []
    matched = [scan for scan in scans.values() if scan.images]
    orphans = [scan.label for scan in scans.values() if not scan.images]
    if orphans and len(matched) == 1 and is_patient:
        doubtful += [matched[0].label, *orphans]
    elif orphans and matched:
        action = "Add the image, or remove the label."
        problems += [
            Problem(str(label), "a label without an image", "an image named alike", action) for label in orphans
        ]
    if doubtful or not matched:
        some = list(dict.fromkeys(doubtful or labels))
        problems.append(_describe_doubt(folder, some))
        refused = set(some)
        return [scan for scan in matched if scan.label not in refused], unmatched
    return matched, unmatched


def _describe_doubt(folder: Path, labels: Sequence[Path]) -> Problem:
    got = f"{len(labels)} files that may be the label ({_names(labels)})"
    action = "Move the others elsewhere, or write a CSV table with the columns image and label."
    return Problem(str(folder), got, "one label for each image", action)


def _name_channel(folder: Path, image: Path) -> str:
    """Name the channel of an image by the words that it has besides those of its folder."""
    words, of_folder = _words(stem_of(image)), _words(folder.name)
    return "_".join(words[len(of_folder) :] if words[: len(of_folder)] == of_folder else words)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in re.split(r"[-_. ]+", text) if word)


def _find_label(image: Path, scans: dict[tuple[str, ...], _Scan]) -> tuple[tuple[str, ...], str] | None:
    """Find the label whose words an image has, and the words that it has besides: as few as possible, in one run."""
    words = _words(stem_of(image))
    for length in range(len(words) + 1):
        for start in range(len(words) - length, -1, -1):
            key = words[:start] + words[start + length :]
            if key in scans:
                return key, "_".join(words[start : start + length])
    return None


def _choose_channels(scans: Sequence[_Scan]) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """Return the names of the channels to declare, and those that each case must have; None: one, of any name."""
    counts = Counter(tuple(sorted(scan.images)) for scan in scans)
    if all(len(channels) == 1 for channels in counts):
        name = next(iter(counts))[0] if len(counts) == 1 else ""
        pair = {
            _words(stem_of(image)) + _words(stem_of(scan.label)) for scan in scans[:1] for image in scan.images.values()
        }
        is_ct = any(set(words) <= pair_words for pair_words in map(set, pair) for words in _CT_PAIRS)
        declared = "ct" if is_ct else name
        return ((_show(declared),) if _MODALITIES.fullmatch(declared) else None), None
    usual = counts.most_common(1)[0][0]
    return tuple(map(_show, usual)), usual


def _show(channel: str) -> str:
    return "CT" if channel in ("ct", "hu") else channel


def _has_channels(scan: _Scan, usual: tuple[str, ...] | None, problems: list[Problem]) -> bool:
    found = tuple(sorted(scan.images))
    if usual is None or found == usual:
        return True
    absent, more = set(usual) - set(found), set(found) - set(usual)
    gots = [f"no image of the channel {', '.join(sorted(absent))}"] if absent else []
    gots += [f"files that other cases do not have ({', '.join(sorted(more))})"] if more else []
    action = "Add or remove the files, or remove the case."
    problems.append(Problem(str(scan.label), " and ".join(gots), f"the channels {', '.join(usual)}", action))
    return False


def _make_case(scan: _Scan, folders: Mapping[Path, tuple[str, ...]], shared: bool, length: int) -> Case:
    """Make the case of a label with its images.

    Args:
        scan: the label with its images.
        folders: folders of all scans -> their names below that of the data set.
        shared: whether a folder has several scans.
        length: number of folders below those of patients.
    """
    parts = folders[scan.folder]
    split = SUBSETS.get(parts[0].lower()) if parts else None
    images = tuple(scan.images[channel] for channel in sorted(scan.images))
    subset = f"{parts[0]}/" if split else ""
    if not parts or shared:
        id = stem_of(images[0]) if len(images) == 1 else split_label_name(scan.label) or scan.folder.name
        is_patient = bool(parts) and len(folders) > 2 and not _BATCH.search(parts[-1])
        return Case(id, images, (scan.label,), group="/".join(parts) if is_patient else None, split=split)
    parts = _below_subset(parts)
    patient, time_point = parts[: max(1, len(parts) - length)], _BRATS_TIME_POINT.fullmatch(parts[-1])
    group = subset + (time_point[1] if time_point else "/".join(patient))
    return Case("_".join(parts[len(patient) - 1 :]), images, (scan.label,), group=group, split=split)


def _below_subset(parts: tuple[str, ...]) -> tuple[str, ...]:
    return parts[1:] if len(parts) > 1 and parts[0].lower() in SUBSETS else parts


def _count_session_folders(folders: Iterable[tuple[str, ...]]) -> int:
    """Count the folders below those of patients: names that several patients have, such as ses-1/anat."""
    for length in range(3):
        ends = Counter(parts[max(0, len(parts) - length - 1) :] for parts in folders)
        if max(ends.values()) == 1:
            return length
    return 3


def _names(paths: Iterable[Path]) -> str:
    return list_some(path.name for path in paths)
