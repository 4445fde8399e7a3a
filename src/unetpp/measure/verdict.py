"""How a training stands, from its log: too short, still improving, over-fitted, or good. Needs no torch.

Each rule is a pure function of the curves that returns a verdict with its figures, or None; the first that applies
decides. The learning rate falls to zero in whatever time is given, so every curve is flat at its end: whether more
time would help shows in what the second half of the steps has brought.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np

from unetpp.data.folds import read_splits
from unetpp.dial import has_shells, name_row
from unetpp.errors import DataError
from unetpp.measured import Metrics, Verdict
from unetpp.planning.rules import WANTED_STEPS
from unetpp.results import NEW_IMAGES
from unetpp.run_folder import LOG, FoldName, RunFolder
from unetpp.train.log import LogLine, read_log
from unetpp.words import count_noun, write_command

UNFINISHED, DIVERGED, TOO_SHORT, OVER_FITTED, IMPROVING, WEAK, UNSCORED, NO_GAIN, GOOD = KINDS = (
    "unfinished",
    "diverged",
    "too short",
    "over-fitted",
    "still improving",
    "weak",
    "unscored",
    "no gain",
    "good",
)
"""That which most needs something done first."""
DONE, SHOWN_BY_REPORT = (NO_GAIN, GOOD), (DIVERGED, WEAK, UNSCORED)
"""Kinds after which prediction comes next, and those after which the report does."""
FEW_STEPS = 100
"""Number of steps below which only a high Dice shows that a network has learned; and, of one that starts from learned
weights, below which nothing does: the learning rate has hardly risen, and the Dice is that of the start."""
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
"""Fall of the validation Dice from its highest, and rise of the training Dice meanwhile, that show over-fitting."""
RUINED, LOST = 2.0, 0.1
"""Training loss at the end, as a multiple of its lowest, and fall of the validation Dice, that show divergence."""
ROUND_MINUTES = (1, 2, 5, 10, 20, 30, 45, 60, 90, 120, 180, 240, 360, 480, 720)


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
    ahead: str = ""
    """With shells: a size that is better than the largest, which has not learned yet, and its final Dice, in words."""

    @property
    def dice(self) -> float:
        """The Dice by which the training is judged: the final one, or the best during training."""
        return self.best.dice if self.final is None else self.final

    @property
    def during(self) -> str:
        """Words for the validations during training; empty if it is not known on which cases."""
        if self.validated is None:
            return ""
        total = self.scored[1] if self.scored else self.validated
        part = f", on {self.validated} of {count_noun(total, 'case')}" if self.validated < total else ""
        return f" during training{part}"

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


Rule = Callable[[Curves], Verdict | None]
Pair = tuple[float | None, float | None]
"""A figure before and after."""


def judge_fold(run: RunFolder, fold: FoldName, metrics: Metrics | None = None) -> Verdict | None:
    """Judge the training of a fold by its log and its scores; None without a log that says enough.

    Args:
        run: run folder.
        fold: name of the fold.
        metrics: its scores; None: those in its folder.
    """
    log = read_log(run.fold(fold) / LOG)[0]
    return judge_training(read_curves(log, metrics or run.metrics(fold), run.start.exists()))


def judge_run(run: RunFolder, folds: Iterable[FoldName]) -> Verdict | None:
    """Judge the trainings of some folds: the verdict on the one that most needs something done."""
    found = {fold: verdict for fold in folds if (verdict := judge_fold(run, fold))}
    return join_verdicts(found, _count_folds(run)) if found else None


def join_verdicts(found: Mapping[FoldName, Verdict], total: int = 0) -> Verdict:
    """Choose the verdict on the fold that most needs something done, and name its fold.

    Args:
        found: fold -> its verdict, at least one.
        total: number of folds of the run, trained or not; 0 if it is not known.
    """
    fold = min(found, key=lambda each: KINDS.index(found[each].kind))
    verdict = found[fold]
    if len(found) == 1:
        return verdict.model_copy(update={"fold": fold})
    reason, more = f"Fold {fold}: {verdict.reason[:1].lower()}{verdict.reason[1:]}", verdict.more_minutes
    if len(found) == total and {each.kind for each in found.values()} == {verdict.kind}:
        together = {"fold": "all", "more_minutes": more and more * len(found)}
        return verdict.model_copy(update={"reason": reason, **together})
    return verdict.model_copy(update={"reason": reason, "fold": fold})


def _count_folds(run: RunFolder) -> int:
    """Number of folds of a run, trained or not; 0 if it is not known."""
    try:
        return len(read_splits(run.splits, validated=False))
    except DataError:
        return 0


def read_curves(log: Sequence[LogLine], metrics: Metrics | None = None, from_weights: bool = False) -> Curves:
    """Find the curves in the lines of a log.jsonl.

    Args:
        log: the lines.
        metrics: scores after the training.
        from_weights: whether the training started from a learned model.
    """
    validations = [line for line in log if line["kind"] == "validation" and line.get("dice") is not None]
    losses = [line for line in log if line["kind"] == "train" and line.get("loss") is not None]
    last, start = (log[-1] if log else {}), next((line for line in reversed(log) if line["kind"] == "start"), {})
    ended = last.get("kind") == "end" and last.get("reason") != "interrupted"
    scores = metrics if metrics and ended else Metrics()  # others are from before the training was continued
    steps = max((line.get("step", 0) for line in log), default=0)
    return Curves(
        steps=steps,
        seconds=max((line.get("elapsed_s") or line.get("seconds") or 0.0 for line in log), default=0.0),
        ended=ended,
        validations=tuple(_read_validation(line) for line in validations),
        losses=tuple((line.get("step", 0), line["loss"]) for line in losses),
        began=start.get("first_step") or 0,
        grown=max((line.get("step", 0) for line in log if line["kind"] == "growth"), default=0),
        from_weights=from_weights,
        validated=start.get("validation_cases"),
        final=scores.mean.dice if scores.is_scored else None,
        scored=scores.scored or ((len(scores.cases), len(scores.cases)) if scores.cases else None),
        ahead=_find_ahead(scores, LEARNED if steps >= FEW_STEPS else LEARNED_EARLY),
    )


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


def judge_training(curves: Curves) -> Verdict | None:
    """Judge a training by its curves; None if they say nothing."""
    if not curves.validations:
        return (find_diverged(curves) or find_few_steps(curves)) if curves.ended else None
    return next(verdict for rule in RULES if (verdict := rule(curves)))


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
        reason += f"; the best weights, of step {curves.best.step:,}, are used"
    learned = bool(curves.validations) and curves.dice >= LEARNED
    advice = "Train into another folder with a third of `train.learning_rate` and `train.kernel_learning_rate`."
    return Verdict(kind=DIVERGED, reason=f"{reason}.", advice=advice, learned=learned)


def find_few_steps(curves: Curves) -> Verdict | None:
    """A training without validation that had few steps, which are all that is known of it."""
    wanted = FEW_STEPS if curves.from_weights else WANTED_STEPS
    if curves.steps >= wanted:
        return None
    reason = f"Short: {_count_steps(curves, wanted)}; nothing was validated{_describe_fit(curves, ', ')}."
    more, learned = _minutes(curves, wanted - curves.steps), curves.steps >= FEW_STEPS
    return Verdict(kind=TOO_SHORT, reason=reason, advice="Train longer.", more_minutes=more, learned=learned)


def _count_steps(curves: Curves, wanted: int) -> str:
    what = "fine-tuning" if wanted == FEW_STEPS else "such a network"
    return f"{count_noun(curves.steps, 'step')} of the {wanted:,} that {what} wants"


def find_too_short(curves: Curves) -> Verdict | None:
    """A training of few steps, in which the network, or its deepest head, has not learned."""
    if not _is_too_short(curves):
        if not curves.from_weights or curves.steps >= FEW_STEPS:
            return None
        reason = f"Too short to judge: {_count_steps(curves, FEW_STEPS)}; {_describe(curves)}."
        more = _minutes(curves, FEW_STEPS - curves.steps)
        return Verdict(kind=TOO_SHORT, reason=reason, advice="Train longer.", more_minutes=more)
    reason = f"Too short to have learned: {_count_steps(curves, WANTED_STEPS)}; {_describe(curves)}."
    more = _minutes(curves, WANTED_STEPS - curves.steps)
    return Verdict(kind=TOO_SHORT, reason=reason, advice="Train longer.", more_minutes=more, learned=False)


def find_large_behind(curves: Curves) -> Verdict | None:
    """A training of a network with shells that was long enough for an inner size, and too short for the largest."""
    if not curves.ahead or curves.steps >= WANTED_STEPS:
        return None
    reason = f"Too short for the largest size: {_count_steps(curves, WANTED_STEPS)}; validation Dice: {curves.ahead}."
    more = _minutes(curves, WANTED_STEPS - curves.steps)
    return Verdict(kind=TOO_SHORT, reason=reason, advice="Train longer, or use the smaller size.", more_minutes=more)


def _is_too_short(curves: Curves) -> bool:
    if curves.ahead:
        return False
    last = curves.best
    needed = LEARNED if curves.steps >= FEW_STEPS else LEARNED_EARLY
    behind = len(last.depths) > 1 and max(last.depths) - last.depths[-1] > BEHIND
    return curves.steps < WANTED_STEPS and (curves.dice < needed or behind)


def find_over_fitted(curves: Curves) -> Verdict | None:
    """A training that went on improving on its training cases, but not on others, since its best in the first part."""
    end = curves.validations[-1]
    with_loss = [each for each in curves.validations if each.loss is not None]
    best = min(with_loss, key=lambda each: each.loss or 0.0) if len(with_loss) > 1 else curves.best
    losses, dice = (curves.loss_near(best.step), curves.loss_near(curves.steps)), (best.train_dice, end.train_dice)
    if best.step > 0.7 * curves.steps or not (_has_fallen(losses) or _has_risen(dice)):
        return None
    late = float(np.mean([each.dice for each in curves.validations[-2:]]))
    worse_loss = best.loss is not None and end.loss is not None and end.loss > RISE * best.loss
    if not (worse_loss and late <= best.dice + GAIN) and curves.best.dice - late <= DROP:
        return None
    training = _describe_change("in training", dice, losses)
    validation = _describe_change(f"in validation{curves.during}", (best.dice, end.dice), (best.loss, end.loss))
    reason = f"Over-fitted since step {best.step:,}: {training}, {validation}"
    advice = "More labeled cases help most; more time does not."
    return Verdict(
        kind=OVER_FITTED,
        reason=f"{reason}; the best weights, of step {curves.best.step:,}, are used.",
        advice=advice,
        more_minutes=_minutes(curves, curves.steps),
    )


def _has_fallen(losses: Pair) -> bool:
    before, after = losses
    return before is not None and after is not None and after <= FALL * before


def _has_risen(dice: Pair) -> bool:
    before, after = dice
    return before is not None and after is not None and after - before >= DROP


def _describe_change(where: str, dice: Pair, losses: Pair) -> str:
    """Write how Dice and loss went, as far as they are known."""
    known = [
        f"{name} {before:.3f} to {after:.3f}"
        for name, (before, after) in (("Dice", dice), ("loss", losses))
        if before is not None and after is not None
    ]
    return f"{where} {', '.join(known)}"


def find_no_gain(curves: Curves) -> Verdict | None:
    """A training that was extended, and whose best weights are those from before."""
    if not curves.began or curves.best.step > curves.began:
        return None
    added, best = curves.steps - curves.began, curves.best
    since = [each.dice for each in curves.validations if each.step > curves.began]
    reason = (
        f"The added time brought nothing: the best validation Dice{curves.during}, {best.dice:.3f}, is of step "
        f"{best.step:,}, before the {count_noun(added, 'added step')}"
        f"{f' ({max(since):.3f} at most)' if since else ''}; the weights from before are used."
    )
    advice = "More labeled cases would add more than more time."
    return Verdict(kind=NO_GAIN, reason=reason, advice=advice, learned=curves.dice >= LEARNED)


def find_improving(curves: Curves) -> Verdict | None:
    """A training to which more time would add."""
    end = curves.validations[-1].dice
    early, late = curves.dice_at(0.5), curves.dice_at(0.8)
    short = curves.steps < WANTED_STEPS and end - early > GAIN
    if 1 - end < NO_ROOM or not (short or end - late > GAIN):
        return None
    part, before = ("the second half", early) if short else ("the last fifth", late)
    gained = (
        f"{part} of the {curves.steps:,} steps raised the validation Dice{curves.during} from {before:.3f} to {end:.3f}"
    )
    final = f"; {_describe_dice(curves)}" if curves.validated and curves.final is not None else ""
    reason = f"Still improving: {gained}{final}{_describe_fit(curves, '; ')}."
    more = _minutes(curves, max(curves.steps, WANTED_STEPS - curves.steps))
    return Verdict(kind=IMPROVING, reason=reason, advice="Train longer.", more_minutes=more)


def find_weak(curves: Curves) -> Verdict | None:
    """A training that had its time and has hardly learned."""
    if curves.dice >= LEARNED:
        return None
    reason = f"Hardly learned in {curves.steps:,} steps, and no longer improving: {_describe(curves)}."
    advice = "Look at the worst cases in the report: do the labels lie on what they name, is anything missing in them?"
    return Verdict(kind=WEAK, reason=reason, advice=advice, learned=False)


def find_unscored(curves: Curves) -> Verdict | None:
    """A training that had its time, and of which too few cases are scored."""
    if curves.scored is None or curves.scored[0] >= curves.scored[1]:
        return None
    own, total = curves.scored
    reason = f"Not judged yet: {own} of {count_noun(total, 'validation case')} scored; {_describe(curves)}."
    return Verdict(kind=UNSCORED, reason=reason, advice="Score the rest.")


def find_good(curves: Curves) -> Verdict:
    """A training to which more time would add little."""
    if curves.dice >= LEARNED_EARLY:
        return Verdict(kind=GOOD, reason=f"Good: {_describe(curves)}, no longer rising.", advice="")
    reason = f"Trained to its end: {_describe(curves)}, no longer rising."
    return Verdict(kind=GOOD, reason=reason, advice="More labeled cases would add more than more time.")


RULES: tuple[Rule, ...] = (
    find_unfinished,
    find_diverged,
    find_large_behind,
    find_too_short,
    find_over_fitted,
    find_no_gain,
    find_improving,
    find_weak,
    find_unscored,
    find_good,
)


def suggest_command(verdict: Verdict, run: Path, data: Path | str = "DATA") -> str:
    """Write the command that follows a verdict.

    Args:
        verdict: of a run, as `judge_run` returns it.
        run: run folder.
        data: its data set.
    """
    if verdict.kind in SHOWN_BY_REPORT:
        return write_command("report", run)
    if verdict.kind in DONE:
        return write_command("predict", run, NEW_IMAGES, "--out", "predictions")
    more = ["--fold", verdict.fold] if verdict.fold not in (None, 0) else []
    more += ["--add-cases"] if verdict.kind == OVER_FITTED else []
    more += ["--minutes", f"+{verdict.more_minutes:g}"] if verdict.more_minutes else []
    return write_command("train", data, "--out", run, "--resume", *more)


def _describe(curves: Curves) -> str:
    return f"{_describe_dice(curves)}{_describe_fit(curves, ', ')}"


def _describe_dice(curves: Curves) -> str:
    if curves.final is not None and curves.scored:
        return f"validation Dice {curves.final:.3f} over {count_noun(curves.scored[1], 'case')}"
    return f"validation Dice {curves.best.dice:.3f}{curves.during}"


def _describe_fit(curves: Curves, before: str) -> str:
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


def _minutes(curves: Curves, steps: int) -> float | None:
    """Minutes that some steps take, rounded up."""
    if not curves.steps or not curves.seconds:
        return None
    minutes = curves.seconds / curves.steps * steps / 60
    return next((each for each in ROUND_MINUTES if each >= minutes), 60 * ceil(minutes / 60))
