"""What verdicts on trainings say of their curves, in words, and how much longer to train. Needs no torch."""

from __future__ import annotations

from unetpp.measure.curves import FEW_CASES, FEW_STEPS, LEARNED, Curves
from unetpp.measure.pace import SHARE_AFTER
from unetpp.model_notes import DIVERGED, NO_GAIN, OVER_FITTED
from unetpp.planning.rules import WANTED_STEPS
from unetpp.words import count_noun

LATE = 0.75
"""Fraction of the steps before which the best weights are old: every verdict says so."""
ROUND_MINUTES = (1, 2, 5, 10, 20, 30, 45, 60, 90, 120, 180, 240, 360, 480, 720, 1440)
"""Further training that is advised: the next of these above its estimate, a day at most."""
Pair = tuple[float | None, float | None]
"""A figure before and after."""


def count_steps(curves: Curves, wanted: int) -> str:
    what = "fine-tuning" if wanted == FEW_STEPS else "such a network"
    return f"{count_noun(curves.steps, 'step')} of the {wanted:,} that {what} wants"


def describe_change(where: str, dice: Pair, losses: Pair) -> str:
    """Write how Dice and loss went, as far as they are known."""
    known = [
        f"{name} {before:.3f} to {after:.3f}"
        for name, (before, after) in (("Dice", dice), ("loss", losses))
        if before is not None and after is not None
    ]
    return f"{where} {', '.join(known)}"


def describe_few(curves: Curves) -> str:
    """Say that the Dice, on which a verdict rests, is of few cases; empty of more."""
    total = curves.scored[1] if curves.scored else curves.validated
    if total is None or total >= FEW_CASES:
        return ""
    more = ": label more" if curves.scored else ""  # otherwise there may be some that are scored at the end
    return f"{count_noun(total, 'validation case')} can say little of new images{more}."


def describe_used(curves: Curves, kind: str) -> str:
    """Say which weights are used where they are old, or the later ones bad, and that an extension brought none."""
    if not curves.validations or kind == NO_GAIN:
        return ""
    best = curves.best.step
    if best >= LATE * curves.steps and kind not in (DIVERGED, OVER_FITTED):
        return ""
    by = f" by {count_noun(curves.validated, 'validation case')}" if curves.validated else ""
    used = f"the best weights{by}, of step {best:,} of {curves.steps:,}, are used"
    added = count_noun(curves.steps - curves.began, "added step")
    return f"the {added} brought nothing: {used}" if curves.began and best <= curves.began else used


def describe_unscored(curves: Curves) -> str:
    """Say that a verdict rests on the curves alone; empty once all cases are scored."""
    if curves.scored is None or curves.scored[0] >= curves.scored[1]:
        return ""
    own, total = curves.scored
    scored = f"{own} of {count_noun(total, 'validation case')} scored so far"
    return f"judged by the curves alone, {scored} (`unetpp report` scores the rest)"


def describe_trivial(curves: Curves) -> str:
    is_high = curves.trivial > LEARNED
    return f"; a mask that is foreground everywhere has {curves.trivial:.3f}" if is_high else ""


def describe(curves: Curves) -> str:
    return f"{describe_dice(curves)}{describe_fit(curves, ', ')}"


def describe_dice(curves: Curves) -> str:
    if curves.final is not None and curves.scored:
        return f"validation Dice {curves.final:.3f} over {count_noun(curves.scored[1], 'case')}"
    return f"validation Dice {curves.best.dice:.3f}{curves.during}"


def describe_fit(curves: Curves, before: str) -> str:
    """Write what is known of training and validation at the end, beside the validation Dice."""
    training = curves.loss_near(curves.steps)
    last = curves.validations[-1] if curves.validations else None
    texts = [
        f"{loss:.3f} in {name}"
        for loss, name in ((training, "training"), (last and last.loss, "validation"))
        if loss is not None
    ]
    dice = f"{before}training Dice {last.train_dice:.3f}" if last and last.train_dice is not None else ""
    return f"{dice}{', ' if dice else before}loss {' and '.join(texts)}" if texts else dice


def estimate_minutes(curves: Curves) -> float | None:
    """Minutes of a command that trains the steps that are still wanted, or as many again; rounded up, a day at most.

    One estimate for all verdicts, with what follows the steps: it is the same before and after all cases are scored.
    """
    if not curves.steps or not curves.seconds:
        return None
    is_learned = curves.from_weights and (not curves.validations or curves.has_learned)
    wanted = FEW_STEPS if is_learned else WANTED_STEPS
    minutes = curves.estimate_seconds(max(curves.steps, wanted - curves.steps)) / (1 - SHARE_AFTER) / 60
    return next((each for each in ROUND_MINUTES if each >= minutes), ROUND_MINUTES[-1])
