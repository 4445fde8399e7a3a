"""Verdicts on trainings, from curves as real trainings of nuclei and of the demonstration have left them."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from unetpp.measure.curves import Curves, Validated, read_curves
from unetpp.measure.training_rules import judge_training
from unetpp.measure.verdict import judge_fold, judge_run, suggest_command
from unetpp.measured import DepthRow, MeanScores, Recommendation
from unetpp.model_notes import (
    DIVERGED,
    GOOD,
    IMPROVING,
    NO_GAIN,
    OVER_FITTED,
    TOO_SHORT,
    UNFINISHED,
    WEAK,
    Metrics,
    Verdict,
)
from unetpp.run_folder import RunFolder
from unetpp.train.log import read_log

Pairs = list[tuple[int, float]]

NUCLEI_TWO_MINUTES: tuple[Pairs, Pairs] = (
    [(28, 0.683), (44, 0.757), (56, 0.806), (87, 0.864), (118, 0.867), (180, 0.881), (207, 0.89), (245, 0.891)],
    [(1, 1.936), (24, 0.771), (41, 0.479), (81, 0.348), (107, 0.36), (141, 0.27), (207, 0.183), (234, 0.202)],
)
DEMONSTRATION: tuple[Pairs, Pairs] = (
    [(9, 0.455), (16, 0.502), (31, 0.55), (39, 0.69), (47, 0.792), (60, 0.821), (67, 0.822), (75, 0.823)],
    [(1, 1.692), (27, 1.146), (52, 0.693)],
)
EASY: tuple[Pairs, Pairs] = (
    [(9, 0.0), (18, 0.094), (27, 0.42), (36, 0.606), (45, 0.965), (54, 0.995), (63, 0.998), (90, 1.0)],
    [(1, 2.357), (27, 0.861), (55, 0.27), (82, 0.09)],
)
FULL_LENGTH: tuple[Pairs, Pairs] = (
    [(240, 0.86), (480, 0.892), (960, 0.908), (1440, 0.917), (1920, 0.922), (2160, 0.9245), (2400, 0.925)],
    [(1, 1.936), (480, 0.3), (1200, 0.22), (2400, 0.17)],
)
OVER: tuple[Pairs, Pairs] = (
    [(200, 0.7), (400, 0.78), (600, 0.8), (800, 0.79), (1200, 0.77), (1600, 0.76), (2000, 0.75)],
    [(1, 2.0), (580, 0.4), (1200, 0.2), (1990, 0.1)],
)
FLAT: tuple[Pairs, Pairs] = (
    [(200, 0.05), (600, 0.11), (1200, 0.12), (1600, 0.121), (2000, 0.12)],
    [(1, 2.0), (1000, 1.7), (1990, 1.65)],
)
ONE_OF_EIGHT = Curves(
    steps=47,
    seconds=79.0,
    ended=True,
    validations=tuple(
        Validated(step, dice, train_dice=trained)
        for step, dice, trained in [
            (6, 0.216, 0.262),
            (11, 0.595, 0.631),
            (15, 0.822, 0.849),
            (20, 0.863, 0.895),
            (25, 0.840, 0.874),
            (34, 0.840, 0.873),
            (43, 0.848, 0.878),
            (47, 0.850, 0.880),
        ]
    ),
    losses=((1, 1.94), (8, 1.297), (16, 0.925), (20, 0.727), (23, 0.725), (34, 0.488), (44, 0.445), (47, 0.463)),
    validated=1,
    scored=(2, 8),
)
"""Nuclei in two minutes of a slow machine, with time for one of eight cases in each validation."""


def make_curves(curves: tuple[Pairs, Pairs], ended: bool = True) -> Curves:
    """Curves of a training of one step each second."""
    dice, losses = curves
    return Curves(dice[-1][0], dice[-1][0], ended, tuple(Validated(*pair) for pair in dice), tuple(losses))


def test_the_best_weights_are_those_since_the_last_shell_joined() -> None:
    validations = (Validated(10, 0.9), Validated(20, 0.7), Validated(30, 0.8))
    log = [{"kind": "validation", "step": each.step, "dice": each.dice} for each in validations]
    growth = {"kind": "growth", "step": 10}
    assert read_curves(log).best == validations[0]
    assert read_curves([log[0], growth, *log[1:]]).best == validations[2]
    assert read_curves([log[0], growth]).best == validations[0]


@pytest.mark.parametrize(
    ("curves", "kind", "said"),
    [
        (([(1, 0.159)], [(1, 1.936)]), TOO_SHORT, "1 step of the 1,600"),
        (([(3, 0.36)], [(3, 1.5)]), TOO_SHORT, "validation Dice 0.360, loss 1.500 in training"),
        (NUCLEI_TWO_MINUTES, IMPROVING, "the second half of the 245 steps raised the validation Dice from 0.868"),
        (DEMONSTRATION, IMPROVING, "loss 0.693 in training"),
        (EASY, GOOD, "validation Dice 1.000"),
        (FULL_LENGTH, GOOD, "the second half of the 2,400 steps added 1.2 points"),
        (OVER, OVER_FITTED, "since step 600: in training loss 0.400 to 0.100, in validation Dice 0.800 to 0.750;"),
        (FLAT, WEAK, "Hardly learned in 2,000 steps"),
    ],
)
def test_curves_are_judged(curves: tuple[Pairs, Pairs], kind: str, said: str) -> None:
    verdict = judge_training(make_curves(curves))
    assert verdict is not None and (verdict.kind, verdict.learned) == (kind, kind not in (TOO_SHORT, WEAK))
    assert said in verdict.reason


def test_a_training_that_was_stopped_is_unfinished() -> None:
    verdict = judge_training(make_curves(NUCLEI_TWO_MINUTES, ended=False))
    assert verdict and verdict.kind == UNFINISHED and verdict.learned


def test_without_validation_only_the_steps_and_the_loss_are_judged() -> None:
    few = judge_training(Curves(26, 26.0, True, (), ((26, 0.5),)))
    assert few and (few.kind, few.learned) == (TOO_SHORT, False) and "26 steps of the 1,600" in few.reason
    assert judge_training(Curves(26, 26.0, False, (), ())) is None
    assert judge_training(Curves(2000, 26.0, True, (), ((26, 0.5),))) is None


def test_a_ruined_training_is_not_good() -> None:
    dice = [(400, 0.8), (800, 0.85), (1200, 0.2), (1600, 0.0), (2000, 0.0)]
    losses = [(300, 0.6), (400, 0.5), (500, 0.5), (800, 0.5), (1500, 20.0), (1900, 43.0), (2000, 43.0)]
    verdict = judge_training(make_curves((dice, losses)))
    assert verdict and verdict.kind == DIVERGED and "rose from 0.500 to 43.000" in verdict.reason
    assert suggest_command(verdict, Path("run")) == "unetpp report run"
    blind = judge_training(Curves(2000, 2000.0, True, (), tuple(losses)))
    assert blind and (blind.kind, blind.learned) == (DIVERGED, False)


def test_a_few_steps_from_learned_weights_are_not_good() -> None:
    curves = Curves(7, 7.0, True, (Validated(7, 0.9),), (), from_weights=True)
    verdict = judge_training(curves)
    assert verdict and (verdict.kind, verdict.learned) == (TOO_SHORT, True) and "of the 100" in verdict.reason
    long = judge_training(replace(curves, steps=100, validations=(Validated(100, 0.9),)))
    assert long and long.kind == GOOD


def test_a_best_score_from_before_an_extension_is_none_of_its_own() -> None:
    verdict = judge_training(replace(make_curves(FULL_LENGTH), steps=3000, began=2400))
    assert verdict and verdict.kind == NO_GAIN
    assert "brought nothing: the best validation Dice, 0.925, is of step 2,400" in verdict.reason


def test_the_scores_of_all_cases_decide_and_those_of_some_do_not() -> None:
    curves = replace(make_curves(FULL_LENGTH), validated=5, scored=(92, 92), final=0.58)
    verdict = judge_training(curves)
    assert verdict and verdict.reason.startswith("Trained to its end: validation Dice 0.580 over 92 cases")


@pytest.mark.parametrize(
    ("curves", "kind"), [(FULL_LENGTH, GOOD), (NUCLEI_TWO_MINUTES, IMPROVING), (OVER, OVER_FITTED)]
)
def test_before_all_cases_are_scored_the_curves_are_judged_however_many_are(
    curves: tuple[Pairs, Pairs], kind: str
) -> None:
    found = replace(make_curves(curves), validated=5)
    whole = judge_training(replace(found, scored=(92, 92), final=0.85))
    assert whole and whole.kind == kind and "judged by the curves" not in whole.reason
    for own in (1, 91):
        some = judge_training(replace(found, scored=(own, 92)))
        assert some and (some.kind, some.advice, some.more_minutes) == (kind, whole.advice, whole.more_minutes)
        assert "during training (5 of 92 cases)" in some.reason
        assert f"judged by the curves alone, {own} of 92 validation cases scored so far" in some.reason


def test_what_was_learned_by_heart_is_over_fitted_however_few_the_steps() -> None:
    dice = [(9, 0.179, 0.42), (30, 0.01, 0.7), (60, 0.0, 0.888)]
    validations = tuple(Validated(step, own, train_dice=trained) for step, own, trained in dice)
    curves = Curves(60, 60.0, True, validations, ((60, 0.17),), scored=(1, 1), final=0.179)
    verdict = judge_training(curves)
    assert verdict and (verdict.kind, verdict.learned) == (OVER_FITTED, False)
    assert "training Dice 0.888, validation Dice 0.000 at the end; validation Dice 0.179 over 1 case" in verdict.reason
    assert verdict.reason.endswith("; the best weights, of step 9 of 60, are used.")
    near = tuple(replace(each, dice=0.6) for each in validations)
    other = judge_training(replace(curves, validations=near))
    assert other and other.kind == TOO_SHORT


def test_a_short_training_whose_loss_falls_is_not_over_fitted_without_evidence() -> None:
    points = [(15, 0.3, 0.78), (28, 0.55, 0.87), (40, 0.54, 0.88)]
    validations = tuple(Validated(step, dice, train_dice=trained) for step, dice, trained in points)
    curves = Curves(40, 40.0, True, validations, ((20, 1.2), (40, 0.6)), validated=12, scored=(12, 12), final=0.55)
    verdict = judge_training(curves)
    assert verdict and verdict.kind == TOO_SHORT and "More time alone" not in verdict.advice
    known = replace(curves, losses=((20, 1.2), (40, 0.1)))
    past = replace(curves, validations=(replace(validations[0], dice=0.58), *validations[1:]))
    flat = replace(curves, losses=((20, 0.6), (40, 0.6)))
    for shown in (known, past, flat):
        other = judge_training(shown)
        assert other and other.kind == OVER_FITTED
    few = judge_training(replace(flat, validated=8, scored=(8, 8)))  # the training Dice is that of two cases
    assert few and few.kind == TOO_SHORT


def test_a_validation_that_falls_late_in_a_short_training_is_not_over_fitting() -> None:
    validations = (Validated(100, 0.8), Validated(240, 0.86), Validated(320, 0.83), Validated(400, 0.83))
    losses = ((100, 0.8), (200, 0.5), (240, 0.45), (400, 0.3))
    curves = Curves(400, 400.0, True, validations, losses, validated=8, scored=(8, 8), final=0.86)
    verdict = judge_training(curves)
    assert verdict and verdict.kind != OVER_FITTED
    early = replace(curves, validations=(Validated(150, 0.86), *validations[2:]))
    lasting = judge_training(early)
    assert lasting and lasting.kind == OVER_FITTED
    one = judge_training(replace(early, validated=1))
    assert one and one.kind != OVER_FITTED


def test_a_verdict_and_its_advice_are_the_same_before_and_after_all_cases_are_scored() -> None:
    before, after = judge_training(ONE_OF_EIGHT), judge_training(replace(ONE_OF_EIGHT, scored=(8, 8), final=0.534))
    assert before and after and "Too short to judge: 47 steps of the 1,600" in before.reason
    assert "Too short to have learned: 47 steps of the 1,600" in after.reason and "0.534 over 8 cases" in after.reason
    wanted = (TOO_SHORT, "Train longer.", 60, False)
    for verdict in (before, after):
        assert (verdict.kind, verdict.advice, verdict.more_minutes, verdict.learned) == wanted
        assert "the best weights by 1 validation case, of step 20 of 47, are used" in verdict.reason


def test_an_extension_that_brought_nothing_is_told_whatever_the_verdict() -> None:
    more = (Validated(54, 0.854), Validated(60, 0.856))
    extended = replace(ONE_OF_EIGHT, steps=60, began=47, validations=(*ONE_OF_EIGHT.validations, *more))
    used = "the 13 added steps brought nothing: the best weights by 1 validation case, of step 20 of 60, are used"
    falling = replace(extended, losses=((30, 0.8), (60, 0.4)), final=0.9, scored=(8, 8))
    for each, kind in (
        (replace(extended, final=0.534), TOO_SHORT),
        (falling, IMPROVING),
        (replace(extended, ended=False), UNFINISHED),
    ):
        verdict = judge_training(each)
        assert verdict and verdict.kind == kind and used in verdict.reason
    shown = judge_training(replace(falling, losses=((30, 0.4), (60, 0.4))))
    assert shown and shown.kind == NO_GAIN and "are used" in shown.reason and "added steps brought" not in shown.reason
    gained = replace(extended, validations=(*ONE_OF_EIGHT.validations, Validated(60, 0.9)))
    verdict = judge_training(gained)
    assert verdict and "are used" not in verdict.reason


def test_the_minutes_are_one_estimate_for_every_verdict() -> None:
    curves = make_curves(NUCLEI_TWO_MINUTES)
    over = replace(curves, validations=(Validated(20, 0.86), Validated(200, 0.7), Validated(245, 0.7)))
    found = [judge_training(each) for each in (curves, over, replace(curves, validated=24, scored=(24, 24), final=0.3))]
    assert [each and each.kind for each in found] == [IMPROVING, OVER_FITTED, TOO_SHORT]
    assert {each and each.more_minutes for each in found} == {30}
    long = judge_training(replace(make_curves(OVER), seconds=1e7))
    assert long and long.more_minutes == 24 * 60


def test_a_flat_dice_of_a_few_cases_does_not_end_a_training_whose_loss_falls() -> None:
    validations = (Validated(110, 0.94), Validated(220, 0.944))
    losses = ((105, 0.36), (110, 0.36), (215, 0.3), (220, 0.3))
    curves = Curves(220, 220.0, True, validations, losses, validated=4, scored=(92, 92), final=0.895)
    verdict = judge_training(curves)
    assert verdict and verdict.kind == IMPROVING and "lowered it from 0.360 to 0.300" in verdict.reason
    for changes in ({"validated": 24}, {"losses": ((110, 0.32), (220, 0.3))}, {"steps": 1600}):
        other = judge_training(replace(curves, **changes))
        assert other and other.kind == GOOD


def test_one_validation_case_is_little_to_judge_by() -> None:
    curves = replace(make_curves(EASY), scored=(1, 1), final=0.99)
    verdict = judge_training(curves)
    assert verdict and verdict.advice == "1 validation case can say little of new images: label more."
    more = judge_training(replace(curves, scored=(3, 3)))
    assert more and more.advice == ""


@pytest.mark.parametrize("curves", [NUCLEI_TWO_MINUTES, ([(3, 0.36)], []), OVER, FLAT, FULL_LENGTH])
def test_every_verdict_that_rests_on_few_validation_cases_says_so(curves: tuple[Pairs, Pairs]) -> None:
    found = make_curves(curves)
    few = judge_training(replace(found, scored=(2, 2), final=found.best.dice))
    assert few and few.advice.endswith("2 validation cases can say little of new images: label more.")
    enough = judge_training(replace(found, scored=(3, 3), final=found.best.dice))
    assert enough and "can say little" not in enough.advice
    stopped = judge_training(replace(found, ended=False, validated=1))
    assert stopped and stopped.advice == "Continue it. 1 validation case can say little of new images."


def test_the_advice_for_several_folds_is_for_folds_that_exist(tmp_path: Path) -> None:
    run, lines = RunFolder(tmp_path), [{"kind": "validation", "step": 30, "dice": 0.3, "elapsed_s": 30.0}]
    lines.append({"kind": "end", "step": 30, "reason": "finished", "seconds": 30.0})
    for fold in (0, 1):
        run.fold(fold).mkdir()
        (run.fold(fold) / "log.jsonl").write_text("\n".join(map(json.dumps, lines)))
    run.splits.write_text(json.dumps([{"train": ["a", "b"], "validation": [name]} for name in "cde"]))
    verdict = judge_run(run, [0, 1])
    assert verdict and verdict.fold == 0
    run.splits.write_text(json.dumps([{"train": ["a", "b"], "validation": [name]} for name in "cd"]))
    verdict = judge_run(run, [0, 1])
    assert verdict and suggest_command(verdict, run.path).endswith("--fold all --minutes +60")


def test_a_deepest_head_behind_a_shallow_one_has_not_learned() -> None:
    last = Validated(200, 0.6, depths=(0.78, 0.75, 0.7, 0.6))
    verdict = judge_training(Curves(200, 200.0, True, (last,), ()))
    assert verdict and verdict.kind == TOO_SHORT


def test_a_rising_validation_loss_is_over_fitting_and_both_losses_are_shown() -> None:
    points = [(400, 0.80, 0.5), (800, 0.82, 0.4), (1200, 0.82, 0.45), (2000, 0.81, 0.52)]
    validations = tuple(Validated(*point) for point in points)
    verdict = judge_training(Curves(2000, 2000.0, True, validations, ((790, 0.3), (1990, 0.1))))
    assert verdict and verdict.kind == OVER_FITTED
    assert "in training loss 0.300 to 0.100, in validation Dice 0.820 to 0.810, loss 0.400 to 0.520;" in verdict.reason
    gaining = tuple(replace(each, dice=each.dice + 0.1 * (each.step > 800)) for each in validations)
    still = judge_training(Curves(2000, 2000.0, True, gaining, ((790, 0.3), (1990, 0.1))))
    assert still and still.kind != OVER_FITTED  # more certain where it is wrong, and more often right
    rising = judge_training(Curves(2000, 2000.0, True, validations, ((790, 0.3), (1990, 0.29))))
    assert rising and rising.kind != OVER_FITTED and "loss 0.290 in training and 0.520 in validation" in rising.reason


def test_a_training_dice_that_rises_while_that_of_validation_falls_is_over_fitting(tmp_path: Path) -> None:
    points = [(400, 0.70, 0.75), (800, 0.80, 0.85), (1200, 0.79, 0.93), (1600, 0.77, 0.97), (2000, 0.76, 0.98)]
    lines = [{"kind": "validation", "step": at, "dice": dice, "train_dice": own} for at, dice, own in points]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, [*lines, {"kind": "end", "step": 2000}])))
    curves = read_curves(read_log(tmp_path / "log.jsonl")[0])
    verdict = judge_training(curves)
    assert verdict and verdict.kind == OVER_FITTED
    assert "since step 800: in training Dice 0.850 to 0.980, in validation Dice 0.800 to 0.760;" in verdict.reason
    equal = tuple(replace(each, train_dice=0.86) for each in curves.validations)
    other = judge_training(replace(curves, validations=equal))
    assert other and other.kind != OVER_FITTED and "training Dice 0.860" in other.reason


def test_the_command_can_be_pasted() -> None:
    verdict = judge_training(make_curves(NUCLEI_TWO_MINUTES))
    assert verdict
    command = suggest_command(verdict, Path("my runs/a"), Path("my cells"))
    expected = ["unetpp", "train", "my cells", "--out", "my runs/a", "--resume", "--minutes", "+30"]
    assert shlex.split(command) == expected
    assert suggest_command(verdict.model_copy(update={"fold": 2}), Path("r")).endswith("--fold 2 --minutes +30")
    assert "--add-cases" in suggest_command(Verdict(kind=OVER_FITTED, reason="", advice=""), Path("run"))
    assert suggest_command(Verdict(kind=WEAK, reason="", advice=""), Path("run")) == "unetpp report run"


@pytest.mark.parametrize(("learned", "end"), [(True, "predictions --depth 1"), (False, "predictions")])
def test_the_command_that_predicts_does_so_at_the_recommended_depth(learned: bool, end: str) -> None:
    verdict = Verdict(kind=GOOD, reason="", advice="", learned=learned)
    found = Metrics(depths={1: DepthRow(), 2: DepthRow()}, recommended=Recommendation(depth=1, reason="enough"))
    assert suggest_command(verdict, Path("run"), found=found).endswith(end)


def test_a_log_is_judged_whatever_its_lines_are(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert judge_fold(run, 0) is None
    run.fold(0).mkdir()
    lines = [
        {"kind": "start", "step": 0},
        {"kind": "train", "step": 40, "loss": 0.5, "elapsed_s": 40.0},
        {"kind": "validation", "step": 40, "dice": 0.3, "depths": {"1": None, "2": 0.3}, "elapsed_s": 41.0},
        {"kind": "end", "step": 40, "reason": "finished", "seconds": 42.0},
    ]
    text = "\n".join(["no json", *map(json.dumps, lines)])
    (run.fold(0) / "log.jsonl").write_text(text)
    verdict = judge_fold(run, 0)
    assert verdict and verdict.kind == TOO_SHORT and verdict.more_minutes == 45


def test_further_minutes_are_those_of_steps_and_not_of_a_start_up() -> None:
    """Of a minute in which the network was compiled and validated for most of the time."""
    log = [
        {"kind": "start", "step": 0},
        {"kind": "train", "step": 1, "elapsed_s": 30.0},
        {"kind": "train", "step": 11, "elapsed_s": 35.0},
        {"kind": "validation", "step": 12, "dice": 0.3, "elapsed_s": 45.0},
        {"kind": "train", "step": 22, "elapsed_s": 50.0},
        {"kind": "validation", "step": 24, "dice": 0.4, "elapsed_s": 60.0},
        {"kind": "end", "step": 24, "reason": "finished", "seconds": 60.0},
    ]
    curves = read_curves(log)
    assert curves.step_s == pytest.approx(0.5)
    assert curves.estimate_seconds(1576) == pytest.approx(1576 * 0.5 + (60 - 12))  # and a start-up, and validations
    verdict = judge_training(curves)
    assert verdict and verdict.more_minutes == 20  # not 90, as if every step took 2.5 s
    twice = read_curves([*log[:3], {"kind": "start", "step": 11}, *log[3:]])  # the next line has a start-up before it
    assert (twice.step_s, twice.sessions) == (pytest.approx(0.5), 2)
    grown = read_curves([*log[:3], {"kind": "growth", "step": 11, "elapsed_s": 35.0}, *log[3:-1]])
    assert grown.step_s == pytest.approx(0.5) and grown.grown == 11
    only_validated = [line for line in log if line["kind"] != "train" or line["step"] == 1]
    assert read_curves(only_validated).step_s == pytest.approx(30 / 23)  # at most
    assert read_curves(log[:2]).step_s is None


def test_an_inner_size_that_has_learned_is_not_called_too_short() -> None:
    log = [
        {"kind": "validation", "step": 300, "dice": 0.6, "depths": {"2": 0.91, "4": 0.6}, "elapsed_s": 300.0},
        {"kind": "end", "step": 300, "reason": "finished", "elapsed_s": 300.0},
    ]
    rows = {2: DepthRow(dice=0.91, depth=2, channels=8), 4: DepthRow(dice=0.6, depth=2, channels=16)}
    metrics = Metrics(mean=MeanScores(dice=0.6), depths=rows)
    verdict = judge_training(read_curves(log, metrics))
    assert verdict and (verdict.kind, verdict.learned) == (TOO_SHORT, True)
    assert "Too short for the largest size: 300 steps" in verdict.reason
    assert "2x8 has 0.910, 2x16 0.600" in verdict.reason and verdict.more_minutes
    plain = {1: DepthRow(dice=0.91), 2: DepthRow(dice=0.6)}
    behind = judge_training(read_curves(log, metrics.merge(Metrics(depths=plain))))
    assert behind and (behind.kind, behind.learned) == (TOO_SHORT, False)


def test_a_dice_that_any_mask_of_foreground_has_shows_nothing() -> None:
    validations = (Validated(9, 0.865), Validated(18, 0.877))
    curves = Curves(18, 18.0, True, validations, (), scored=(5, 5), final=0.877, trivial=0.875)
    verdict = judge_training(curves)
    assert verdict and (verdict.kind, verdict.learned) == (TOO_SHORT, False)
    assert "a mask that is foreground everywhere has 0.875" in verdict.reason
    better = judge_training(replace(curves, final=0.93))
    assert better and better.learned
    good = judge_training(replace(curves, final=0.93, validations=validations[1:]))
    assert good and good.kind == GOOD and "a mask that is foreground everywhere has 0.875" in good.reason
    long = judge_training(replace(curves, steps=2000, validations=(Validated(2000, 0.877),)))
    assert long and long.kind == WEAK
    assert read_curves([], fractions=(0.25, 0.75)).trivial == pytest.approx(1.5 / 1.75)
