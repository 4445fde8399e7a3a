"""Meaning of two folders of labels that are compared: references, and segmentations of any program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from unetpp.errors import DataError, Problem
from unetpp.labels import gray
from unetpp.labels.classes import Classes
from unetpp.labels.encoding import half
from unetpp.labels.find_meaning import find_meaning
from unetpp.labels.meaning import FOREGROUND, MAX_CLASSES, Declared, Files, Meaning
from unetpp.labels.numbers import find_objects
from unetpp.labels.views import scale_of
from unetpp.plan import LabelPlan

MASK_VALUES = (0, 255)
"""Values that only a mask has; 0 and 1 may also be the first of several classes."""
_BY_CONTENT = ("colors", "segments", "channels")
"""Kinds whose files say more than numbers."""


@dataclass(frozen=True)
class Recorded:
    """What `unetpp predict` recorded of its segmentations."""

    classes: Classes
    plan: LabelPlan
    """Meaning of the labels that its model was trained on."""


@dataclass
class Match:
    """How to read both sides, so that a class has the same index in both."""

    reference: LabelPlan
    reference_classes: Classes
    prediction: LabelPlan
    prediction_classes: Classes
    problems: list[Problem] = field(default_factory=list)
    """Problems of single references, which cannot be compared."""
    notes: list[str] = field(default_factory=list)


def match_labels(references: Files, predictions: Files, declared: Declared, recorded: Recorded | None) -> Match:
    """Find how to read references and segmentations; the references decide.

    Args:
        references: what each reference shows.
        predictions: what each segmentation shows.
        declared: what is known of the references.
        recorded: what is known of the segmentations; None: nothing.

    Returns:
        How to read both sides.

    Raises:
        DataError: what stays ambiguous, as a question.
    """
    found = find_meaning(references, declared)
    if recorded is not None:
        match = _match_recorded(found, recorded, references, predictions, declared)
    elif _is_plain_mask(predictions, MASK_VALUES) and _may_be_foreground(found, declared):
        match = _match_foreground(found, FOREGROUND, predictions)
    else:
        _raise_questions(found, references)
        match = _match_undeclared(found, references, predictions, declared)
    match.problems += [_for_evaluate(problem) for problem in found.problems if problem.where in references]
    if found.plan.kind != "classes" or found.plan.ignore is not None:
        match.notes.insert(0, f"references: {found.line}")
    match.notes += [f"references: {note}" for note in found.notes]
    return match


def _raise_questions(found: Meaning, references: Files) -> None:
    """Raise the problems of all references together; all of them may be background."""
    of_all = [problem for problem in found.problems if problem.where not in references]
    questions = [_for_evaluate(problem) for problem in of_all if "all background" not in problem.got]
    if questions:
        raise DataError(questions)


def _match_undeclared(found: Meaning, references: Files, predictions: Files, declared: Declared) -> Match:
    if found.plan.kind in _BY_CONTENT:
        return _match_by_content(found, references, predictions, declared)
    if len(found.classes.values) == 2:
        return _match_two(found, predictions, declared)
    return _match_values(found, predictions, declared)


def _for_evaluate(problem: Problem) -> Problem:
    return replace(problem, action=problem.action.replace("`data.labels=", "`labels="))


def _match_recorded(
    found: Meaning, recorded: Recorded, references: Files, predictions: Files, declared: Declared
) -> Match:
    """Read segmentations by their record, and references as the model was trained on them."""
    classes, plan = recorded.classes, recorded.plan
    if found.plan.kind == "colors" and found.plan.colors is None and plan.kind != "colors":
        _raise_questions(found, references)
    ours = classes
    values = _foreground_values(predictions)
    two = len(classes.values) == 2 and classes.values[0] == 0
    if two and len(values) == 1 and values <= {1, 255, classes.values[1]}:
        ours = replace(classes, values=(0, *values))
    if two and len(found.classes.values) == 2 and plan.ignore not in found.classes.values:
        return Match(found.plan, replace(classes, values=found.classes.values), LabelPlan(), ours)
    if two and (declared.objects or plan.kind == "objects" or classes.values == MASK_VALUES):
        return _match_foreground(found, classes.names, predictions)
    content = {"colors": "colors", "segments": "segments", "channels": "channels"}.get(plan.kind)
    if declared.plan is None and content and any(getattr(facts, content) for facts in references.values()):
        return Match(plan, replace(classes, ignore=plan.ignore), LabelPlan(), ours)
    if found.plan.kind in _BY_CONTENT:
        _raise_questions(found, references)
        if len(found.classes.names) == len(classes.names):
            same = found.classes.names == classes.names
            notes = [] if same else ["classes of both sides are compared in their order, because their names differ"]
            return Match(found.plan, found.classes, LabelPlan(), ours, notes=notes)
        raise _differ(declared.where, found.classes, classes)
    ignore = next((value for value in (found.plan.ignore, plan.ignore) if value not in (None, *classes.values)), None)
    kept = LabelPlan(ignore=ignore, inverted=found.plan.inverted)
    return Match(kept, replace(classes, ignore=ignore), LabelPlan(), ours)


def _differ(where: str, expected: Classes, got: Classes) -> DataError:
    texts = (", ".join(classes.names) for classes in (got, expected))
    action = "Predict with a model of these classes, or say with `labels` what the references hold."
    return DataError(Problem(where, f"segmentations of {next(texts)}", next(texts), action))


def _match_foreground(found: Meaning, names: Sequence[str], predictions: Files) -> Match:
    """Compare masks with references of several values, all of which are foreground."""
    plan = LabelPlan(kind="objects", ignore=found.plan.ignore)
    classes = Classes((names[0], names[1]), (0, max(_foreground_values(predictions), default=1)))
    notes = []
    if found.plan.kind != "objects":
        notes = ["references have several values above 0; all of them count as foreground, as in the segmentations"]
    return Match(plan, classes, LabelPlan(), classes, notes=notes)


def _match_by_content(found: Meaning, references: Files, predictions: Files, declared: Declared) -> Match:
    """Compare with references of colors, named segments or channels."""
    kind = found.plan.kind
    if all(facts.colors or facts.segments or facts.channels for facts in predictions.values()):
        both = find_meaning({**references, **predictions}, declared)
        if both.problems:
            raise DataError([_for_evaluate(problem) for problem in both.problems])
        return Match(both.plan, both.classes, both.plan, both.classes)
    if len(found.classes.names) == 2:
        return _match_two(found, predictions, declared)
    plain = {value for facts in predictions.values() for value in facts.values}
    if plain <= {*found.classes.values}:
        notes = [f"values of the segmentations are taken as the classes of the references by {kind}, in their order"]
        return Match(found.plan, found.classes, LabelPlan(), found.classes, notes=notes)
    got, action = f"segmentations of other values ({len(plain)})", "Save both in one way."
    raise DataError(Problem(declared.where, got, f"{kind}, as in the references", action))


def _match_two(found: Meaning, predictions: Files, declared: Declared) -> Match:
    """Compare segmentations of any program with references of background and foreground."""
    classes, notes = found.classes, []
    values = _foreground_values(predictions)
    plain = all(len(facts.values - {0}) <= 1 and not facts.fractions for facts in predictions.values())
    if plain and (len(values) <= 1 or found.plan.kind != "classes"):
        ours = LabelPlan(kind="objects")
    elif any(facts.colors and facts.is_color for facts in predictions.values()):
        both = find_meaning(predictions, Declared(declared.where, mask_value=declared.mask_value))
        if both.problems or len(both.classes.values) != 2:
            raise _differ(declared.where, found.classes, both.classes)
        ours = both.plan
    elif (mask := gray.find_mask(predictions, declared)) is not None and not mask.problems:
        ours, notes = mask.plan, [f"segmentations: {mask.line}"]
    elif (objects := find_objects(predictions, declared)) is not None and not objects.problems:
        ours, notes = objects.plan, [f"segmentations: {objects.line}"]
    elif _are_probabilities(predictions):
        cut = half(scale_of(max(facts.highest for facts in predictions.values())))
        ours = LabelPlan(kind="binary", cut=cut)
        notes = [f"segmentations: taken for probabilities, {gray.describe_cut(cut)}"]
    elif found.plan.kind == "classes":
        return _match_values(found, predictions, declared)
    else:
        got = f"segmentations of {len(values)} values above 0"
        action = 'Give masks; or say with `labels="classes"` that the references hold classes.'
        raise DataError(Problem(declared.where, got, "background and foreground, as in the references", action))
    return Match(found.plan, classes, ours, Classes(classes.names, (0, 1)), notes=notes)


def _are_probabilities(predictions: Files) -> bool:
    """Tell whether segmentations have more values than classes can be, from 0 to the end of a range."""
    several = any(facts.fractions or len(facts.counts) > MAX_CLASSES for facts in predictions.values())
    together = {value for facts in predictions.values() for value in facts.values}
    return (several or len(together) > MAX_CLASSES) and all(facts.lowest >= 0 for facts in predictions.values())


def _match_values(found: Meaning, predictions: Files, declared: Declared) -> Match:
    """Compare by value: every value of either side is a class."""
    got = {value for facts in predictions.values() for value in facts.values}
    ignore = found.plan.ignore
    known = dict(zip(found.classes.values, found.classes.names, strict=True))
    values = sorted({0, *got, *known} - {ignore})
    many = any(facts.fractions or facts.overflows for facts in predictions.values())
    crowded = declared.classes is None and len(values) > max(MAX_CLASSES, 2 * len(known))
    if found.plan.kind != "classes" or crowded or many:
        several = "fractions" if many else f"{len(got)} different values"
        action = "Save the number of a class for each voxel; probabilities of several classes cannot be compared."
        raise DataError(Problem(declared.where, f"segmentations of {several}", f"{len(known)} classes", action))
    if len(values) == 2:
        names: tuple[str, ...] = found.classes.names if len(known) == 2 else FOREGROUND
    else:
        named: Mapping[int, str] = known if len(known) > 2 or declared.classes else {}
        names = tuple(named.get(value, f"class_{value}" if value else FOREGROUND[0]) for value in values)
    classes = Classes(names, tuple(values))
    foreground = [{*some} - {0, ignore} for some in (got, known)]
    notes = []
    if all(foreground) and foreground[0].isdisjoint(foreground[1]):
        notes = ["no value of the segmentations occurs in the references: are the classes of both numbered alike?"]
    return Match(found.plan, replace(classes, ignore=ignore), LabelPlan(), classes, notes=notes)


def _may_be_foreground(found: Meaning, declared: Declared) -> bool:
    """Tell whether all values above 0 may be foreground: several classes, or what may be objects."""
    if declared.plan is not None:
        return False
    asked = any("values" in problem.got and problem.where == declared.where for problem in found.problems)
    several = found.plan.kind == "classes" and len(found.classes.values) > 2
    return several or (asked and found.plan.kind in ("objects", "classes"))


def _is_plain_mask(files: Files, values: tuple[int, ...]) -> bool:
    return all(facts.values <= {*values} and not facts.fractions and not facts.is_color for facts in files.values())


def _foreground_values(files: Files) -> set[int]:
    return {value for facts in files.values() for value in facts.values if value}
