"""Voxels of each class in a label, by the meaning of its values."""

from __future__ import annotations

from unetpp.labels.encoding import half, nearest_classes
from unetpp.labels.facts import LabelFacts
from unetpp.labels.inversion import invert
from unetpp.labels.meaning import Meaning
from unetpp.labels.views import scale_of
from unetpp.plan import LabelPlan


def count_classes(facts: LabelFacts, meaning: Meaning) -> list[int]:
    """Count the voxels of each class in a label; ignored ones are left out."""
    plan, classes = meaning.plan, meaning.classes
    if facts.segments and plan.kind == "segments":
        counts = [facts.segments.get(name, 0) for name in classes.names]
        return [max(0, facts.voxels - sum(counts[1:])), *counts[1:]]
    if facts.channels:
        with_background = len(classes.names) == len(facts.channels)
        return [*facts.channels] if with_background else [facts.uncovered, *facts.channels]
    if plan.kind == "colors" and plan.colors and facts.colors:
        counts = [0] * len(plan.colors)
        for index, voxels in zip(nearest_classes(facts.colors, plan), facts.colors.values(), strict=True):
            if index < len(counts):
                counts[index] += voxels
        return counts
    facts = invert(facts) if plan.inverted else facts
    if plan.kind in ("binary", "objects"):
        return _count_two(facts, plan)
    return [facts.counts.get(value, 0) for value in classes.values]


def _count_two(facts: LabelFacts, plan: LabelPlan) -> list[int]:
    if plan.kind == "objects" and plan.ignore is None:
        background = facts.counts.get(0, 0)
        return [background, facts.voxels - background]
    if facts.fractions or facts.overflows:
        looked_at = facts.outlines
        share = looked_at.above_half / looked_at.voxels if looked_at else 1.0
        above = int(share * facts.voxels)
        return [facts.voxels - above, above]
    counts = facts.look_through_palette() if plan.kind == "binary" else facts.counts
    cut = 1 if plan.kind == "objects" else plan.cut or half(scale_of(facts.highest))
    ignored = counts.get(plan.ignore, 0) if plan.ignore is not None else 0
    above = sum(voxels for value, voxels in counts.items() if value >= cut and value != plan.ignore)
    return [facts.voxels - above - ignored, above]
