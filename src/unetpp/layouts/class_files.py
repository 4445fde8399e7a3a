"""One label file for each class, as TotalSegmentator has them: `s0000/ct.nii.gz`, `s0000/segmentations/*.nii.gz`."""

from __future__ import annotations

import csv
from pathlib import Path

from unetpp.errors import Problem
from unetpp.formats import is_medical, stem_of
from unetpp.layouts.dataset import Case, Dataset
from unetpp.layouts.folders import SUBSETS, list_folders, list_images
from unetpp.layouts.label_names import is_label_name
from unetpp.words import list_some

_FOLDERS = ("segmentations", "segmentation", "segs", "masks", "labels")
_TABLE = "meta.csv"
_CHANNELS = {"ct": "CT", "mri": "MRI", "mr": "MRI"}


def read_class_files(root: Path, name: str) -> Dataset | None:
    """Read folders that hold one image and a folder of one file for each class; None if there are none.

    Classes are numbered in the order of their names. A file that a case lacks is a class that it does not have.
    """
    folders = {folder: files for folder in list_folders(root) if (files := _list_class_files(folder))}
    if not folders:
        return None
    names = sorted({stem_of(file) for files in folders.values() for file in files})
    splits = _read_splits(root / _TABLE)
    cases, problems = [], []
    for folder, files in folders.items():
        images = [path for path in list_images(folder) if is_medical(path)]
        if len(images) == 1:
            classes = tuple(stem_of(file) for file in files)
            split = SUBSETS.get(splits.get(folder.name, "").lower())
            cases.append(Case(folder.name, (images[0],), tuple(files), classes, split=split))
        else:
            got = f"{len(images)} images ({list_some(image.name for image in images)})"
            expected = f"one image next to {files[0].parent.name}"
            problems.append(Problem(str(folder), got, expected, "Leave one image, or remove the folder."))
    channels = {_CHANNELS.get(stem_of(case.images[0]).lower()) for case in cases}
    return Dataset(
        name,
        root,
        "class_files",
        tuple(cases),
        channels=tuple(map(str, channels)) if len(channels) == 1 and None not in channels else None,
        classes={0: "background"} | dict(enumerate(names, start=1)),
        joined="classes",
        problems=tuple(problems),
    )


def _list_class_files(folder: Path) -> list[Path]:
    """List the files of the classes: volumes in a folder next to the image. A label next to the image comes first."""
    inner = next((folder / name for name in _FOLDERS if (folder / name).is_dir()), None)
    if inner is None:
        return []
    beside = [path for path in list_images(folder) if is_medical(path)]
    if not beside or any(map(is_label_name, beside)):
        return []
    return [path for path in list_images(inner) if is_medical(path)]


def _read_splits(table: Path) -> dict[str, str]:
    """Read image -> subset of TotalSegmentator's table; nothing without one."""
    try:
        text = table.read_text(encoding="utf-8-sig")
        rows = csv.DictReader(text.splitlines(), delimiter=max(",;\t", key=text.partition("\n")[0].count), restval="")
        return {str(row.get("image_id")): str(row.get("split")) for row in rows}
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}
