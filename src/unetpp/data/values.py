"""What the numbers in label files stand for: declared classes, 0 and 255, 0 and 1, class indices, or objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unetpp.data.dataset import Dataset
from unetpp.data.formats import is_medical
from unetpp.data.scratch import blocks
from unetpp.errors import Problem

MAX_CLASSES = 64
"""More undeclared values than this are taken for objects or for an interpolated label."""

_MANY = 5
"""Labels among which a value that one alone has is worth a note."""

ValueCounts = Mapping[str, Mapping[int, int]]
"""Voxels of each label value, by label file."""


@dataclass
class Classes:
    """Names and label values of the classes, background first, and what is odd about them."""

    names: tuple[str, ...]
    values: tuple[int, ...]
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def count_values(label: np.ndarray) -> dict[int, int]:
    """Voxels of each value of an integer array."""
    counts: Counter[int] = Counter()
    for slices in blocks(label.shape):
        block = label[slices].reshape(-1)
        if block.dtype in (np.uint8, np.uint16):
            numbers = np.bincount(block)
            values = np.flatnonzero(numbers)
            numbers = numbers[values]
        else:
            values, numbers = np.unique(block, return_counts=True)
        counts.update(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
    return dict(sorted(counts.items()))


def class_indices(label: np.ndarray, values: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Class indices of a label (uint8, or uint16 for more than 256 classes), and the values in it that stand for no class.

    Args:
        values: what stands for class 0, 1, ...
    """
    order = np.argsort(values)
    known = np.asarray(values)[order]
    indices = np.empty(label.shape, dtype=np.uint8 if len(values) <= 256 else np.uint16)
    foreign: set[int] = set()
    for slices in blocks(label.shape):
        block = label[slices]
        place = np.minimum(np.searchsorted(known, block), len(known) - 1)
        if not (matches := known[place] == block).all():
            foreign.update(np.unique(block[~matches]).tolist())
        indices[slices] = order[place]
    return indices, np.asarray(sorted(foreign))


def choose_classes(dataset: Dataset, counts: ValueCounts) -> Classes:
    """Find out what the classes are; `counts` has the labels that could be read."""
    chosen = (
        _of_objects(dataset, counts)
        if dataset.instances
        else _declared(dataset.classes, counts)
        if dataset.classes
        else _found(dataset.root, counts)
    )
    empty = [label for label, found in counts.items() if set(found) == {chosen.values[0]}]
    if counts and len(empty) == len(counts):
        expected = "voxels of at least one other class"
        chosen.problems.append(
            Problem(
                str(dataset.root),
                f"labels that are all background (value {chosen.values[0]})",
                expected,
                "Give labels in which something is marked.",
            )
        )
    elif empty:
        chosen.notes.append(f"{_some(empty)}: nothing but background in the label")
    return chosen


def _of_objects(dataset: Dataset, counts: ValueCounts) -> Classes:
    medical = any(is_medical(path) for case in dataset.cases[:1] for path in case.images)
    return Classes(("background", "foreground"), (0, 1 if medical else 255), _negative(counts))


def _declared(declared: dict[int, str], counts: ValueCounts) -> Classes:
    values = tuple(sorted(declared))
    problems = []
    for label, found in counts.items():
        foreign = sorted(set(found) - set(values))
        if foreign:
            got = f"{_numbers('the value', foreign)} in {sum(found[value] for value in foreign)} voxels"
            problems.append(
                Problem(
                    label,
                    got,
                    f"the declared classes {_listed(values)}",
                    "Correct the label, or declare the class in dataset.json.",
                )
            )
    absent = [declared[value] for value in values if not any(value in found for found in counts.values())]
    notes = [f"declared classes that no label has: {', '.join(absent)}"] if absent and counts and not problems else []
    return Classes(tuple(declared[value] for value in values), values, problems, notes)


