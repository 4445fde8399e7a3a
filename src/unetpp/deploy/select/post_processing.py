"""Post-processing, chosen on validation cases and kept only where no class gets worse.

A step is judged by the mean over cases of the Dice of each class or region. What a step does to the counts of voxels
follows from the connected parts, which are found once for all steps of a kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from unetpp.deploy.select.candidates import Counted
from unetpp.deploy.select.scoring import to_counted
from unetpp.deploy.select.study import MIDDLE, THRESHOLDS, CaseStore
from unetpp.labels.classes import find_region
from unetpp.labels.cleaning import Parts, Slices, choose_voxels, find_parts, find_unwanted
from unetpp.metrics.scores import bootstrap_interval, compute_dice_losses, count_pairs, mean_of
from unetpp.progress import Stage
from unetpp.selection import HOLES, LARGEST, SMALLEST, Step, TriedStep

SIZES = (8, 32, 128, 512, 2048)
"""Voxels of the smallest object that are tried."""
LEAST_GAIN = 1e-4
"""Dice that a step must gain, mean over the classes."""
Outcome = list[tuple[Counted, Counted]]
"""Counts of each case without and with a step."""


def choose_thresholds(store: CaseStore) -> tuple[tuple[float, ...], float | None]:
    """Choose the threshold of two classes, or of one region after the other; the store takes them over.

    One is kept where its gain is clear, and no region gets worse in the mean over cases.

    Returns:
        The thresholds, none for more than two classes; and the gain in Dice, None where all stay 0.5.
    """
    total: float | None = None
    for number in range(len(store.written)):
        place, gain = _choose_place(store, number)
        if gain is not None:
            store.places[number], total = place, (total or 0.0) + gain
    return tuple(THRESHOLDS[place] for place in store.places), total


def _choose_place(store: CaseStore, number: int) -> tuple[int, float | None]:
    """Choose the place of one threshold, with its gain in Dice, mean over cases; None where it stays as it is."""
    tried = [[*store.places[:number], place, *store.places[number + 1 :]] for place in range(len(THRESHOLDS))]
    counts: list[list[Counted]] = [[] for _ in tried]
    for case in range(len(store.cases)):
        for found, pair in zip(counts, store.read_at(case, tried), strict=True):
            found.append(count(*pair, store.scored))
    before = counts[store.places[number]]
    gains = [_list_gains(before, after) for after in counts]
    good = [
        place for place, (_, by_region) in enumerate(gains) if all(each is None or each >= -1e-12 for each in by_region)
    ]
    best = max(good, key=lambda place: (mean_of(gains[place][0]) or 0.0, -abs(place - MIDDLE)))
    interval = bootstrap_interval(gains[best][0])
    is_clear = best != store.places[number] and interval is not None and interval[0] > 0
    return best, mean_of(gains[best][0]) if is_clear else None


def _list_gains(before: Sequence[Counted], after: Sequence[Counted]) -> tuple[list[float], list[float | None]]:
    """List the gain in Dice of each case, and the mean gain of each class or region."""
    pairs = [(one.class_dice(), other.class_dice()) for one, other in zip(before, after, strict=True)]
    by_case = compute_dice_losses([each.dice() for each in before], [each.dice() for each in after])
    return [-lost for lost in by_case], _average_gains(pairs)


def _average_gains(pairs: Sequence[tuple[list[float | None], list[float | None]]]) -> list[float | None]:
    """Average the gain of each class or region over cases, of each its Dice before and after."""
    sides = (zip(*side, strict=True) for side in zip(*pairs, strict=True))
    return [mean_of(-lost for lost in compute_dice_losses(*side)) for side in zip(*sides, strict=True)]


def choose_steps(store: CaseStore, names: Sequence[str], show: Stage) -> list[TriedStep]:
    """Try steps one after the other: on the whole foreground, on each class or region, then holes.

    The store takes over the kept.

    Args:
        store: segmentations and references.
        names: those of the foreground classes or regions.
        show: called with (tries done, tries in all).
    """
    scopes = [tuple(scope) for scope in store.scored]
    whole = tuple(range(1, store.classes))
    if all(set(scope) != set(whole) for scope in scopes):
        scopes = [whole, *scopes]
    proposals = [_propose_objects(scope) for scope in scopes]
    proposals += [[Step(kind=HOLES, classes=tuple(scope))] for scope in store.scored]
    tried: list[TriedStep] = []
    for done, steps in enumerate(proposals, start=1):
        found = try_steps(store, steps, names)
        tried += found
        if kept := [each.step for each in found if each.kept]:
            store.clean(kept[0])
        show(done, len(proposals))
    return tried


def _propose_objects(scope: tuple[int, ...]) -> list[Step]:
    return [
        Step(kind=LARGEST, classes=scope),
        *(Step(kind=SMALLEST, classes=scope, voxels=voxels) for voxels in SIZES),
    ]


def try_steps(store: CaseStore, steps: Sequence[Step], names: Sequence[str]) -> list[TriedStep]:
    """Try steps on the same classes, of which the best is kept if it is good for all.

    Returns:
        The best of each kind.
    """
    outcomes: list[Outcome] = [[] for _ in steps]
    for number in range(len(store.cases)):
        found, reference = store.read(number)
        before = count(found, reference, store.scored)
        parts = _find_parts(found, reference, steps[0], store.scored)
        for step, outcome in zip(steps, outcomes, strict=True):
            outcome.append((before, _count_after(before, parts, step, store.scored)))
    judged = [judge_step(step, outcome, names) for step, outcome in zip(steps, outcomes, strict=True)]
    best = max(judged, key=lambda pair: pair[1] if pair[0].kept else -1.0)[0]
    shown = [
        max((pair for pair in judged if pair[0].step.kind == kind), key=lambda pair: pair[1], default=None)
        for kind in (LARGEST, SMALLEST, HOLES)
    ]
    found_steps = [pair[0] for pair in shown if pair]
    return [each if each is best else each.merge(TriedStep(step=each.step, kept=False)) for each in found_steps]


def judge_step(step: Step, outcome: Outcome, names: Sequence[str]) -> tuple[TriedStep, float]:
    """Judge a step: it may be kept if it gains, and no class gets worse in the mean over cases; with its gain.

    Args:
        step: the step.
        outcome: what it does to each case.
        names: those of the foreground classes or regions.
    """
    pairs = [(before.class_dice(), after.class_dice()) for before, after in outcome]
    gains = _average_gains(pairs)
    by_case = [mean_of(-lost for lost in compute_dice_losses(old, new)) for old, new in pairs]
    gain = mean_of(gains) or 0.0
    good = gain >= LEAST_GAIN and all(each is None or each >= -1e-12 for each in gains)
    means = [
        {name: mean_of(values[place] for values in side) for place, name in enumerate(names)}
        for side in zip(*pairs, strict=True)
    ]
    interval = bootstrap_interval([each for each in by_case if each is not None])
    return TriedStep(step=step, before=means[0], after=means[1], gain_interval=interval, kept=good), gain


def _list_changed(step: Step, scored: Sequence[Sequence[int]]) -> list[tuple[int, tuple[int, ...]]]:
    """List what a step changes: the place of a class or region, and the class indices of its voxels that are changed.

    Those are background that becomes of the first class of the step, or voxels of its classes.
    """
    if step.kind == HOLES:
        return [(place, (0,)) for place, indices in enumerate(scored) if step.classes[0] in indices]
    both = [tuple(index for index in indices if index in step.classes) for indices in scored]
    return [(place, indices) for place, indices in enumerate(both) if indices]


def _find_parts(found: np.ndarray, reference: np.ndarray, step: Step, scored: Sequence[Sequence[int]]) -> Parts:
    """Find the parts that steps of one kind look at, with the voxels in them that change, of all that is scored.

    Of each class or region two: what changes, and of that what is of it in the reference.
    """
    choose, solid = choose_voxels(step)

    def mark(changed: Sequence[int], true: Sequence[int] | None) -> Callable[[Slices], np.ndarray]:
        def marked(slices: Slices) -> np.ndarray:
            mask = find_region(found[slices], changed)
            return mask if true is None else mask & find_region(reference[slices], true)

        return marked

    pairs = _list_changed(step, scored)
    marks = [mark(changed, true) for place, changed in pairs for true in (None, scored[place])]
    return find_parts(found, choose, solid, marks)


def _count_after(before: Counted, parts: Parts, step: Step, scored: Sequence[Sequence[int]]) -> Counted:
    """Count voxels after a step, by the parts that it changes."""
    unwanted, sign = find_unwanted(step, parts), 1 if step.kind == HOLES else -1
    predicted, both = before.predicted.copy(), before.both.copy()
    for row, (place, _) in enumerate(_list_changed(step, scored)):
        predicted[place] += sign * int(parts.marked[2 * row][unwanted].sum())
        both[place] += sign * int(parts.marked[2 * row + 1][unwanted].sum())
    return Counted(both, predicted, before.expected)


def count(found: np.ndarray, reference: np.ndarray, scored: Sequence[Sequence[int]]) -> Counted:
    """Count the voxels of each foreground class or region in prediction, reference and both."""
    return to_counted(count_pairs(found, reference, 1 + max(map(max, scored))), scored)
