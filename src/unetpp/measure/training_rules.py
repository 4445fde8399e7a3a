"""How a training stands, from its curves: too short, still improving, over-fitted, or good. Needs no torch.

Each rule is a pure function of the curves that returns a verdict with its figures, or None; the first that applies
decides. The learning rate falls to zero in whatever time is given, so every curve is flat at its end: whether more
time would help shows in what the second half of the steps has brought.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from unetpp.measure.curves import BEHIND, FEW_CASES, FEW_STEPS, LEARNED_EARLY, Curves
from unetpp.measure.verdict_words import (
    Pair,
    count_steps,
    describe,
    describe_change,
    describe_dice,
    describe_few,
    describe_fit,
    describe_trivial,
    describe_unscored,
    describe_used,
    estimate_minutes,
)
from unetpp.model_notes import DIVERGED, GOOD, IMPROVING, NO_GAIN, OVER_FITTED, TOO_SHORT, UNFINISHED, WEAK, Verdict
from unetpp.planning.rules import WANTED_STEPS
from unetpp.words import count_noun

GAIN = 0.01
"""Dice that the second half of a short training, or the last fifth of any, brings where more time would help."""
NO_ROOM = 0.02
"""Distance from a Dice of 1 below which nothing is left to gain."""
FALL, RISE = 0.9, 1.1
"""Training loss that has fallen, and validation loss that has risen, as multiples of their values before."""
EARLY = 0.5
"""Fraction of the steps after whose end a short training has to have gained nothing in validation to be over-fitted."""
DROP = 0.02
"""Fall of the validation Dice from its highest, and rise of the training Dice meanwhile, that show over-fitting."""
GAP = 0.3
"""Training Dice above the validation Dice from which a network knows its training cases alone."""
KNOWN = 0.2
"""Training loss (about 2 at first) that shows, at a high training Dice, that all training cases are known."""
PART = 0.25
"""Fraction of the validation cases below which those of a validation during training say little of all."""
RUINED, LOST = 2.0, 0.1
"""Training loss at the end, as a multiple of its lowest, and fall of the validation Dice, that show divergence."""

Rule = Callable[[Curves], Verdict | None]


def judge_training(curves: Curves) -> Verdict | None:
    """Judge a training by its curves; None if they say nothing."""
    if not curves.validations:
        return (find_diverged(curves) or find_few_steps(curves)) if curves.ended else None
    verdict = next(verdict for rule in RULES if (verdict := rule(curves)))
    more = (describe_used(curves, verdict.kind), describe_unscored(curves))
    reason = "; ".join([verdict.reason.removesuffix("."), *filter(None, more)])
    advice = f"{verdict.advice} {describe_few(curves)}".strip()
    return verdict.model_copy(update={"reason": f"{reason}.", "advice": advice})


def find_unfinished(curves: Curves) -> Verdict | None:
    """A training that was stopped before its end."""
    if curves.ended:
        return None
    reason = f"Not finished: step {curves.steps:,}, validation Dice {curves.best.dice:.3f}{curves.during} so far."
    return Verdict(kind=UNFINISHED, reason=reason, advice="Continue it.", learned=not _is_too_short(curves))


def find_diverged(curves: Curves) -> Verdict | None:
    """A training that was ruined: its loss ends far above its lowest, and the validation has fallen with it."""
    losses = [loss for _, loss in curves.losses]
    end = curves.loss_near(curves.steps)
    if len(losses) < 3 or end is None:
        return None
    lowest = float(np.min(np.convolve(losses, np.full(3, 1 / 3), "valid")))
    fell = not curves.validations or curves.best.dice - curves.validations[-1].dice > LOST
    if not fell or end <= RUINED * lowest:
        return None
    reason = f"Diverged: the training loss rose from {lowest:.3f} to {end:.3f}"
    if curves.validations:
        last = curves.validations[-1].dice
        reason += f", and the validation Dice{curves.during} fell from {curves.best.dice:.3f} to {last:.3f}"
    learned = bool(curves.validations) and curves.has_learned
    advice = "Train into another folder with a third of `train.learning_rate` and `train.kernel_learning_rate`."
    return Verdict(kind=DIVERGED, reason=f"{reason}.", advice=advice, learned=learned)


def find_few_steps(curves: Curves) -> Verdict | None:
    """A training without validation that had few steps, which are all that is known of it."""
    wanted = FEW_STEPS if curves.from_weights else WANTED_STEPS
    if curves.steps >= wanted:
        return None
    reason = f"Short: {count_steps(curves, wanted)}; nothing was validated{describe_fit(curves, ', ')}."
    more, learned = estimate_minutes(curves), curves.steps >= FEW_STEPS
    return Verdict(kind=TOO_SHORT, reason=reason, advice="Train longer.", more_minutes=more, learned=learned)


def find_too_short(curves: Curves) -> Verdict | None:
    """A training of few steps, in which the network, or its deepest head, has not learned."""
    if not _is_too_short(curves):
        if not curves.from_weights or curves.steps >= FEW_STEPS:
            return None
        reason = f"Too short to judge: {count_steps(curves, FEW_STEPS)}; {describe(curves)}."
        more = estimate_minutes(curves)
        return Verdict(kind=TOO_SHORT, reason=reason, advice="Train longer.", more_minutes=more)
    steps = count_steps(curves, WANTED_STEPS)
    what = "judge" if curves.is_unknown else "have learned"
    reason = f"Too short to {what}: {steps}; {describe(curves)}{describe_trivial(curves)}."
    more = estimate_minutes(curves)
    return Verdict(kind=TOO_SHORT, reason=reason, advice="Train longer.", more_minutes=more, learned=False)


def find_large_behind(curves: Curves) -> Verdict | None:
    """A training of a network with shells that was long enough for an inner size, and too short for the largest."""
    if not curves.ahead or curves.steps >= WANTED_STEPS:
        return None
    reason = f"Too short for the largest size: {count_steps(curves, WANTED_STEPS)}; validation Dice: {curves.ahead}."
    more = estimate_minutes(curves)
    return Verdict(kind=TOO_SHORT, reason=reason, advice="Train longer, or use the smaller size.", more_minutes=more)


def _is_too_short(curves: Curves) -> bool:
    if curves.ahead:
        return False
    last = curves.best
    behind = len(last.depths) > 1 and max(last.depths) - last.depths[-1] > BEHIND
    return curves.steps < WANTED_STEPS and (not curves.has_learned or behind)


def find_memorized(curves: Curves) -> Verdict | None:
    """A training that has learned its own cases, but little that holds for those of validation.

    Both Dice are of the weights at the end. That of one or two training cases shows nothing by itself, nor does any in
    a short training whose loss still falls: there a low training loss or a lasting fall of the validation Dice has to.
    """
    end, loss = curves.validations[-1], curves.loss_near(curves.steps)
    trained = end.train_dice
    if trained is None or trained < LEARNED_EARLY or trained - end.dice < GAP or curves.is_by_few:
        return None
    is_known = loss is not None and loss <= KNOWN
    is_past = curves.best.step <= EARLY * curves.steps and curves.best.dice - _mean_late(curves) > DROP
    is_shown = not _is_still_learning(curves) and (curves.trained is None or curves.trained >= FEW_CASES)
    if not (is_known or is_past or is_shown):
        return None
    reason = (
        f"Over-fitted: it has learned the training cases alone, training Dice {trained:.3f}, validation Dice "
        f"{end.dice:.3f} at the end; {describe_dice(curves)}."
    )
    advice = (
        "Look at the validation cases in the report: if they are unlike the others, add labeled cases of their kind to "
        "DATA; if not, are their labels right? More time alone does not help."
    )
    more = estimate_minutes(curves)
    return Verdict(kind=OVER_FITTED, reason=reason, advice=advice, more_minutes=more, learned=curves.has_learned)


def find_over_fitted(curves: Curves) -> Verdict | None:
    """A training that went on improving on its training cases, but not on others, since its best in the first part."""
    end = curves.validations[-1]
    with_loss = [each for each in curves.validations if each.loss is not None]
    best = min(with_loss, key=lambda each: each.loss or 0.0) if len(with_loss) > 1 else curves.best
    losses, dice = (curves.loss_near(best.step), curves.loss_near(curves.steps)), (best.train_dice, end.train_dice)
    if best.step > 0.7 * curves.steps or not (_has_fallen(losses) or _has_risen(dice)):
        return None
    if _is_still_learning(curves) and (curves.is_by_few or best.step > EARLY * curves.steps):
        return None
    late = _mean_late(curves)
    worse_loss = best.loss is not None and end.loss is not None and end.loss > RISE * best.loss
    if not (worse_loss and late <= best.dice + GAIN) and curves.best.dice - late <= DROP:
        return None
    training = describe_change("in training", dice, losses)
    validation = describe_change(f"in validation{curves.during}", (best.dice, end.dice), (best.loss, end.loss))
    reason = f"Over-fitted since step {best.step:,}: {training}, {validation}."
    advice = "Add labeled cases to DATA: they help most; more time alone does not."
    return Verdict(kind=OVER_FITTED, reason=reason, advice=advice, more_minutes=estimate_minutes(curves))


def _mean_late(curves: Curves) -> float:
    return float(np.mean([each.dice for each in curves.validations[-2:]]))


def _is_still_learning(curves: Curves) -> bool:
    """Tell whether a short training lowered its loss to the end."""
    return curves.steps < WANTED_STEPS and _has_fallen(_halve_losses(curves))


def _halve_losses(curves: Curves) -> Pair:
    """Training loss in the middle and at the end."""
    return curves.loss_near(curves.steps // 2), curves.loss_near(curves.steps)


def _has_fallen(losses: Pair) -> bool:
    before, after = losses
    return before is not None and after is not None and after <= FALL * before


def _has_risen(dice: Pair) -> bool:
    before, after = dice
    return before is not None and after is not None and after - before >= DROP


def find_no_gain(curves: Curves) -> Verdict | None:
    """A training that was extended, and whose best weights are those from before."""
    if not curves.began or curves.best.step > curves.began or (curves.is_by_few and _is_still_learning(curves)):
        return None
    added, best = curves.steps - curves.began, curves.best
    since = [each.dice for each in curves.validations if each.step > curves.began]
    reason = (
        f"The added time brought nothing: the best validation Dice{curves.during}, {best.dice:.3f}, is of step "
        f"{best.step:,}, before the {count_noun(added, 'added step')}"
        f"{f' ({max(since):.3f} at most)' if since else ''}; the weights from before are used."
    )
    advice = "More labeled cases would add more than more time."
    return Verdict(kind=NO_GAIN, reason=reason, advice=advice, learned=curves.has_learned)


def find_improving(curves: Curves) -> Verdict | None:
    """A training to which more time would add."""
    end = curves.validations[-1].dice
    early, late = curves.dice_at(0.5), curves.dice_at(0.8)
    short = curves.steps < WANTED_STEPS and end - early > GAIN
    if 1 - end < NO_ROOM:
        return None
    if not (short or end - late > GAIN):
        return _find_falling(curves)
    part, before = ("the second half", early) if short else ("the last fifth", late)
    gained = (
        f"{part} of the {curves.steps:,} steps raised the validation Dice{curves.during} from {before:.3f} to {end:.3f}"
    )
    final = f"; {describe_dice(curves)}" if curves.validated and curves.final is not None else ""
    reason = f"Still improving: {gained}{final}{describe_fit(curves, '; ')}."
    more = estimate_minutes(curves)
    return Verdict(kind=IMPROVING, reason=reason, advice="Train longer.", more_minutes=more)


def _find_falling(curves: Curves) -> Verdict | None:
    """A short training whose loss still falls, where the validations during training are of few of the cases."""
    losses = _halve_losses(curves)
    if not curves.is_validated_in_part(PART) or not _is_still_learning(curves):
        return None
    reason = (
        f"Still improving, by the training loss: the second half of the {curves.steps:,} steps lowered it from "
        f"{losses[0]:.3f} to {losses[1]:.3f}; {describe_dice(curves)}."
    )
    more = estimate_minutes(curves)
    return Verdict(kind=IMPROVING, reason=reason, advice="Train longer.", more_minutes=more)


def find_weak(curves: Curves) -> Verdict | None:
    """A training that had its time and has hardly learned."""
    if curves.has_learned:
        return None
    described = f"{describe(curves)}{describe_trivial(curves)}"
    reason = f"Hardly learned in {curves.steps:,} steps, and no longer improving: {described}."
    advice = "Look at the worst cases in the report: do the labels lie on what they name, is anything missing in them?"
    return Verdict(kind=WEAK, reason=reason, advice=advice, learned=False)


def find_good(curves: Curves) -> Verdict:
    """A training to which more time would add little."""
    gained = curves.validations[-1].dice - curves.dice_at(0.5)
    rise = f"the second half of the {curves.steps:,} steps added {100 * gained:.1f} points{curves.during}"
    described = f"{describe(curves)}{describe_trivial(curves)}; {rise if gained >= 0.0005 else 'no longer rising'}."
    if curves.dice < LEARNED_EARLY:
        advice = "More labeled cases would add more than more time."
        return Verdict(kind=GOOD, reason=f"Trained to its end: {described}", advice=advice)
    return Verdict(kind=GOOD, reason=f"Good: {described}", advice="")


RULES: tuple[Rule, ...] = (
    find_unfinished,
    find_diverged,
    find_large_behind,
    find_memorized,
    find_too_short,
    find_over_fitted,
    find_no_gain,
    find_improving,
    find_weak,
    find_good,
)
