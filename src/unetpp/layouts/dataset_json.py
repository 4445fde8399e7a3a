"""Layouts with a `dataset.json`: Medical Segmentation Decathlon, nnU-Net version 1 and version 2."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from unetpp.errors import DataError, Problem
from unetpp.formats import stem_of
from unetpp.json_files import read_json
from unetpp.layouts.dataset import Case, Dataset, Layout
from unetpp.layouts.folders import describe_missing, list_images

NAME = "dataset.json"
_CHANNEL = re.compile(r"(.+)_(\d{4})$")
"""File names of nnU-Net: BRATS_001_0002 is channel 2 of case BRATS_001."""
_RESTORE = "Restore it from the original."


def read_dataset_json(root: Path, name: str) -> Dataset:
    """Read the declared channels and classes, and the training cases."""
    content = _load(root / NAME)
    problems: list[Problem] = []
    channels = _read_channels(content, root / NAME, problems)
    classes = _read_classes(content.get("labels"), root / NAME, problems)
    entries = _list_entries(root, content, problems)
    cases = [case for entry in entries if (case := _make_case(root, *entry, problems))]
    has_channel_files = any(_CHANNEL.match(stem_of(case.images[0])) for case in cases)
    layout: Layout = "nnunet" if has_channel_files or "training" not in content else "decathlon"
    return Dataset(name, root, layout, tuple(cases), channels, classes, problems=tuple(problems))


def group_channel_files(folder: Path) -> dict[str, list[Path]]:
    """Group the images of a folder by case, channels in order; a name without a channel number is a case by itself."""
    cases: dict[str, list[Path]] = {}
    for path in list_images(folder):
        match = _CHANNEL.match(stem_of(path))
        cases.setdefault(match[1] if match else stem_of(path), []).append(path)
    return cases


def _load(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        got = f"a file that cannot be read ({error})"
        raise DataError(Problem(str(path), got, "JSON that describes the data set", _RESTORE)) from None
    if not isinstance(content, dict):
        raise DataError(Problem(str(path), f"a {type(content).__name__}", "a JSON object", _RESTORE))
    return content


def _read_channels(content: dict[str, Any], where: Path, problems: list[Problem]) -> tuple[str, ...] | None:
    """Read `{"0": "MRI", ...}` from "modality" (Decathlon, nnU-Net version 1) or "channel_names" (version 2)."""
    declared = content.get("channel_names", content.get("modality"))
    if declared is None:
        return None
    if isinstance(declared, dict) and declared and all(str(key).isdigit() for key in declared):
        return tuple(str(declared[key]) for key in sorted(declared, key=int))
    problems.append(Problem(str(where), f"channels {declared!r}", '{"0": "MRI", ...}', "Number the channels from 0."))
    return None


def _read_classes(declared: Any, where: Path, problems: list[Problem]) -> dict[int, str] | None:
    """Read `{"1": "liver"}` (Decathlon, nnU-Net version 1) or `{"liver": 1}` (version 2)."""
    if declared is None:
        return None
    pairs = [_read_class(key, value) for key, value in declared.items()] if isinstance(declared, dict) else [None]
    classes = dict(pair for pair in pairs if pair)
    if None in pairs or len(classes) != len(pairs) or len(classes) < 2:
        expected = 'two classes or more, as {"0": "background", "1": "liver"}'
        action = "Give each class one distinct number; regions of several numbers and an ignore label are unsupported."
        problems.append(Problem(str(where), f"labels {declared!r}", expected, action))
        return None
    return dict(sorted(classes.items()))


def _read_class(key: str, value: Any) -> tuple[int, str] | None:
    if isinstance(value, str) and key.isdigit():
        return int(key), value
    if isinstance(value, int) and not isinstance(value, bool) and key != "ignore":
        return value, key
    return None


def _list_entries(root: Path, content: dict[str, Any], problems: list[Problem]) -> list[tuple[str, list[Path], Path]]:
    """List (case id, image files, label file) of all training cases, whether the files exist or not."""
    listed = content.get("training", content.get("dataset"))
    if listed is None:
        return _pair_by_name(root, problems)
    rows = listed.values() if isinstance(listed, dict) else listed if isinstance(listed, list) else [listed]
    entries = []
    for row in rows:
        images = row.get("images", row.get("image")) if isinstance(row, dict) else None
        images = [images] if isinstance(images, str) else images
        if isinstance(images, list) and images and all(isinstance(path, str) for path in (*images, row.get("label"))):
            paths, label = [root / image for image in images], root / row["label"]
            entries.append((stem_of(label), _find_channel_files(paths[0]) if len(paths) == 1 else paths, label))
        else:
            expected = '{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}'
            problems.append(Problem(str(root / NAME), f"the entry {row!r}", expected, "Correct the entry."))
    return entries


def _pair_by_name(root: Path, problems: list[Problem]) -> list[tuple[str, list[Path], Path]]:
    images = group_channel_files(root / "imagesTr")
    labels = {stem_of(path): path for path in list_images(root / "labelsTr")}
    problems += [
        describe_missing(root / "labelsTr", "label", f"imagesTr/{paths[0].name}")
        for stem, paths in images.items()
        if stem not in labels
    ]
    return [(stem, images.get(stem, []), label) for stem, label in labels.items()]


def _find_channel_files(path: Path) -> list[Path]:
    """Find the file itself, or those of its channels: nnU-Net version 1 lists files that do not exist."""
    if path.exists():
        return [path]
    stem, suffix = stem_of(path), path.name[len(stem_of(path)) :]
    return sorted(path.parent.glob(f"{stem}_[0-9][0-9][0-9][0-9]{suffix}")) or [path]


def _make_case(root: Path, id: str, images: list[Path], label: Path, problems: list[Problem]) -> Case | None:
    absent = [path for path in images if not path.exists()]
    if absent or not images:
        owner = label.relative_to(root) if label.is_relative_to(root) else label
        problems.append(describe_missing(absent[0] if absent else root / "imagesTr", "image", str(owner)))
    elif not label.exists():
        problems.append(describe_missing(label, "label", images[0].name))
    else:
        return Case(id, tuple(images), (label,))
    return None