def _found(root: Path, counts: ValueCounts) -> Classes:
    """Classes from the values themselves. 0 is the background, whether a label has it or not."""
    problems = [*_negative(counts), *_interpolated(counts), *_crowded(root, counts)]
    odd = {problem.where for problem in problems}
    sound = {label: found for label, found in counts.items() if label not in odd}
    values = sorted({0, *(value for found in sound.values() for value in found)})[:MAX_CLASSES]
    problems += _mixed_scales(root, sound, values)
    if len(values) == 1:
        return Classes(("background", "foreground"), (0, 255), problems)
    names = (
        ("background", "foreground")
        if values in ([0, 1], [0, 255])
        else ("background", *(f"class_{value}" for value in values[1:]))
    )
    return Classes(names, tuple(values), problems, _single_occurrences(sound))


def _crowded(root: Path, counts: ValueCounts) -> list[Problem]:
    """More values than classes: each label of which that is true where these are few, else the whole data set."""
    action = "Objects belong into a folder named instances; a resized label is to be made anew with nearest neighbour; so many classes are declared in a dataset.json."
    crowded = {label: set(found) for label, found in counts.items() if len(found) > MAX_CLASSES}
    together = {value for found in counts.values() for value in found}
    if len(together) <= MAX_CLASSES:
        return []
    groups = crowded if 0 < len(crowded) <= len(counts) / 2 else {str(root): together}
    return [
        Problem(
            where,
            f"{len(found)} different label values, {min(found)} to {max(found)}",
            f"at most {MAX_CLASSES} classes",
            action,
        )
        for where, found in groups.items()
    ]


def _single_occurrences(counts: ValueCounts) -> list[str]:
    """Values that only one label of many has: stray voxels make classes of their own."""
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


def _negative(counts: ValueCounts) -> list[Problem]:
    return [
        Problem(
            label,
            _numbers("the label value", [value for value in found if value < 0]),
            "values from 0",
            "Give these voxels the number of a class.",
        )
        for label, found in counts.items()
        if min(found) < 0
    ]


def _interpolated(counts: ValueCounts) -> list[Problem]:
    action = "Make the label anew with nearest-neighbour resizing, and save it as PNG, not JPEG; if each value is one object, name the folder instances."
    return [
        Problem(
            label,
            f"{len(found)} different label values from {min(found)} to {max(found)}, most of them rare",
            "0 and 255, 0 and 1, or a class index each",
            action,
        )
        for label, found in counts.items()
        if _looks_interpolated(found)
    ]


def _looks_interpolated(found: Mapping[int, int]) -> bool:
    """Dark and bright voxels with a few of many values between: the edges of a mask that was resized or saved as JPEG.

    Where the values are classes or objects, those in the middle have more voxels together than the highest few.
    """
    highest = max(found)
    if len(found) < 6 or highest < 128:
        return False
    dark = sum(voxels for value, voxels in found.items() if value <= 16)
    bright = sum(voxels for value, voxels in found.items() if value >= highest - 16)
    between = sum(found.values()) - dark - bright
    return between < bright and between < 0.2 * (dark + bright)


def _mixed_scales(root: Path, counts: ValueCounts, values: list[int]) -> list[Problem]:
    """0/1 in some files and 0/255 in others: foreground would become two classes."""
    if values != [0, 1, 255]:
        return []
    ones = [label for label, found in counts.items() if 1 in found]
    full = [label for label, found in counts.items() if 255 in found]
    if set(ones) & set(full):
        return []
    rare, usual, value = (ones, full, 1) if len(ones) < len(full) else (full, ones, 255)
    got, expected = (
        f"foreground as {value} in {len(rare)} labels ({_some(rare)})",
        f"{256 - value}, as in the other {len(usual)}",
    )
    return [Problem(str(root), got, expected, "Save all labels with the same two values.")]


def _numbers(noun: str, values: list[int]) -> str:
    return f"{noun}{'s' * (len(values) > 1)} {_listed(values)}"


def _listed(values: tuple[int, ...] | list[int]) -> str:
    return ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")


def _some(labels: list[str]) -> str:
    names = [Path(label).name for label in labels[:3]]
    return ", ".join(names) + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")
