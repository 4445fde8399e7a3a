"""Labels whose values are numbers of classes or of objects, declared or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from unetpp.errors import Problem
from unetpp.labels.classes import Classes
from unetpp.labels.facts import NOISE_FROM
from unetpp.labels.gray import add_outlines, has_gray_outlines, is_jpeg
from unetpp.labels.meaning import FOREGROUND, MAX_CLASSES, MOST_CLASSES, Declared, Files, Meaning, list_files, some_of
from unetpp.plan import LabelPlan

_MANY = 5
"""Least number of labels for a note about a value that only one of them has."""
_FAR = 99
"""From this number on, a single one beyond classes that are numbered in order may stand for unknown."""
_VOID = 0xE0E0C0
"""Color of voxels that nobody labeled in PASCAL VOC."""
_CHOICES = (
    'If values number objects, name the folder instances, or use `data.labels="objects"`; for a mask with soft edges, '
    '`data.labels="binary"`; if a label was resized, resize it again with nearest neighbor; if these are classes, '
    '`data.labels="classes"`, or declare them in a dataset.json.'
)


def use_declared(files: Files, classes: Mapping[int, str], ignore: int | None) -> Meaning:
    """Take the declared classes, and report other values.

    Args:
        files: what each file shows.
        classes: names by value.
        ignore: value of voxels that nobody labeled.

    Returns:
        The declared meaning.
    """
    values = tuple(sorted(classes))
    problems, expected = _find_fractions(files), f"the declared classes {_list_values(values)}"
    known = {*values, ignore}
    for name, facts in files.items():
        if foreign := sorted(facts.values - known):
            got = f"{_name_values(foreign)} in {sum(facts.counts[value] for value in foreign)} voxels"
            action = "Correct the label, or declare the class in dataset.json."
            problems.append(Problem(name, got, expected, action))
    absent = [classes[value] for value in values if not any(value in facts.counts for facts in files.values())]
    notes = [f"declared classes that no label has: {', '.join(absent)}"] if absent and files and not problems else []
    names = tuple(classes[value] for value in values)
    plan = LabelPlan(ignore=ignore)
    return Meaning(
        plan, Classes(names, values, ignore), "the declared classes" + _describe_ignored(ignore), problems, notes
    )


def derive_classes(files: Files, declared: Declared, ignore: int | None, by_user: bool) -> Meaning:
    """Derive classes from the values; 0 is the background, even if no label has it.

    Args:
        files: what each file shows.
        declared: what is known of them.
        ignore: value of voxels that nobody labeled.
        by_user: the user says that values are classes.

    Returns:
        Classes, or objects, or the question which of them.
    """
    problems = [*find_negative(files, ignore), *_find_fractions(files)]
    if not by_user:
        if (objects := find_objects(files, declared)) is not None:
            return objects
        problems += _find_resized(files) or _find_blended(files, declared.where)
        if ignore is None:
            ignore, doubt = _find_unknown(files, declared.where)
            problems += doubt
        problems += _find_no_zero(files, declared.where)
    odd = {problem.where for problem in problems}
    sound = {name: facts for name, facts in files.items() if name not in odd}
    most = MOST_CLASSES if by_user else MAX_CLASSES
    crowded = _find_crowded(declared.where, sound, most)
    problems += crowded or ([] if by_user else _find_blurred(sound, declared.where))
    values = sorted({0, *(value for facts in sound.values() for value in facts.values)} - {ignore})[: most + 1]
    line, plan = "classes by value" + _describe_ignored(ignore), LabelPlan(ignore=ignore)
    if len(values) == 1 or len(values) > most:
        return Meaning(plan, Classes(FOREGROUND, (0, declared.mask_value), ignore), line, problems)
    if len(values) == 2:
        line = f"background 0, foreground {values[1]}" + _describe_ignored(ignore)
    names = FOREGROUND if len(values) == 2 else (FOREGROUND[0], *(f"class_{value}" for value in values[1:]))
    notes = [] if problems else [*_note_single_values(sound, ignore), *_note_trimaps(sound, values)]
    return Meaning(plan, Classes(names, tuple(values), ignore), line, problems, notes)


def find_negative(files: Files, ignore: int | None) -> list[Problem]:
    """Report values below 0."""
    problems = []
    for name, facts in files.items():
        if negative := [value for value in facts.counts if value < 0 and value != ignore]:
            action = "Give these voxels the number of a class, or leave them out"
            action += f' with `data.labels="classes,ignore:{negative[0]}"`.' if len(negative) == 1 else "."
            problems.append(Problem(name, f"the label {_name_values(negative)[4:]}", "values from 0", action))
    return problems


def _find_fractions(files: Files) -> list[Problem]:
    action = (
        'Recreate the label with nearest-neighbor resizing; if it is a mask or a probability, `data.labels="binary"` '
        "cuts it at half."
    )
    return [
        Problem(name, f"{facts.fractions} label values that are not whole numbers", "one for each class", action)
        for name, facts in files.items()
        if facts.fractions
    ]


def _find_resized(files: Files) -> list[Problem]:
    """Report single files with gray outlines in a set of classes."""
    action = (
        'Resize the label again with nearest neighbor, and save it as PNG, not JPEG; or use `data.labels="binary"`.'
    )
    got, expected = "gray values along outlines, as compression and resizing leave them", "the number of a class"
    soft = [
        name
        for name, facts in files.items()
        if facts.outlines is not None
        and not facts.palette
        and len(facts.counts) > 5
        and has_gray_outlines(add_outlines({name: facts}), len(facts.counts))
    ]
    return [Problem(name, got, expected, action) for name in soft]


def _find_no_zero(files: Files, where: str) -> list[Problem]:
    """Ask which of two values is the background where all labels have the same two, dark and bright, and no 0."""
    low, *others = sorted({value for facts in files.values() for value in facts.values} or {0})
    if low == 0 or len(others) != 1 or others[0] < NOISE_FROM:
        return []
    cut = others[0] // 2 + 1
    action = f'Use `data.labels="binary:{cut}"` if {others[0]} is the foreground, or `data.labels="classes"`.'
    return [Problem(where, f"{low} and {others[0]} alone, and no 0", "a value for the background", action)]


def _find_blended(files: Files, where: str) -> list[Problem]:
    """Report numbers of classes that compression or interpolation has mixed with those of other classes."""
    several = {name: facts for name, facts in files.items() if len(facts.values) > 2 and not facts.palette}
    if lossy := [name for name in several if is_jpeg(name)]:
        got = (
            f"numbers of classes in {some_of(len(lossy), len(files))} with the compression of JPEG, which changes them"
        )
    else:
        direct, softened = (sum(facts.blend[place] for facts in several.values()) for place in (0, 1))
        if softened < max(20, 0.4 * (direct + softened)):
            return []
        got = "numbers of classes along the outlines of other classes, as resizing with interpolation leaves them"
    action = 'Make the labels anew with nearest neighbor, as PNG; or use `data.labels="classes"` if they are right.'
    return [Problem(where, got, "the number of a class for each voxel", action)]


def _find_blurred(files: Files, where: str) -> list[Problem]:
    """Report several values that occur only along outlines, as resizing and compression leave them between classes."""
    looked_at = [facts for facts in files.values() if facts.outlines is not None and not facts.palette]
    values = {value for facts in files.values() for value in facts.values}
    thin = {value for facts in looked_at for value in facts.thin if value > 0}
    thin = {value for value in thin if all(value in facts.thin for facts in looked_at if value in facts.counts)}
    numbers = values - {255, 65535}  # of voxels that nobody labeled, which may be outlines
    if len(thin) < 2 or numbers == {*range(len(numbers))}:
        return []
    got = f"{len(thin)} values that occur only along outlines ({_list_values(sorted(thin))})"
    action = (
        'Save the labels anew without compression or interpolation; or use `data.labels="classes"` if they are meant, '
        '`data.labels="binary"` for a mask.'
    )
    return [Problem(where, got, "the number of a class for each voxel", action)]


def find_objects(files: Files, declared: Declared) -> Meaning | None:
    """Recognize numbers of objects: each value is one connected piece in nearly every file."""
    looked_at = {name: facts for name, facts in files.items() if facts.pieces is not None}
    values = {value for facts in files.values() for value in facts.values if value}
    usual = sum(1 for facts in files.values() if facts.values - {0}) / 2
    if len(values) < 4 or len(looked_at) < max(1, usual) or any(facts.lowest < 0 for facts in files.values()):
        return None
    pieces = [facts.pieces for facts in looked_at.values() if facts.pieces is not None]
    many, single = (sum(number) for number in zip(*((each.looked_at, each.single) for each in pieces), strict=True))
    voxels = sum(facts.voxels - facts.counts.get(0, 0) for facts in looked_at.values())
    objects = sum(len(facts.values - {0}) for facts in looked_at.values())
    if many < 8 or single < 0.6 * many or voxels < 4 * objects:
        return None
    if _have_places([{value: each.centers[value] for value in each.centers} for each in pieces]):
        return None
    numbered = [facts.values - {0} for facts in looked_at.values()]
    in_order = sum(found == {*range(1, len(found) + 1)} for found in numbered) >= 0.9 * len(numbered)
    varies = len({len(found) for found in numbered}) > 1
    line = f"objects: each value is one connected piece in {some_of(len(looked_at), len(files))}"
    found = Meaning(
        LabelPlan(kind="objects", ignore=declared.ignore),
        Classes(FOREGROUND, (0, declared.mask_value), declared.ignore),
        f"{line}; all of them are foreground",
    )
    are_pieces = single >= 0.9 * many
    if are_pieces and (len(values) > 20 or (in_order and varies and len(values) > 5)):
        return found
    few = len(values) <= 20
    if (few and not in_order and sorted(values)[-2] <= MAX_CLASSES and len(files) > 1) or (not are_pieces and few):
        return None
    if not (are_pieces or in_order):
        return None
    most = "" if are_pieces else ", most of them,"
    got = f"values up to {max(values)} that are one connected piece each{most} in {some_of(len(looked_at), len(files))}"
    action = 'Name the folder instances, or use `data.labels="objects"`; for classes, use `data.labels="classes"`.'
    found.problems = [Problem(declared.where, got, "numbers of objects or of classes: both are possible", action)]
    return found


def _have_places(files: Sequence[Mapping[int, tuple[float, ...]]]) -> bool:
    """Tell whether each value has a place of its own in all files, as organs have and objects have not."""
    by_value: dict[int, list[tuple[float, ...]]] = {}
    for centers in files:
        for value, center in centers.items():
            by_value.setdefault(value, []).append(center)
    repeated = [np.asarray(found) for found in by_value.values() if len(found) > 2]
    if not repeated:
        return False
    every = np.concatenate(repeated)
    within = np.concatenate([found - found.mean(axis=0) for found in repeated])
    spread = every.std(axis=0)
    moving = spread > 0.03
    return bool(moving.any() and (within.std(axis=0)[moving] < 0.4 * spread[moving]).all())


def _find_unknown(files: Files, where: str) -> tuple[int | None, list[Problem]]:
    """Recognize the value of voxels that nobody labeled: 255 (or 65535) beside the numbers of classes."""
    values = {value for facts in files.values() for value in facts.values}
    top = max(values, default=0)
    others = values - {0, top}
    in_order = others == {*range(1, len(others) + 1)}
    if top not in (255, 65535) and (top < _FAR or not in_order):
        return None, []
    if not others or max(others) > MAX_CLASSES:
        return None, []
    colors = {facts.palette.get(top, _VOID) for facts in files.values()}
    is_void = any(facts.palette for facts in files.values()) and colors == {_VOID}
    if is_void or (in_order and top in (255, 65535)):
        return top, []
    got = f"the value {top} beside classes up to {max(others)}"
    action = f'Use `data.labels="classes,ignore:{top}"` to leave these voxels out, or `data.labels="classes"`.'
    return None, [Problem(where, got, "a class, or voxels that nobody labeled: both are possible", action)]


def _describe_ignored(ignore: int | None) -> str:
    return "" if ignore is None else f"; {ignore} is unknown: left out of training and scores"


def _find_crowded(where: str, files: Files, most: int) -> list[Problem]:
    """Find labels with too many values: each one if they are few, otherwise the whole data set."""
    crowded = {name: facts.values for name, facts in files.items() if len(facts.counts) > most or facts.overflows}
    together = {value for facts in files.values() for value in facts.values}
    if len(together) <= most:
        return []
    groups = crowded if 0 < len(crowded) <= len(files) / 2 else {where: together}
    got, expected = "{} different label values, {} to {}", f"at most {most} classes"
    return [
        Problem(place, got.format(len(found), min(found), max(found)), expected, _CHOICES)
        for place, found in groups.items()
    ]


def _note_single_values(files: Files, ignore: int | None) -> list[str]:
    """Note values that only one of many labels has: stray voxels become classes."""
    labels_of: dict[int, list[str]] = {}
    for name, facts in files.items():
        for value in facts.values - {0, ignore}:
            labels_of.setdefault(value, []).append(name)
    if len(files) < _MANY:
        return []
    single = {value: names[0] for value, names in labels_of.items() if len(names) == 1}
    if len(single) > 3:
        some = list_files([*dict.fromkeys(single.values())])
        return [f"{len(single)} values that one label alone has become classes of their own ({some})"]
    return [
        f"{Path(name).name}: the only label with the value {value}, which becomes a class of its own"
        for value, name in sorted(single.items())
    ]


def _note_trimaps(files: Files, values: Sequence[int]) -> list[str]:
    """Note labels that count from 1: their first class may be meant as background, or one of them as unknown."""
    if len(values) < 3 or any(0 in facts.counts for facts in files.values()):
        return []
    text = f"no label has the value 0 (background); {_list_values(values[1:])} are classes, and 0 stays empty"
    return [f'{text}; if {values[-1]} stands for unknown, use `data.labels="classes,ignore:{values[-1]}"`']


def _name_values(values: Sequence[int]) -> str:
    return f"the value{'s' * (len(values) > 1)} {_list_values(values)}"


def _list_values(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:5])) + (", ..." if len(values) > 5 else "")
