"""Early exit: rules of `size="auto"`, fitted on the validation cases of a run.

A rule is a limit of uncertainty for each depth, with the Dice that it loses and the time that it saves on this machine.
In a network with shells, depths stand for the numbers of the sizes in `Predictor.growth`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from unetpp.data.store import StoredCase
from unetpp.deploy.exit_costs import time_exits
from unetpp.errors import UsageError
from unetpp.infer.early_exit import EarlyExit, choose_rule, estimate_uncertainty
from unetpp.infer.first_stage import require_one_stage
from unetpp.infer.predictor import Predictor, load_predictor
from unetpp.infer.sliding import predict_tiles
from unetpp.labels.coding_torch import TensorCoding
from unetpp.measure.stored_cases import StoredImage, find_stored_split
from unetpp.measure.verdict import suggest_for_model
from unetpp.measured import DepthTable
from unetpp.metrics.scores import bootstrap_interval, compute_dice_losses, fast_dice, mean_of
from unetpp.model.file import load_model, save_model
from unetpp.model.header import read_header
from unetpp.model.network import HeadOutputs
from unetpp.model_notes import MAX_DROP, Notes, Rule, has_unlearned
from unetpp.progress import SILENCE, Progress, Stage
from unetpp.run_folder import NO_VALIDATION
from unetpp.runtime.runner import Runner
from unetpp.size_names import SizeNames
from unetpp.words import count_noun

LOSSES = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01)
"""Accepted losses of Dice. For each, the fastest rule is tried whose expected mean loss over cases, plus two standard
errors, is not larger."""
ALWAYS = 100.0
"""More than any uncertainty, which is at most one over `infer.early_exit.FEWEST`."""
COMBINATIONS = 3000
"""Number of combinations of limits to choose from, with at most `MOST_LIMITS` at one depth."""
MOST_LIMITS = 14
FEWEST_CASES = 3

Limits = list[float | None]
"""Uncertainty below which a tile stops, for each depth but the deepest; None: it never stops there."""


def adapt_file(
    model: Path,
    device: str = "auto",
    backend: str = "auto",
    progress: Progress = SILENCE,
    given: Path | None = None,
) -> tuple[Fitted, SizeNames]:
    """Fit rules for a model file and write them into it.

    Args:
        model: model file in its run folder, RUN/fold_K/model.safetensors.
        device: auto, cpu, cuda or cuda:K.
        backend: runtime of the network: auto, torch, openvino or cuda.
        progress: shows what is predicted.
        given: what the user named, for errors: the run folder; None: the model file.

    Returns:
        The rules, the one that loses least first, with the time of each fixed size, and the sizes of the model.

    Raises:
        UsageError: a network with one head, or that has hardly learned; or too few validation cases in the run folder.
        ModelFileError: the model cannot be used.
    """
    require_one_stage(read_header(model).plan, model, "adapt")
    predictor = load_predictor(model, device, backend)
    sizes, named = predictor.sizes, given or model
    if len(predictor.depths) < 2:
        action = f"Predict without `{sizes.noun}`: it has {sizes.noun} {sizes.name(sizes.numbers[0])} alone."
        raise UsageError(named, "a network with one head", f"several {sizes.noun}s to choose from", action)
    network, header = load_model(model)
    _require_learned(model, named, header.notes, sizes)
    _, cases = find_stored_split(model, predictor.plan.data)
    if len(cases) < FEWEST_CASES:
        got = f"{count_noun(len(cases), 'validation case')} in the run folder"
        expected = f"{FEWEST_CASES} or more, as prepared by training (RUN/splits.json, RUN/cache)"
        action = "Name a model in its run folder, of a fold with validation cases: RUN/fold_K/model.safetensors."
        if cases:
            choice = f"give `unetpp predict` a `{sizes.noun}`, {sizes.describe()}"
            action = f"Early exit is fitted on them: train with more labeled cases, or {choice}."
        raise UsageError(named, got, expected, action)
    fitted = fit_rules(predictor, cases, progress)
    save_model(model, network.state_dict(), header.plan, header.notes.merge(Notes(auto=fitted.rules)))
    return fitted, sizes


def _require_learned(model: Path, named: Path, notes: Notes, sizes: SizeNames) -> None:
    """Raise UsageError for a network that has hardly learned: rules of what is wrong would say nothing.

    One without validation is refused for that: further training does not help.
    """
    if has_unlearned([notes]) and notes.fold != NO_VALIDATION:
        got = f"a network that has hardly learned: what its {sizes.noun}s lose says nothing"
        next_step = suggest_for_model(model, notes.verdict)
        action = f"Run `{next_step}` first." if next_step else "Train longer."
        raise UsageError(named, got, "one that has learned", action)


def find_fixed(
    fitted: Fitted, sizes: SizeNames, table: DepthTable, recommended: int | None, max_drop: float = MAX_DROP
) -> tuple[int, str] | None:
    """Find the size that is as good for all tiles as early exit, or better, and say why; None: early exit saves time.

    It is compared with the best size, then with the recommended one, without one with the best.

    Args:
        fitted: as `adapt_file` returns it.
        sizes: those of the model.
        table: their Dice.
        recommended: number of the recommended one, if there is one.
        max_drop: points of Dice that early exit may lose.
    """
    rule, largest = choose_rule(fitted.rules, max_drop, "the model", sizes), sizes.numbers[-1]
    dice = {number: row.dice for number in sizes.numbers if (row := table.depths.get(number)) and row.dice is not None}
    best = max(dice, key=lambda number: dice[number]) if largest in dice else largest
    if dice and 100 * (dice[best] - (own := dice[largest] - rule.dice_lost)) > max_drop:
        scores = f'has a validation Dice of {dice[best]:.3f}, `{sizes.noun}="auto"` of {own:.3f}'
        return best, f"{sizes.noun} {sizes.name(best)} for every tile {scores}"
    fixed = recommended or best
    share = fitted.shares[fixed]
    if rule.time < share:
        if len(rule.taken) > 1:
            return None
        (fixed,) = rule.taken
    advice = f"; {sizes.noun} {sizes.name(fixed)} is recommended" if fixed == recommended else ""
    if not advice and fixed not in rule.taken:
        advice = f"; {sizes.noun} {sizes.name(fixed)} has the best Dice"
    allowed = f'where {count_noun(max_drop, "point")} of Dice may be lost, `{sizes.noun}="auto"` takes'
    if len(rule.taken) == 1:
        return fixed, f"{allowed} {sizes.noun} {sizes.name(rule.taken[0])} for every tile{advice}"
    alone = f"{sizes.noun} {sizes.name(fixed)} alone {share:.0%}"
    return fixed, f"{allowed} {rule.time:.0%} of the time of {sizes.noun} {sizes.name(largest)}, {alone}{advice}"


class Fitted(NamedTuple):
    """Rules of early exit, and what they are compared with; all times were measured together."""

    rules: list[Rule]
    """The one that loses least first."""
    shares: dict[int, float]
    """Time of each size for every tile, as a fraction of that of the largest."""


def fit_rules(predictor: Predictor, cases: Sequence[StoredCase], progress: Progress = SILENCE) -> Fitted:
    """Observe every head once, choose limits that should lose little and save much, then measure each choice.

    Args:
        predictor: the model.
        cases: validation cases.
        progress: shows what is predicted.

    Returns:
        Rules with measured loss, full depth first; their times are those of single tiles, by where the tiles stopped.

    Raises:
        UsageError: no foreground in any case.
    """
    depths, runner = predictor.growth, predictor.runners[0]
    found = observe(predictor, cases, progress.stage("Predicting at every depth", "cases"))
    whole = time_exits(predictor, cases[0], [depths])
    seconds = np.array([whole.steps[depths[: number + 1]] for number in range(len(depths))])
    never: Limits = [None] * (len(depths) - 1)
    trials = [limits for limits in choose_limits(found, seconds) if limits != never]
    paths = [_find_path(depths, limits) for limits in trials]
    costs = time_exits(predictor, cases[0], paths)
    show = progress.stage("Trying rules", "rules")
    full = score_cases(predictor, runner, cases)
    tiles = {**dict.fromkeys(depths, 0), depths[-1]: len(found.case)}
    rules = [Rule(doubts=never, dice_lost=0.0, dice_lost_interval=(0.0, 0.0), tiles=tiles, time=1.0)]
    for number, (limits, path) in enumerate(zip(trials, paths, strict=True), start=1):
        adaptive = EarlyExit(runner, depths, limits, predictor.coding)
        lost = compute_dice_losses(full, score_cases(predictor, adaptive, cases))
        if not lost:
            expected = "some, to measure what early exit loses"
            sizes = predictor.sizes
            action = f"Give `unetpp predict` a `{sizes.noun}` instead, {sizes.describe()}."
            raise UsageError("validation cases", "no foreground in any of them", expected, action)
        stopped = {depth: adaptive.images[depth] for depth in depths}
        rule = Rule(
            doubts=limits,
            dice_lost=mean_of(lost),
            dice_lost_interval=bootstrap_interval(lost),
            tiles=stopped,
            time=costs.share(path, stopped),
        )
        rules += [rule] if rule.time < 1 else []  # slower than the deepest head: nothing to choose it for
        show(number, len(trials))
    return Fitted(rules, costs.shares())


def _find_path(depths: Sequence[int], limits: Limits) -> tuple[int, ...]:
    """List the depths at which tiles may stop; behind one at which all do, nothing is computed."""
    path: list[int] = []
    for depth, limit in zip(depths, (*limits, ALWAYS), strict=True):
        path += [depth] if limit is not None else []
        if limit is not None and limit >= ALWAYS:
            break
    return tuple(path)


@dataclass(frozen=True, eq=False)
class Observations:
    """Uncertainty and loss of all heads on some cases."""

    case: np.ndarray
    """(tiles,): index of the case of each tile."""
    uncertainty: np.ndarray
    """(tiles, depths - 1): uncertainty at each depth but the deepest."""
    lost: np.ndarray
    """(cases, depths): Dice of the deepest head minus that of each depth."""


def observe(predictor: Predictor, cases: Sequence[StoredCase], show: Stage) -> Observations:
    """Predict the cases at all depths."""
    depths = predictor.growth
    recorder = _Recorder(predictor.runners[0], depths[:-1], predictor.coding)
    number: list[int] = []
    lost = []
    for index, case in enumerate(cases):
        found = _predict(predictor, recorder, case, depths)
        number += [index] * (len(recorder.uncertainty) - len(number))
        dice = [_score(predictor, case, found[depth]) for depth in depths]
        lost.append([sum(compute_dice_losses([dice[-1]], [each])) for each in dice])
        show(index + 1, len(cases))
    return Observations(np.asarray(number), np.asarray(recorder.uncertainty), np.asarray(lost))


class _Recorder:
    """Runs all heads of a network, and records the uncertainty of each image at some depths."""

    def __init__(self, runner: Runner, depths: Sequence[int], coding: TensorCoding) -> None:
        self._runner, self._depths, self._coding = runner, depths, coding
        self.uncertainty: list[list[float]] = []

    def __call__(self, x: Tensor, depth: int | None = None, heads: bool = False) -> HeadOutputs:
        outputs = cast(HeadOutputs, self._runner(x, heads=True))
        self.uncertainty += torch.stack(
            [estimate_uncertainty(outputs.at(depth), self._coding) for depth in self._depths], dim=1
        ).tolist()
        return outputs


def choose_limits(found: Observations, seconds: np.ndarray) -> list[Limits]:
    """Choose the fastest limits whose expected loss is acceptable, for each of `LOSSES`, without repetitions.

    The loss of a case is estimated as the mean over its tiles, and the loss of a tile as that of its whole case at the
    depth where the tile stops.

    Args:
        found: uncertainty and loss of all heads.
        seconds: (depths,) time of a tile up to each depth.
    """
    count = found.uncertainty.shape[1]
    each = min(MOST_LIMITS, max(3, int(COMBINATIONS ** (1 / count))))
    quantiles = np.quantile(found.uncertainty, np.linspace(0, 1, each)[1:-1], axis=0).T
    tiles = np.bincount(found.case)
    trials: list[tuple[float, float, Limits]] = []
    for limits in itertools.product(*([None, *map(float, at_depth), ALWAYS] for at_depth in quantiles)):
        stops = np.full(len(found.case), count)
        for depth in reversed(range(count)):
            if (limit := limits[depth]) is not None:
                stops[found.uncertainty[:, depth] <= limit] = depth
        lost = np.bincount(found.case, weights=found.lost[found.case, stops]) / tiles
        expected = float(lost.mean() + 2 * lost.std(ddof=1) / np.sqrt(len(lost)))
        trials.append((float(seconds[stops].mean()), expected, list(limits)))
    best = [min((trial for trial in trials if trial[1] <= most), key=lambda trial: trial[0])[2] for most in LOSSES]
    return [limits for number, limits in enumerate(best) if limits not in best[:number]]


def score_cases(predictor: Predictor, runner: Runner, cases: Sequence[StoredCase]) -> list[float | None]:
    """Predict cases at the deepest head, or as early exit chooses, and return the Dice of each.

    Args:
        predictor: the model.
        runner: the network, or early exit around it.
        cases: labelled cases.
    """
    deepest = predictor.depths[-1:]
    return [_score(predictor, case, _predict(predictor, runner, case, deepest)[deepest[0]]) for case in cases]


def _predict(predictor: Predictor, runner: Runner, case: StoredCase, depths: Sequence[int]) -> dict[int, np.ndarray]:
    image, plan = StoredImage(case.image()), predictor.plan.predict
    return predict_tiles([runner], image, plan, depths, predictor.device, predictor.coding)


def _score(predictor: Predictor, case: StoredCase, segmentation: np.ndarray) -> float | None:
    data = predictor.plan.data
    return fast_dice(segmentation, case.label(), data.num_classes, data.region_indices)
