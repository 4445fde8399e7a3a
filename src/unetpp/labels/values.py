"""Interpretation of the values in label files: declared classes, 0 and 255, 0 and 1, class indices, or objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from unetpp.errors import DataError, Problem
from unetpp.labels.classes import Classes, ignored_index
from unetpp.slabs import slabs
from unetpp.words import list_some

FOREGROUND = ("background", "foreground")
MASK_VALUES = (0, 255)
"""Values that only a mask has; 0 and 1 may also be the first of several classes."""

MAX_CLASSES = 64
"""More undeclared values than this are objects or an interpolated label."""

_MANY = 5
"""Least number of labels for a note about a value that only one of them has."""

ValueCounts = Mapping[str, Mapping[int, int]]
"""Number of voxels of each value, by label file."""


@dataclass
class FoundClasses:
    """Classes of a data set, and problems and remarks about its labels."""

    classes: Classes
    problems: list[Problem] = field(default_factory=list)
    """Errors that have to be corrected."""
    notes: list[str] = field(default_factory=list)
    """Remarks for the user."""


def count_values(label: np.ndarray) -> dict[int, int]:
    """Count the voxels of each value of an integer array."""
    counts: Counter[int] = Counter()
    while label.ndim > 1 and len(label) == 1:  # slabs are cut along the first axis
        label = label[0]
    for slices in slabs(label.shape):
        block = label[slices].reshape(-1)
        if block.dtype in (np.uint8, np.uint16):
            numbers = np.bincount(block)
            values = np.flatnonzero(numbers)
            numbers = numbers[values]
        else:
            values, numbers = np.unique(block, return_counts=True)
        counts.update(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
    return dict(sorted(counts.items()))


def choose_classes(
    counts: ValueCounts, declared: Mapping[int, str] | None, foreground: int | None, where: str
) -> FoundClasses:
    """Find the classes of a data set.

    Args:
        counts: voxels of each value, of the labels that could be read.
        declared: names of the classes by value; None: derive the classes from the values.
        foreground: labels number objects, and this value stands for all of them in predictions; None: labels hold
            classes.
        where: name of the data set in problems.

    Returns:
        Classes, problems and notes.
    """
    if foreground is not None:
        chosen = FoundClasses(Classes(FOREGROUND, (0, foreground), objects=True), _find_negative(counts))
    else:
        chosen = _use_declared(declared, counts) if declared else _derive_classes(counts, where)
    background = chosen.classes.values[0]
    empty = [label for label, found in counts.items() if set(found) == {background}]
    if counts and len(empty) == len(counts):
        got, expected = f"labels that are all background (value {background})", "voxels of at least one other class"
        chosen.problems.append(Problem(where, got, expected, "Give labels in which something is marked."))
    elif empty:
        chosen.notes.append(f"{_list_labels(empty)}: nothing but background in the label")
    return chosen


def match_classes(
    predictions: Iterable[np.ndarray],
    references: Iterable[np.ndarray],
    objects: bool,
    where: Path,
    ignore: int | None = None,
) -> Classes:
    """Find the classes of segmentations and references that do not declare theirs.

    Every value is a class, unless both sides have a single value besides 0, or references number objects: because that
    is known (`objects`), or because predictions are masks of 0 and 255.

    Args:
        predictions: label values (*spatial) of each segmentation.
        references: label values (*spatial) of each reference.
        objects: references are known to number objects.
        where: folder of the references, for errors.
        ignore: value in references of voxels that nobody labeled.

    Raises:
        DataError: predictions have one class, and references more values than can be classes.
    """
    predicted, expected = _collect_values(predictions), _collect_values(references) - {ignore}
    foreground = max(predicted) or 1
    if predicted <= {*MASK_VALUES} or (objects and len(predicted) == 2):
        return Classes(FOREGROUND, (0, foreground), objects=True, ignore=ignore)
    values = sorted(predicted | expected)
    if len(values) == 2 or (predicted, expected) == ({0, 1}, {*MASK_VALUES}):
        return Classes(FOREGROUND, (0, foreground), ignore=ignore)
    if len(predicted) == 2 and len(values) > MAX_CLASSES:
        got, action = f"{len(expected)} different values", "If they are objects, name the folder instances."
        wanted = f"those of the predictions, 0 and {foreground}, or at most {MAX_CLASSES} classes"
        raise DataError(Problem(str(where), got, wanted, action))
    return replace(_name_by_value(values), ignore=ignore)


def encode_prediction(classes: Classes, label: np.ndarray, path: Path) -> np.ndarray:
    """Encode the segmentation of any program as class indices; a single foreground class may be written as 1 or 255.

    Args:
        classes: classes of the references.
        label: values (*spatial) of the segmentation.
        path: file of the segmentation, for errors.

    Returns:
        Class indices (*spatial).

    Raises:
        DataError: a value that is no class.
    """
    background, *others = classes.values
    foreground = set(count_values(label)) - {0}
    if background == 0 and len(others) == 1 and len(foreground) <= 1 and foreground <= {*others, 1, 255}:
        indices: np.ndarray = (label != 0).astype(np.uint8)
        return indices
    return replace(classes, objects=False, ignore=None).encode(label, path)


def encode_reference(classes: Classes, label: np.ndarray, path: Path) -> np.ndarray:
    """Encode a reference, which may number objects or have voxels that nobody labeled.

    Arguments, result and errors as of `encode_prediction`.
    """
    if classes.objects:
        return classes.encode(label, path)
    if classes.ignore is None:
        return encode_prediction(classes, label, path)
    ignored = label == classes.ignore
    indices = encode_prediction(classes, np.where(ignored, classes.values[0], label), path)
    indices[ignored] = ignored_index(len(classes.values))
    return indices


def _collect_values(labels: Iterable[np.ndarray]) -> set[int]:
    return {0}.union(*(count_values(label) for label in labels))


def _use_declared(declared: Mapping[int, str], counts: ValueCounts) -> FoundClasses:
    values = tuple(sorted(declared))
    problems, expected = [], f"the declared classes {_list_values(values)}"
    for label, found in counts.items():
        foreign = sorted(set(found) - set(values))
        if foreign:
            got = f"{_format_values('the value', foreign)} in {sum(found[value] for value in foreign)} voxels"
            action = "Correct the label, or declare the class in dataset.json."
            problems.append(Problem(label, got, expected, action))
    absent = [declared[value] for value in values if not any(value in found for found in counts.values())]
    notes = [f"declared classes that no label has: {', '.join(absent)}"] if absent and counts and not problems else []
    return FoundClasses(Classes(tuple(declared[value] for value in values), values), problems, notes)


def _derive_classes(counts: ValueCounts, where: str) -> FoundClasses:
    """Derive classes from the values. 0 is the background, even if no label has it."""
    problems = [*_find_negative(counts), *_find_interpolated(counts), *_find_crowded(where, counts)]
    odd = {problem.where for problem in problems}
    sound = {label: found for label, found in counts.items() if label not in odd}
    values = sorted({0, *(value for found in sound.values() for value in found)})[:MAX_CLASSES]
    problems += _find_mixed_scales(where, sound, values)
    if len(values) == 1:
        return FoundClasses(Classes(FOREGROUND, MASK_VALUES), problems)
    classes = Classes(FOREGROUND, tuple(values)) if values in ([0, 1], [*MASK_VALUES]) else _name_by_value(values)
    return FoundClasses(classes, problems, _note_single_occurrences(sound))


def _name_by_value(values: Sequence[int]) -> Classes:
    return Classes((FOREGROUND[0], *(f"class_{value}" for value in values[1:])), tuple(values))


def _find_crowded(where: str, counts: ValueCounts) -> list[Problem]:
    """Find labels with too many values: each one if they are few, otherwise the whole data set."""
    action = (
        "If values number objects, name the folder instances; if a label was resized, resize it again with nearest "
        "neighbor; if these are classes, declare them in a dataset.json."
    )
    crowded = {label: set(found) for label, found in counts.items() if len(found) > MAX_CLASSES}
    together = {value for found in counts.values() for value in found}
    if len(together) <= MAX_CLASSES:
        return []
    groups = crowded if 0 < len(crowded) <= len(counts) / 2 else {where: together}
    got, expected = "{} different label values, {} to {}", f"at most {MAX_CLASSES} classes"
    return [
        Problem(place, got.format(len(found), min(found), max(found)), expected, action)
        for place, found in groups.items()
    ]


def _note_single_occurrences(counts: ValueCounts) -> list[str]:
    """Note values that only one of many labels has: stray voxels become classes."""
    labels_of: dict[int, list[str]] = {}
    for label, found in counts.items():
        for value in found:
            labels_of.setdefault(value, []).append(label)
    single = {
        value: labels[0] for value, labels in labels_of.items() if value and len(labels) == 1 and len(counts) >= _MANY
    }
    return [
        f"{Path(label).name}: the only label with the value {value}, which becomes a class of its own"
        for value, label in sorted(single.items())
    ]


def _find_negative(counts: ValueCounts) -> list[Problem]:
    negative = {label: [value for value in found if value < 0] for label, found in counts.items()}
    action = "Give these voxels the number of a class."
    return [
        Problem(label, _format_values("the label value", values), "values from 0", action)
        for label, values in negative.items()
        if values
    ]


def _find_interpolated(counts: ValueCounts) -> list[Problem]:
    action = (
        "Resize the label again with nearest neighbor, and save it as PNG, not JPEG; if each value is one object, name "
        "the folder instances."
    )
    got = "{} different label values from {} to {}, most of them rare"
    expected = "0 and 255, 0 and 1, or a class index each"
    return [
        Problem(label, got.format(len(found), min(found), max(found)), expected, action)
        for label, found in counts.items()
        if _looks_interpolated(found)
    ]


def _looks_interpolated(found: Mapping[int, int]) -> bool:
    """Recognize the edges of a resized or JPEG-compressed mask: few voxels of many values between dark and bright.

    Classes or objects have more voxels at the middle values together than at the highest few.
    """
    highest = max(found)
    if len(found) < 6 or highest < 128:
        return False
    dark = sum(voxels for value, voxels in found.items() if value <= 16)
    bright = sum(voxels for value, voxels in found.items() if value >= highest - 16)
    between = sum(found.values()) - dark - bright
    return between < bright and between < 0.2 * (dark + bright)


def _find_mixed_scales(where: str, counts: ValueCounts, values: list[int]) -> list[Problem]:
    """Find data sets with 0 and 1 in some files and 0 and 255 in others: foreground would become two classes."""
    if values != [0, 1, 255]:
        return []
    ones = [label for label, found in counts.items() if 1 in found]
    full = [label for label, found in counts.items() if 255 in found]
    if set(ones) & set(full):
        return []
    rare, usual, value = (ones, full, 1) if len(ones) < len(full) else (full, ones, 255)
    got = f"foreground as {value} in {len(rare)} labels ({_list_labels(rare)})"
    return [
        Problem(where, got, f"{256 - value}, as in the other {len(usual)}", "Save all labels with the same two values.")
    ]


def _format_values(noun: str, values: list[int]) -> str:
    return f"{noun}{'s' * (len(values) > 1)} {_list_values(values)}"


def _list_values(values: tuple[int, ...] | list[int]) -> str:
    return ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")


def _list_labels(labels: list[str]) -> str:
    return list_some(Path(label).name for label in labels)
