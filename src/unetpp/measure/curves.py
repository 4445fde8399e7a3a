"""The curves of a training, from the lines of its log and its scores. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from unetpp.dial import has_shells, name_row
from unetpp.model_notes import Metrics
from unetpp.train.log import LogLine
from unetpp.words import count_noun

FEW_CASES = 3
"""Number of cases below which they say little of others."""
VALIDATED_PER_TRAINED = 4
"""Number of validation cases for each training case that is scored during training."""
FEW_STEPS = 100
"""Number of steps below which only a high Dice shows that a network has learned; and, of one that starts from learned
weights, below which nothing does: the learning rate has hardly risen, and the Dice is that of the start."""
LEARNED, LEARNED_EARLY = 0.5, 0.8
"""Validation Dice from which a network has learned; and after few steps."""
ABOVE_TRIVIAL = 0.2
"""Fraction of the way from the Dice of a mask that is foreground everywhere to 1, below which nothing was learned."""
BEHIND = 0.05
"""Dice by which a shallower head is better than the deepest one where that has not learned yet."""


@dataclass(frozen=True)
class Validated:
    """One validation during training."""

    step: int
    dice: float
    loss: float | None = None
    depths: tuple[float, ...] = ()
    """Dice of each head, shallowest first."""
    train_dice: float | None = None
    """Dice of the deepest head on some training cases; logs of earlier versions have none."""


@dataclass(frozen=True)
class Curves:
    """What a log says of a training."""

    steps: int
    seconds: float
    ended: bool
    """Whether the training ended by itself: finished or by patience."""
    validations: tuple[Validated, ...]
    losses: tuple[tuple[int, float], ...]
    """(step, mean training loss since the line before)."""
    began: int = 0
    """Number of steps before the present schedule: above 0 in a training that was extended."""
    grown: int = 0
    """Number of steps before the last of `model.shells` joined: the best weights are chosen among later ones."""
    from_weights: bool = False
    """Whether the training started from a learned model."""
    validated: int | None = None
    """Number of cases of a validation during training."""
    final: float | None = None
    """Dice at the depth of prediction over all validation cases, once all are scored."""
    scored: tuple[int, int] | None = None
    """Number of validation cases scored after the training, and that there are."""
    trivial: float = 0.0
    """Dice of a mask that is foreground everywhere, with two classes; else 0."""
    step_s: float | None = None
    """Seconds of a step, of the last phase of growth, without start-up and, where the log tells, validations."""
    sessions: int = 1
    """Number of times that the training began or was continued."""
    ahead: str = ""
    """With shells: a size that is better than the largest, which has not learned yet, and its final Dice, in words."""

    @property
    def dice(self) -> float:
        """The Dice by which the training is judged: the final one, or the best during training."""
        return self.best.dice if self.final is None else self.final

    def estimate_seconds(self, steps: int) -> float:
        """Estimate the seconds of a further training of some steps: with a start-up and validations as those so far."""
        step_s = self.step_s or self.seconds / max(1, self.steps)
        return steps * step_s + max(0.0, self.seconds - self.steps * step_s) / self.sessions

    @property
    def has_learned(self) -> bool:
        """Whether the Dice shows that the network has learned; after few steps only a high one of enough cases does."""
        return self._is_high and not self.is_unknown

    @property
    def is_unknown(self) -> bool:
        """Whether a high Dice shows nothing: that of one or two of more cases after few steps, until all are scored."""
        return (
            self.steps < FEW_STEPS and self.final is None and self.is_by_few and not self.from_weights and self._is_high
        )

    @property
    def _is_high(self) -> bool:
        least = self.trivial + ABOVE_TRIVIAL * (1 - self.trivial) if self.trivial else 0.0
        return self.dice >= max(_choose_bound(self.steps), least)

    @property
    def during(self) -> str:
        """Words for the validations during training; empty if it is not known on which cases."""
        if self.validated is None:
            return ""
        total = self.scored[1] if self.scored else self.validated
        part = f" ({self.validated} of {count_noun(total, 'case')})" if self.validated < total else ""
        return f" during training{part}"

    @property
    def is_by_few(self) -> bool:
        """Whether a validation during training has one or two of more cases."""
        total = self.scored[1] if self.scored else self.validated
        return self.validated is not None and self.validated < min(FEW_CASES, total or 0)

    @property
    def trained(self) -> int | None:
        """Number of training cases that are scored with a validation, at most."""
        return None if self.validated is None else -(-self.validated // VALIDATED_PER_TRAINED)

    def is_validated_in_part(self, part: float) -> bool:
        """Tell whether a validation during training has less than a part of all cases."""
        return self.validated is not None and self.scored is not None and self.validated < part * self.scored[1]

    @property
    def best(self) -> Validated:
        """The validation with the highest Dice, of all shells if there is one; of equal ones the last."""
        whole = [each for each in self.validations if each.step > self.grown]
        return max(whole or self.validations, key=lambda each: (each.dice, each.step))

    def dice_at(self, share: float) -> float:
        """Validation Dice after a share of the steps."""
        steps = [each.step for each in self.validations]
        return float(np.interp(share * self.steps, steps, [each.dice for each in self.validations]))

    def loss_near(self, step: int) -> float | None:
        """Training loss around a step: the mean over a tenth of the steps before it."""
        if not self.losses:
            return None
        near = [loss for at, loss in self.losses if step - 0.1 * self.steps <= at <= step]
        return float(np.mean(near)) if near else min(self.losses, key=lambda each: abs(each[0] - step))[1]


def read_curves(
    log: Sequence[LogLine], metrics: Metrics | None = None, from_weights: bool = False, fractions: Sequence[float] = ()
) -> Curves:
    """Find the curves in the lines of a log.jsonl.

    Args:
        log: the lines.
        metrics: scores after the training.
        from_weights: whether the training started from a learned model.
        fractions: of the voxels, for each class; empty: not known.
    """
    validations = [line for line in log if line["kind"] == "validation" and line.get("dice") is not None]
    losses = [line for line in log if line["kind"] == "train" and line.get("loss") is not None]
    last, start = (log[-1] if log else {}), next((line for line in reversed(log) if line["kind"] == "start"), {})
    ended = last.get("kind") == "end" and last.get("reason") != "interrupted"
    scores = metrics if metrics and ended else Metrics()  # others are from before the training was continued
    steps = max((line.get("step", 0) for line in log), default=0)
    grown = max((line.get("step", 0) for line in log if line["kind"] == "growth"), default=0)
    return Curves(
        steps=steps,
        seconds=max((line.get("elapsed_s") or line.get("seconds") or 0.0 for line in log), default=0.0),
        ended=ended,
        validations=tuple(_read_validation(line) for line in validations),
        losses=tuple((line.get("step", 0), line["loss"]) for line in losses),
        began=start.get("first_step") or 0,
        grown=grown,
        from_weights=from_weights,
        validated=start.get("validation_cases"),
        final=scores.mean.dice if scores.is_scored else None,
        scored=scores.scored or ((len(scores.cases), len(scores.cases)) if scores.cases else None),
        trivial=2 * fractions[1] / (1 + fractions[1]) if len(fractions) == 2 else 0.0,
        step_s=_time_step(log, grown),
        sessions=max(1, sum(line["kind"] == "start" for line in log)),
        ahead=_find_ahead(scores, _choose_bound(steps)),
    )


def _time_step(log: Sequence[LogLine], grown: int) -> float | None:
    """Find the seconds of a step: between lines with steps alone, which end in a report of steps; else of all lines.

    Before the first line of a session lies its start-up, before a line of a validation the validation.
    """
    timed = [line for line in log if line.get("elapsed_s") is not None or line["kind"] == "start"]
    pairs = [
        (before, after)
        for before, after in pairwise(timed)
        if before["kind"] in ("train", "validation") and after["kind"] in ("train", "validation")
        if before.get("step", 0) >= grown
    ]
    alone = [(before, after) for before, after in pairs if after["kind"] == "train"]
    for found in (alone, pairs):
        steps = sum(after.get("step", 0) - before.get("step", 0) for before, after in found)
        seconds = sum(after["elapsed_s"] - before["elapsed_s"] for before, after in found)
        if steps > 0 and seconds > 0:
            return float(seconds / steps)
    return None


def _choose_bound(steps: int) -> float:
    return LEARNED if steps >= FEW_STEPS else LEARNED_EARLY


def _find_ahead(scores: Metrics, learned: float) -> str:
    """Name the best size of a network with shells, if it has learned (its Dice) and the largest is behind it."""
    dice = {number: row.dice for number, row in scores.depths.items() if row.dice is not None}
    if not has_shells(scores) or not dice or not scores.is_scored:
        return ""
    best = max(dice, key=lambda number: dice[number])
    if dice[best] < learned or dice[best] - dice[max(dice)] <= BEHIND:
        return ""
    return f"{name_row(scores, best)} has {dice[best]:.3f}, {name_row(scores, max(dice))} {dice[max(dice)]:.3f}"


def _read_validation(line: LogLine) -> Validated:
    depths = {int(depth): dice for depth, dice in (line.get("depths") or {}).items() if dice is not None}
    heads = tuple(depths[depth] for depth in sorted(depths))
    return Validated(line.get("step", 0), line["dice"], line.get("loss"), heads, line.get("train_dice"))
