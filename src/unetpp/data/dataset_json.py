"""Layouts with a `dataset.json`: Medical Segmentation Decathlon, nnU-Net version 1 and version 2."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from unetpp.data.dataset import Case, Dataset, Layout
from unetpp.data.folders import image_files, missing
from unetpp.data.formats import stem_of
from unetpp.errors import DataError, Problem

NAME = "dataset.json"
_CHANNEL = re.compile(r"(.+)_(\d{4})$")
"""nnU-Net: BRATS_001_0002 is channel 2 of case BRATS_001."""


def read_dataset_json(root: Path, name: str) -> Dataset:
    """Read the declared channels and classes, and the cases of the training part."""
    content = _load(root / NAME)
    problems: list[Problem] = []
    channels = _channels(content, root / NAME, problems)
    classes = _classes(content.get("labels"), root / NAME, problems)
    cases = [
        case
        for id, images, label in _entries(root, content, problems)
        if (case := _case(root, id, images, label, problems))
    ]
    pieces = any(_CHANNEL.match(stem_of(case.images[0])) for case in cases)
    layout: Layout = "nnunet" if pieces or "training" not in content else "decathlon"
    return Dataset(name, root, layout, tuple(cases), channels, classes, problems=tuple(problems))


def channel_files(folder: Path) -> dict[str, list[Path]]:
    """The files of a folder by case, channels in order; a name without a channel number is its own case."""
    cases: dict[str, list[Path]] = {}
    for path in image_files(folder):
        match = _CHANNEL.match(stem_of(path))
        cases.setdefault(match[1] if match else stem_of(path), []).append(path)
    return cases


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(
            Problem(
                str(path),
                f"a file that cannot be read ({error})",
                "JSON that describes the data set",
                "Restore it from the original.",
            )
        ) from None
    if not isinstance(content, dict):
        raise DataError(
            Problem(str(path), f"a {type(content).__name__}", "a JSON object", "Restore it from the original.")
        )
    return content


def _channels(content: dict[str, Any], where: Path, problems: list[Problem]) -> tuple[str, ...] | None:
    """`{"0": "MRI", ...}`; "modality" in the Decathlon and in version 1, "channel_names" in version 2."""
    declared = content.get("channel_names", content.get("modality"))
    if declared is None:
        return None
    if isinstance(declared, dict) and declared and all(str(key).isdigit() for key in declared):
        return tuple(str(declared[key]) for key in sorted(declared, key=int))
    problems.append(Problem(str(where), f"channels {declared!r}", '{"0": "MRI", ...}', "Number the channels from 0."))
    return None


def _classes(declared: Any, where: Path, problems: list[Problem]) -> dict[int, str] | None:
    """`{"1": "liver"}` in the Decathlon and in version 1, `{"liver": 1}` in version 2."""
    if declared is None:
        return None
    pairs = [_class(key, value) for key, value in declared.items()] if isinstance(declared, dict) else [None]
    classes = dict(pair for pair in pairs if pair)
    if None in pairs or len(classes) != len(pairs) or len(classes) < 2:
        action = (
            "Give each class one number of its own; regions of several numbers and an ignore label are not supported."
        )
        problems.append(
            Problem(
                str(where), f"labels {declared!r}", 'two classes or more, as {"0": "background", "1": "liver"}', action
            )
        )
        return None
    return dict(sorted(classes.items()))


def _class(key: str, value: Any) -> tuple[int, str] | None:
    if isinstance(value, str) and key.isdigit():
        return int(key), value
    if isinstance(value, int) and not isinstance(value, bool) and key != "ignore":
        return value, key
    return None


def _entries(root: Path, content: dict[str, Any], problems: list[Problem]) -> list[tuple[str, list[Path], Path]]:
    """(case id, image files, label file) of every training case, whether the files exist or not."""
    listed = content.get("training", content.get("dataset"))
    if listed is None:
        return _entries_by_name(root, problems)
    rows = listed.values() if isinstance(listed, dict) else listed if isinstance(listed, list) else [listed]
    entries = []
    for row in rows:
        images = row.get("images", row.get("image")) if isinstance(row, dict) else None
        images = [images] if isinstance(images, str) else images
        if (
            isinstance(images, list)
            and images
            and all(isinstance(image, str) for image in images)
            and isinstance(row.get("label"), str)
        ):
            paths = [root / image for image in images]
            entries.append(
                (stem_of(root / row["label"]), _pieces(paths[0]) if len(paths) == 1 else paths, root / row["label"])
            )
        else:
            problems.append(
                Problem(
                    str(root / NAME),
                    f"the entry {row!r}",
                    '{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}',
                    "Correct the entry.",
                )
            )
    return entries


def _entries_by_name(root: Path, problems: list[Problem]) -> list[tuple[str, list[Path], Path]]:
    images = channel_files(root / "imagesTr")
    labels = {stem_of(path): path for path in image_files(root / "labelsTr")}
    problems += [
        missing(root / "labelsTr", "label", f"imagesTr/{paths[0].name}")
        for stem, paths in images.items()
        if stem not in labels
    ]
    return [(stem, images.get(stem, []), label) for stem, label in labels.items()]


def _pieces(path: Path) -> list[Path]:
    """The file itself, or in nnU-Net version 1, which lists files that do not exist, the files of its channels."""
    if path.exists():
        return [path]
    stem, suffix = stem_of(path), path.name[len(stem_of(path)) :]
    return sorted(path.parent.glob(f"{stem}_[0-9][0-9][0-9][0-9]{suffix}")) or [path]


def _case(root: Path, id: str, images: list[Path], label: Path, problems: list[Problem]) -> Case | None:
    absent = [path for path in images if not path.exists()]
    if absent or not images:
        problems.append(
            missing(
                absent[0] if absent else root / "imagesTr",
                "image",
                str(label.relative_to(root) if label.is_relative_to(root) else label),
            )
        )
    elif not label.exists():
        problems.append(missing(label, "label", images[0].name))
    else:
        return Case(id, tuple(images), (label,))
    return None
