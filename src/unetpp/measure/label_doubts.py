"""Cases that look mislabeled: a network that has not seen a case is sure of it, and its label says something else.

Each case of a run is predicted by the fold that was trained without it. Its confidence, by the calibration on all of
these cases, says what Dice to expect; where the Dice against the label is far lower, one of the two is wrong, and a
person has to look which. (The idea of confident learning, Northcutt et al. 2021, for segmentations.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from unetpp.measured import ScoredCase
from unetpp.run_folder import FoldName

SMALLEST_GAP = 0.15
"""Least difference of Dice that is worth a look."""
ERRORS = 3.0
"""The same, as a multiple of the usual error of what is expected."""
MOST = 24
"""Number of cases that are listed."""


@dataclass(frozen=True)
class LabelDoubt:
    """A case whose label may be wrong."""

    fold: FoldName
    """The fold that has not seen it."""
    id: str
    dice: float
    """Against its label."""
    expected_dice: float

    @property
    def gap(self) -> float:
        """How much lower the Dice is than expected."""
        return self.expected_dice - self.dice


def find_label_doubts(scored: Iterable[tuple[FoldName, ScoredCase]]) -> list[LabelDoubt]:
    """Find the cases whose labels should be looked at, those with the largest gap first.

    Args:
        scored: the validation cases of each fold. Cases without a Dice or without an expected one say nothing.
    """
    known = [
        LabelDoubt(fold, case.id, case.mean.dice, case.expected_dice)
        for fold, case in scored
        if case.mean.dice is not None and case.expected_dice is not None
    ]
    if not known:
        return []
    usual = sorted(abs(each.gap) for each in known)[
        (len(known) - 1) // 2
    ]  # the median: what is sought shall not raise it
    limit = max(SMALLEST_GAP, ERRORS * usual)
    return sorted((each for each in known if each.gap >= limit), key=lambda each: -each.gap)[:MOST]
