"""Decision on the meaning of a set of label files: from what is declared or most certain to plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from unetpp.errors import Problem
from unetpp.labels import colors, gray, inversion, numbers
from unetpp.labels.classes import Classes
from unetpp.labels.counts import count_classes
from unetpp.labels.meaning import FOREGROUND, Declared, Files, Meaning, list_files, some_of
from unetpp.plan import LabelPlan
from unetpp.words import merge_remarks


def find_meaning(files: Files, declared: Declared) -> Meaning:
    """Find what the values of a set of label files mean.

    Args:
        files: what each file shows.
        declared: what is known of them.

    Returns:
        Their meaning, problems and notes. With problems, the meaning may be wrong.
    """
    undefined = [
        Problem(name, f"{facts.undefined} label values that are NaN or infinite", "whole numbers", "Correct the label.")
        for name, facts in files.items()
        if facts.undefined
    ]
    files = {name: facts for name, facts in files.items() if not facts.undefined}
    found = _decide(files, declared)
    found.problems = [*undefined, *found.problems]
    found.notes += merge_remarks((Path(name).name, note) for name, facts in files.items() for note in facts.notes)
    if not found.problems:
        _look_for_uniform_labels(files, found, declared.where)
    found.problems = [replace(problem, topic=problem.topic or "labels") for problem in found.problems]
    return found


def _decide(files: Files, declared: Declared) -> Meaning:
    """Choose the kind of labels, from the most certain to the least."""
    plan = declared.plan
    if plan is None and declared.objects:
        plan = LabelPlan(kind="objects", ignore=declared.ignore)
    if plan is None and declared.united:
        plan = LabelPlan(kind="binary")
    kind = plan.kind if plan is not None else None
    segmented = [name for name, facts in files.items() if facts.segments]
    are_declared = {name for each in segmented for name in files[each].segments} <= {*(declared.classes or {}).values()}
    if kind == "segments" or (kind is None and segmented and (not declared.classes or are_declared)):
        return _use_segments(files, declared, segmented)
    several = {name: len(facts.channels) for name, facts in files.items() if facts.channels}
    if several or kind == "channels":
        return _use_channels(files, declared, several)
    if plan is not None and plan.kind in ("binary", "objects"):
        return _use_two(files, declared, plan)
    if kind == "colors" or (kind is None and colors.must_compare(files)):
        return colors.use_colors(files, plan, declared)
    return _use_numbers(files, declared, plan)


def _use_segments(files: Files, declared: Declared, segmented: list[str]) -> Meaning:
    """Go by the names in the headers."""
    lists = {tuple(files[name].segments) for name in segmented}
    listed = (
        *(name for _, name in sorted((declared.classes or {}).items())),
        *(name for some in sorted(lists) for name in some),
    )
    names = list(dict.fromkeys(name for name in listed if name != FOREGROUND[0]))
    expected, problems, notes = "names of segments, as the other labels have", [], []
    for name, facts in files.items():
        if not facts.segments and facts.values != {0}:
            action = 'Add them, or use `data.labels="classes"` for all files.'
            problems.append(Problem(name, "a header without names of segments", expected, action))
        elif facts.unnamed:
            got = f"{facts.unnamed} voxels of values that no segment has"
            problems.append(Problem(name, got, expected, "Name them in the header."))
    if not names:
        problems.append(Problem(declared.where, "no segments", "at least one", "Give labels with segments."))
    if overlapping := [name for name in segmented if files[name].overlap]:
        notes.append(f"{list_files(overlapping)}: segments overlap; where they do, the later one counts")
    classes = Classes((FOREGROUND[0], *(names or FOREGROUND[1:])), tuple(range(max(2, len(names) + 1))))
    line = f"classes by the names of segments in {some_of(len(segmented), len(files))}"
    return Meaning(LabelPlan(kind="segments"), classes, line, problems, notes)


def _use_channels(files: Files, declared: Declared, several: Mapping[str, int]) -> Meaning:
    """Take each channel as one class."""
    expected, problems = "one channel for each class", []
    count = max(several.values(), default=1)
    for name, facts in files.items():
        if len(facts.channels) != count:
            got = f"{max(1, len(facts.channels))} channels"
            action = "Give all labels the same channels."
            problems.append(Problem(name, got, f"{count}, {expected}, as other labels have", action))
        elif facts.fractions or facts.lowest < 0:
            action = "Save one number for each class in a single channel."
            problems.append(Problem(name, f"{count} channels of several values", f"{expected}, 0 and 1", action))
        elif facts.overlap:
            action = "Give each voxel one class, or save one number for each class in a single channel."
            got = f"{facts.overlap} voxels that are set in several of {count} channels"
            problems.append(Problem(name, got, f"{expected}, without overlap", action))
    with_background = bool(files) and all(facts.uncovered == 0 for facts in files.values())
    number = count if with_background else count + 1
    names = [f"class_{place}" for place in range(1, number)]
    if declared.classes and len(declared.classes) == number:
        names = [declared.classes[value] for value in sorted(declared.classes)][1:]
    classes = Classes((FOREGROUND[0], *names), tuple(range(number)))
    line = f"{count} channels, one for each class{', the first is the background' if with_background else ''}"
    return Meaning(LabelPlan(kind="channels"), classes, line, problems)


def _use_two(files: Files, declared: Declared, plan: LabelPlan) -> Meaning:
    """Take labels as background and foreground, as the user or the layout says."""
    names: tuple[str, ...] = FOREGROUND
    if declared.classes and len(declared.classes) == 2:
        names = tuple(declared.classes[value] for value in sorted(declared.classes))
    ignore = declared.ignore if plan.ignore is None else plan.ignore
    plan = plan.model_copy(update={"ignore": ignore})
    line = "objects: every value above 0 is foreground"
    if plan.kind == "binary":
        plan = plan.model_copy(update={"cut": plan.cut or gray.choose_cut(files)})
        line = f"binary, {gray.describe_cut(plan.cut)}"
    classes = Classes(names, (0, declared.mask_value), ignore)
    return Meaning(plan, classes, line, numbers.find_negative(files, ignore))


def _use_numbers(files: Files, declared: Declared, plan: LabelPlan | None) -> Meaning:
    inverted, problems = (plan.inverted, []) if plan else inversion.choose_inversion(files, declared.where)
    if inverted:
        files = {name: inversion.invert(facts) for name, facts in files.items()}
    ignore = declared.ignore if plan is None or plan.ignore is None else plan.ignore
    if declared.classes is not None:
        found = numbers.use_declared(files, declared.classes, ignore)
    else:
        mask = None if plan else gray.find_mask(files, declared)
        found = mask or numbers.derive_classes(files, declared, ignore, by_user=plan is not None)
    line, tagged = found.line, sum(facts.is_inverted for facts in files.values())
    if tagged:
        taken = "inverted" if inverted else "as stored"
        line += f"; {taken} where the header says that 0 is white ({some_of(tagged, len(files))})"
    if in_alpha := sum(facts.in_alpha for facts in files.values()):
        line += f"; the transparency is the mask in {some_of(in_alpha, len(files))}"
    plan = found.plan.model_copy(update={"inverted": inverted})
    return replace(found, plan=plan, line=line, problems=[*problems, *found.problems])


def _look_for_uniform_labels(files: Files, found: Meaning, where: str) -> None:
    """Report labels that have nothing but background, or no background at all."""
    counts = {name: count_classes(facts, found) for name, facts in files.items()}
    empty = [name for name, of_class in counts.items() if sum(of_class) == of_class[0]]
    if counts and len(empty) == len(counts):
        got, expected = f"labels that are all background (value {found.classes.values[0]})", "voxels of another class"
        found.problems.append(Problem(where, got, expected, "Give labels in which something is marked."))
    elif empty:
        found.notes.append(f"{list_files(empty)}: nothing but background in the label")
    full = [name for name, of_class in counts.items() if sum(of_class) and max(of_class[1:]) == sum(of_class)]
    if full:
        found.notes.append(f"{list_files(full)}: nothing but one foreground class in the label; is it the right file?")
