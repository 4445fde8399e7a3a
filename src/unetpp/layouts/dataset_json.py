"""Layouts with a `dataset.json`: Medical Segmentation Decathlon, nnU-Net version 1 and version 2."""

from __future__ import annotations

from glob import escape
from pathlib import Path
from typing import Any

from unetpp.errors import DataError, Problem
from unetpp.formats import stem_of
from unetpp.json_files import read_json
from unetpp.layouts.channel_files import (
    add_validation_cases,
    describe_channels,
    find_missing_channels,
    pair_channel_files,
    split_channel,
)
from unetpp.layouts.dataset import Case, Dataset, Layout
from unetpp.layouts.folders import describe_missing
from unetpp.plan import DataPlan, Region

NAME = "dataset.json"
IGNORE = "ignore"
"""Name of the label of voxels that nobody labeled (nnU-Net version 2)."""
LONGEST_NUMBER = 9
"""Digits of the number of a channel or of a class."""
_RESTORE = "Restore it from the original."


def read_dataset_json(root: Path, name: str) -> Dataset:
    """Read the declared channels and classes, and the training cases."""
    content = _load(root / NAME)
    problems: list[Problem] = []
    channels = _read_channels(content, root / NAME, problems)
    regions = _read_regions(content, root / NAME, problems)
    values = _list_values(content["labels"]) if regions else content.get("labels")
    classes, ignored = (None, None) if regions == () else _read_classes(values, root / NAME, problems)
    cases, notes = _list_cases(root, content, channels, problems)
    has_channel_files = any(split_channel(case.images[0])[1] is not None for case in cases)
    layout: Layout = "nnunet" if has_channel_files or "training" not in content else "decathlon"
    declared = content.get("numTraining")
    if declared not in (None, len(cases)):
        notes.append(f"{NAME} declares {declared} training cases; {len(cases)} were found")
    cases, more_problems, more_notes = add_validation_cases(root, cases, channels)
    problems, notes = problems + more_problems, notes + more_notes
    return Dataset(
        name,
        root,
        layout,
        tuple(cases),
        channels,
        classes,
        ignored_value=ignored,
        regions=regions or None,
        problems=tuple(problems),
        notes=tuple(notes),
    )


def find_raw_data_sets(folder: Path) -> list[Path]:
    """Find the data sets in a folder of many (`nnUNet_raw`, the Decathlon): folders with a dataset.json."""
    return sorted(path.parent for path in folder.glob(f"*/{NAME}"))


def describe_data(data: DataPlan) -> dict[str, Any]:
    """Describe channels and classes as dataset.json has them, with a class for voxels that nobody labeled.

    Regions are unions of the classes that are painted, and are described as nnU-Net does.
    """
    channels = {"channel_names": {str(number): name for number, name in enumerate(data.channels)}}
    unsaid = {IGNORE: find_unsaid_value(data)}
    if not data.regions:
        return channels | {"labels": dict(zip(data.classes, data.label_values, strict=True)) | unsaid}
    regions = {region.name: list(region.values) for region in data.regions}
    labels = {data.classes[0]: data.label_values[0], **regions, **unsaid}
    return channels | {"labels": labels, "regions_class_order": [region.values[0] for region in data.regions]}


def find_unsaid_value(data: DataPlan) -> int:
    """Find the label value of voxels that nobody labeled: that of the model, or the largest of a byte that is free."""
    if data.labels.ignore is not None:
        return data.labels.ignore
    return next(value for value in range(255, -1, -1) if value not in data.label_values)


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
    if isinstance(declared, dict) and declared and all(map(_is_number, declared)):
        return tuple(str(declared[key]) for key in sorted(declared, key=int))
    problems.append(Problem(str(where), f"channels {declared!r}", '{"0": "MRI", ...}', "Number the channels from 0."))
    return None


def _read_classes(declared: Any, where: Path, problems: list[Problem]) -> tuple[dict[int, str] | None, int | None]:
    """Read `{"1": "liver"}` (Decathlon, nnU-Net version 1) or `{"liver": 1, "ignore": 2}` (version 2).

    Returns:
        Names of the classes by value, and the value of voxels that nobody labeled.
    """
    if declared is None:
        return None, None
    pairs = [_read_class(key, value) for key, value in declared.items()] if isinstance(declared, dict) else [None]
    names = dict(pair for pair in pairs if pair)
    ignored = next((value for value, name in names.items() if name == IGNORE), None)
    classes = {value: name for value, name in sorted(names.items()) if name != IGNORE}
    if len({*classes.values()}) < len(classes):
        got = f"two classes of one name ({', '.join(sorted({*classes.values()}))})"
        problems.append(Problem(str(where), got, "names that differ: scores are kept by name", "Rename one of them."))
        return None, ignored
    if None not in pairs and len(names) == len(pairs) and len(classes) > 1:
        return classes, ignored
    got, action = f"labels {declared!r}", "Give each class one distinct number."
    expected = 'two classes or more, as {"0": "background", "1": "liver"}'
    problems.append(Problem(str(where), got, expected, action))
    return None, ignored


