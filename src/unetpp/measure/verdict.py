"""How a training stands, from its log: too short, still improving, over-fitted, or good. Needs no torch.

Each rule is a pure function of the curves that returns a verdict with its figures, or None; the first that applies
decides. The learning rate falls to zero in whatever time is given, so every curve is flat at its end: whether more
time would help shows in what the second half of the steps has brought.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np

from unetpp.measured import Verdict
from unetpp.planning.rules import WANTED_STEPS
from unetpp.results import NEW_IMAGES
from unetpp.run_folder import LOG, FoldName, RunFolder
from unetpp.train.log import LogLine, read_log
from unetpp.words import count_noun, write_command

UNFINISHED, TOO_SHORT, OVER_FITTED, IMPROVING, WEAK, GOOD = KINDS = (
    "unfinished",
    "too short",
    "over-fitted",
    "still improving",
    "weak",
    "good",
)
FEW_STEPS = 100
"""Number of steps below which only a high Dice shows that a network has learned."""
LEARNED, LEARNED_EARLY = 0.5, 0.8
"""Validation Dice from which a network has learned; and after few steps."""
BEHIND = 0.05
"""Dice by which a shallower head is better than the deepest one where that has not learned yet."""
GAIN = 0.01
"""Dice that the second half of a short training, or the last fifth of any, brings where more time would help."""
NO_ROOM = 0.02
"""Distance from a Dice of 1 below which nothing is left to gain."""
FALL, RISE = 0.9, 1.1
"""Training loss that has fallen, and validation loss that has risen, as multiples of their values before."""
DROP = 0.02
"""Fall of the validation Dice from its highest value that shows over-fitting, while the training loss falls."""
ROUND_MINUTES = (1, 2, 5, 10, 20, 30, 45, 60, 90, 120, 180, 240, 360, 480, 720)


@dataclass(frozen=True)
class Validated:
    """One validation during training."""

    step: int
    dice: float
    loss: float | None = None
    depths: tuple[float, ...] = ()
    """Dice of each head, shallowest first."""


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

    @property
    def best(self) -> Validated:
        """The validation with the highest Dice; of equal ones the last."""
        return max(self.validations, key=lambda each: (each.dice, each.step))

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


Rule = Callable[[Curves], Verdict | None]


def judge_fold(run: RunFolder, fold: FoldName) -> Verdict | None:
    """Judge the training of a fold by its log; None without one that says enough."""
    return judge_training(read_curves(read_log(run.fold(fold) / LOG)[0]))


def judge_run(run: RunFolder, folds: Iterable[FoldName]) -> Verdict | None:
    """Judge the trainings of some folds: the verdict on the one that most needs something done."""
    found = {fold: verdict for fold in folds if (verdict := judge_fold(run, fold))}
    if not found:
        return None
    fold = min(found, key=lambda each: KINDS.index(found[each].kind))
    verdict = found[fold]
    if len(found) == 1:
        return verdict
    return verdict.model_copy(update={"reason": f"Fold {fold}: {verdict.reason[:1].lower()}{verdict.reason[1:]}"})


def read_curves(log: Sequence[LogLine]) -> Curves:
    """Find the curves in the lines of a log.jsonl."""
    validations = [line for line in log if line["kind"] == "validation" and line.get("dice") is not None]
    losses = [line for line in log if line["kind"] == "train" and line.get("loss") is not None]
    last = log[-1] if log else {}
    return Curves(
        steps=max((line.get("step", 0) for line in log), default=0),
        seconds=max((line.get("elapsed_s") or line.get("seconds") or 0.0 for line in log), default=0.0),
        ended=last.get("kind") == "end" and last.get("reason") != "interrupted",
        validations=tuple(_read_validation(line) for line in validations),
        losses=tuple((line.get("step", 0), line["loss"]) for line in losses),
    )


def _read_validation(line: LogLine) -> Validated:
    depths = {int(depth): dice for depth, dice in (line.get("depths") or {}).items() if dice is not None}
    return Validated(
        line.get("step", 0), line["dice"], line.get("loss"), tuple(depths[depth] for depth in sorted(depths))
    )


def judge_training(curves: Curves) -> Verdict | None:
    """Judge a training by its curves; None if nothing was validated."""
    if not curves.validations:
        return None
    return next(verdict for rule in RULES if (verdict := rule(curves)))


def find_unfinished(curves: Curves) -> Verdict | None:
    """A training that was stopped before its end."""
    if curves.ended:
        return None
    reason = f"Not finished: step {curves.steps:,}, validation Dice {curves.best.dice:.3f} so far."
    return Verdict(kind=UNFINISHED, reason=reason, advice="Continue it.", learned=not _is_too_short(curves))


def find_too_short(curves: Curves) -> Verdict | None:
    """A training of few steps, in which the network, or its deepest head, has not learned."""
    if not _is_too_short(curves):
        return None
    made = f"{count_noun(curves.steps, 'step')} of the {WANTED_STEPS:,} that such a network wants"
    reason = f"Too short to have learned: {made}; {_describe(curves)}."
    more = _minutes(curves, WANTED_STEPS - curves.steps)
    return Verdict(kind=TOO_SHORT, reason=reason, advice="Train longer.", more_minutes=more, learned=False)


def _is_too_short(curves: Curves) -> bool:
    last = curves.best
    needed = LEARNED if curves.steps >= FEW_STEPS else LEARNED_EARLY
    behind = len(last.depths) > 1 and max(last.depths) - last.depths[-1] > BEHIND
    return curves.steps < WANTED_STEPS and (last.dice < needed or behind)


def find_over_fitted(curves: Curves) -> Verdict | None:
    """A training whose loss falls on, while the validation has become worse since its best, in the first part."""
    end = curves.validations[-1]
    with_loss = [each for each in curves.validations if each.loss is not None]
    best = min(with_loss, key=lambda each: each.loss or 0.0) if len(with_loss) > 1 else curves.best
    before, after = curves.loss_near(best.step), curves.loss_near(curves.steps)
    if best.step > 0.7 * curves.steps or before is None or after is None or after > FALL * before:
        return None
    worse_loss = best.loss is not None and end.loss is not None and end.loss > RISE * best.loss
    late = float(np.mean([each.dice for each in curves.validations[-2:]]))
    if not worse_loss and curves.best.dice - late <= DROP:
        return None
    losses = f", while that of validation went from {best.loss:.3f} to {end.loss:.3f}" if worse_loss else ""
    reason = (
        f"Over-fitted: since step {best.step:,} the training loss fell from {before:.3f} to {after:.3f}{losses} "
        f"(validation Dice {best.dice:.3f}, at the end {end.dice:.3f}); the best weights, of step "
        f"{curves.best.step:,}, are used."
    )
    advice = "More labeled cases help most; more time does not."
    return Verdict(kind=OVER_FITTED, reason=reason, advice=advice, more_minutes=_minutes(curves, curves.steps))


def find_improving(curves: Curves) -> Verdict | None:
    """A training to which more time would add."""
    end = curves.validations[-1].dice
    early, late = curves.dice_at(0.5), curves.dice_at(0.8)
    short = curves.steps < WANTED_STEPS and end - early > GAIN
    if 1 - end < NO_ROOM or not (short or end - late > GAIN):
        return None
    part, before = ("the second half", early) if short else ("the last fifth", late)
    gained = f"{part} of the {curves.steps:,} steps raised the validation Dice from {before:.3f} to {end:.3f}"
    reason = f"Still improving: {gained}{_describe_losses(curves, '; ')}."
    more = _minutes(curves, max(curves.steps, WANTED_STEPS - curves.steps))
    return Verdict(kind=IMPROVING, reason=reason, advice="Train longer.", more_minutes=more)


def find_weak(curves: Curves) -> Verdict | None:
    """A training that had its time and has hardly learned."""
    if curves.best.dice >= LEARNED:
        return None
    reason = f"Hardly learned in {curves.steps:,} steps, and no longer improving: {_describe(curves)}."
    advice = "Look at the worst cases in the report: do the labels lie on what they name, is anything missing in them?"
    return Verdict(kind=WEAK, reason=reason, advice=advice, learned=False)


def find_good(curves: Curves) -> Verdict:
    """A training to which more time would add little."""
    if curves.best.dice >= LEARNED_EARLY:
        return Verdict(kind=GOOD, reason=f"Good: {_describe(curves)}, no longer rising.", advice="")
    reason = f"Trained to its end: {_describe(curves)}, no longer rising."
    return Verdict(kind=GOOD, reason=reason, advice="More labeled cases would add more than more time.")


RULES: tuple[Rule, ...] = (find_unfinished, find_too_short, find_over_fitted, find_improving, find_weak, find_good)


def suggest_command(verdict: Verdict, run: Path, data: Path | str = "DATA", folds: Sequence[FoldName] = ()) -> str:
    """Write the command that follows a verdict.

    Args:
        verdict: of a fold of the run.
        run: run folder.
        data: its data set.
        folds: folds of the run that were trained; empty: fold 0.
    """
    if verdict.kind == WEAK:
        return write_command("report", run)
    if verdict.kind == GOOD:
        return write_command("predict", run, NEW_IMAGES, "--out", "predictions")
    more = ["--fold", "all" if len(folds) > 1 else folds[0]] if list(folds) not in ([], [0]) else []
    more += ["--add-cases"] if verdict.kind == OVER_FITTED else []
    more += ["--minutes", f"+{verdict.more_minutes * max(1, len(folds)):g}"] if verdict.more_minutes else []
    return write_command("train", data, "--out", run, "--resume", *more)


def _describe(curves: Curves) -> str:
    return f"validation Dice {curves.best.dice:.3f}{_describe_losses(curves, ', ')}"


def _describe_losses(curves: Curves, before: str) -> str:
    """Write the losses at the end, in training and in validation."""
    training, validation = curves.loss_near(curves.steps), curves.validations[-1].loss
    texts = [
        f"{loss:.3f} in {name}"
        for loss, name in ((training, "training"), (validation, "validation"))
        if loss is not None
    ]
    return f"{before}loss {' and '.join(texts)}" if texts else ""


def _minutes(curves: Curves, steps: int) -> float | None:
    """Minutes that some steps take, rounded up."""
    if not curves.steps or not curves.seconds:
        return None
    minutes = curves.seconds / curves.steps * steps / 60
    return next((each for each in ROUND_MINUTES if each >= minutes), 60 * ceil(minutes / 60))
