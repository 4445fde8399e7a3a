"""Files whose header says that 0 is white: whether their numbers are inverted, as scanners store them."""

from __future__ import annotations

from dataclasses import replace

from unetpp.errors import Problem
from unetpp.labels.facts import LabelFacts
from unetpp.labels.meaning import Files, some_of


def choose_inversion(files: Files, where: str) -> tuple[bool, list[Problem]]:
    """Choose whether to invert the numbers of files with the tag.

    ImageJ writes the tag for a display with inverted colors and stores objects as 255; others store them as 0. Borders
    of masks are mostly background, which tells the two.

    Args:
        files: what each file shows.
        where: name of the data set in problems.

    Returns:
        Whether to invert, and a problem where that is not certain.
    """
    tagged = [facts.bright_border > 0.5 for facts in files.values() if facts.is_inverted and len(facts.counts) > 1]
    others = [facts.bright_border > 0.5 for facts in files.values() if not facts.is_inverted and len(facts.counts) > 1]
    if not tagged or not any(tagged):
        return False, []
    if all(tagged) and not any(others):
        return True, []
    got = f"labels whose header says that 0 is white ({some_of(len(tagged), len(files))}), with bright and dark borders"
    action = 'Use `data.labels="classes,inverted"` to invert them, or `data.labels="classes"` to take them as stored.'
    return False, [Problem(where, got, "one meaning of 0", action)]


def invert(facts: LabelFacts) -> LabelFacts:
    """Invert the counted values of a file with the tag."""
    if not facts.is_inverted or not facts.counts:
        return facts
    top = facts.white
    counts = {top - value: voxels for value, voxels in sorted(facts.counts.items(), reverse=True)}
    return replace(facts, counts=counts, lowest=top - facts.highest, highest=top - facts.lowest)