def _read_class(key: str, value: Any) -> tuple[int, str] | None:
    if isinstance(value, str) and _is_number(key):
        return int(key), value
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    return (value, key) if _is_value(value) else None


def _is_value(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**LONGEST_NUMBER


def _read_regions(content: dict[str, Any], where: Path, problems: list[Problem]) -> tuple[Region, ...] | None:
    """Read labels of several numbers and their `regions_class_order`, the number to write for each (nnU-Net version 2).

    Returns:
        The regions, in the order of writing; empty if they are wrong, which is reported; None if there are none.
    """
    declared: Any = content.get("labels")
    order: Any = content.get("regions_class_order")
    lists = [value for value in declared.values() if isinstance(value, list)] if isinstance(declared, dict) else []
    if not any(len(values) > 1 for values in lists):
        return None
    listed = {name: value if isinstance(value, list) else [value] for name, value in declared.items()}
    listed = {name: values for name, values in listed.items() if values != [0] and name != IGNORE}
    if not _are_regions([*listed.values()]):
        got, action = f"labels {declared!r}", "Correct the labels."
        expected = "for each region whole numbers without 0, once each, not those of another region"
        problems.append(Problem(str(where), got, expected, action))
        return ()
    written = [*map(_as_value, order)] if isinstance(order, list) else []
    own = len(written) == len(listed) == len({*written}) and all(
        number in values for number, values in zip(written, listed.values(), strict=True)
    )
    if not own:
        got, action = f"regions_class_order {order!r}", "Correct it: `predict` writes these numbers."
        expected = f"a number of its own for each of {', '.join(listed)}, out of those of the region"
        problems.append(Problem(str(where), got, expected, action))
        return ()
    pairs = zip(written, listed.items(), strict=True)
    return tuple(
        Region(name=name, values=(number, *(value for value in values if value != number)))
        for number, (name, values) in pairs
    )


def _are_regions(regions: list[list[Any]]) -> bool:
    if not all(values and all(map(_is_value, values)) for values in regions):
        return False
    sets = {frozenset(values) for values in regions}
    return len(sets) == len(regions) and all(0 not in {*values} and len({*values}) == len(values) for values in regions)


def _as_value(value: Any) -> int | None:
    return value if _is_value(value) else None


def _list_values(declared: dict[str, Any]) -> dict[str, Any]:
    """Name each number that regions are made of: by what is this number alone, else class_1, ..."""
    lists = {name: value if isinstance(value, list) else [value] for name, value in declared.items()}
    single = {name: values[0] for name, values in lists.items() if len(values) == 1}
    several = {value for values in lists.values() for value in values} - {*single.values()}
    return single | {f"class_{value}": value for value in sorted(several)}


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= LONGEST_NUMBER


def _list_cases(
    root: Path, content: dict[str, Any], channels: tuple[str, ...] | None, problems: list[Problem]
) -> tuple[list[Case], list[str]]:
    """List the training cases, and notes: those that are listed, or all pairs of imagesTr and labelsTr."""
    listed = content.get("training", content.get("dataset"))
    if listed:
        entries = _list_entries(root, listed, problems)
        cases = [case for entry in entries if (case := _make_case(root, *entry, problems))]
        several = {case.id: list(case.images) for case in cases if len(case.images) > 1}
        apart = {id for id, images in several.items() if len({path.parent for path in images}) > 1}
        several = {id: images for id, images in several.items() if id not in apart}  # a folder for each channel
        incomplete = find_missing_channels(several, len(channels or ()) or None)
        problems += [describe_channels(root, id, found, channels) for id, found in incomplete.items()]
        return [case for case in cases if case.id not in incomplete], []
    ending = content.get("file_ending")
    ending = ending if isinstance(ending, str) else ""
    cases, found, notes = pair_channel_files(root / "imagesTr", root / "labelsTr", ending, channels)
    problems += found
    return cases, notes


def _list_entries(root: Path, listed: Any, problems: list[Problem]) -> list[tuple[str, list[Path], Path]]:
    """List (case id, image files, label file) of all listed cases, whether the files exist or not."""
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


def _find_channel_files(path: Path) -> list[Path]:
    """Find the file itself, or those of its channels: nnU-Net version 1 lists files that do not exist."""
    if path.exists():
        return [path]
    stem, suffix = stem_of(path), path.name[len(stem_of(path)) :]
    return sorted(path.parent.glob(f"{escape(stem)}_[0-9][0-9][0-9][0-9]{suffix}")) or [path]


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
