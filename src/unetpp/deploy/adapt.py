"""Early exit: rules of `depth="auto"`, fitted on the validation cases of a run.

A rule is a limit of uncertainty for each depth, with the Dice that it loses and the time that it saves on this machine.
In a network with shells, depths stand for the numbers of the sizes in `Predictor.growth`.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from unetpp.data.store import StoredCase
from unetpp.errors import UsageError
from unetpp.infer.early_exit import EarlyExit, choose_rule, estimate_uncertainty
from unetpp.infer.options import MAX_DROP
from unetpp.infer.predictor import Predictor, load_predictor
from unetpp.infer.sliding import predict_tiles
from unetpp.infer.tiles import TileGrid, read_tile
from unetpp.measure.stored_cases import StoredImage, find_stored_split
from unetpp.measured import DepthRow, DepthTable, Notes, Rule
from unetpp.metrics.scores import bootstrap_interval, compute_dice_losses, fast_dice, mean_of
from unetpp.model.file import load_model, save_model
from unetpp.model.network import HeadOutputs
from unetpp.progress import SILENCE, Progress, Stage
from unetpp.runtime.device import autocast
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
) -> tuple[list[Rule], SizeNames]:
    """Fit rules for a model file and write them into it.

    Args:
        model: model file in its run folder, RUN/fold_K/model.safetensors.
        device: auto, cpu, cuda or cuda:K.
        backend: runtime of the network: auto, torch, openvino or cuda.
        progress: shows what is predicted.
        given: what the user named, for errors: the run folder; None: the model file.

    Returns:
        The rules, the one that loses least first, and the sizes of the model.

    Raises:
        UsageError: a network with one head, or too few validation cases in the run folder.
        ModelFileError: the model cannot be used.
    """
    predictor = load_predictor(model, device, backend)
    sizes, named = predictor.sizes, given or model
    if len(predictor.depths) < 2:
        action = f"Predict without `{sizes.noun}`: it has {sizes.noun} {sizes.name(sizes.numbers[0])} alone."
        raise UsageError(named, "a network with one head", f"several {sizes.noun}s to choose from", action)
    _, cases = find_stored_split(model, predictor.plan.data)
    if len(cases) < FEWEST_CASES:
        got = f"{count_noun(len(cases), 'validation case')} in the run folder"
        expected = f"{FEWEST_CASES} or more, as cached by training (RUN/splits.json, RUN/cache)"
        action = "Name the model in its run folder; if its cache was removed, train again."
        if cases:
            choice = f"give `unetpp predict` a `{sizes.noun}`, {sizes.describe()}"
            action = f"Early exit is fitted on them: train with more labeled cases, or {choice}."
        raise UsageError(named, got, expected, action)
    rules = fit_rules(predictor, cases, progress)
    network, header = load_model(model)
    save_model(model, network.state_dict(), header.plan, header.notes.merge(Notes(auto=rules)))
    return rules, sizes


def find_fixed(
    rules: Sequence[Rule], sizes: SizeNames, table: DepthTable, recommended: int | None, max_drop: float = MAX_DROP
) -> tuple[int, str] | None:
    """Find the size that is as good for all tiles as early exit, and say why; None: early exit saves time.

    It is compared with the recommended size, without one with the largest.

    Args:
        rules: as `adapt_file` returns them.
        sizes: those of the model.
        table: their times.
        recommended: number of the recommended one, if there is one.
        max_drop: points of Dice that early exit may lose.
    """
    rule, largest = choose_rule(rules, max_drop, "the model", sizes), sizes.numbers[-1]
    times = [table.depths.get(number, DepthRow()).latency_ms for number in (recommended or largest, largest)]
    fixed, share = (recommended, times[0] / times[1]) if recommended and times[0] and times[1] else (largest, 1.0)
    if rule.time < share and len(rule.taken) > 1:
        return None
    if rule.time < share:
        (fixed,) = rule.taken
    advice = f"; {sizes.noun} {sizes.name(fixed)} is recommended" if fixed == recommended else ""
    allowed = f'where {count_noun(max_drop, "point")} of Dice may be lost, `{sizes.noun}="auto"` takes'
    if len(rule.taken) == 1:
        return fixed, f"{allowed} {sizes.noun} {sizes.name(rule.taken[0])} for every tile{advice}"
    alone = f"{sizes.noun} {sizes.name(fixed)} alone {share:.0%}"
    return fixed, f"{allowed} {rule.time:.0%} of the time of {sizes.noun} {sizes.name(largest)}, {alone}{advice}"


def fit_rules(predictor: Predictor, cases: Sequence[StoredCase], progress: Progress = SILENCE) -> list[Rule]:
    """Observe every head once, choose limits that should lose little and save much, then measure each choice.

    Args:
        predictor: the model.
        cases: validation cases.
        progress: shows what is predicted.

    Returns:
        Rules with measured loss and time, full depth first.

    Raises:
        UsageError: no foreground in any case.
    """
    depths, runner = predictor.growth, predictor.runners[0]
    found = observe(predictor, cases, progress.stage("Predicting at every depth", "cases"))
    never: Limits = [None] * (len(depths) - 1)
    trials = [limits for limits in choose_limits(found, time_depths(predictor, cases[0])) if limits != never]
    show = progress.stage("Trying rules", "rules")
    full, full_s = score_cases(predictor, runner, cases)
    tiles = {**dict.fromkeys(depths, 0), depths[-1]: len(found.case)}
    rules = [Rule(doubts=never, dice_lost=0.0, dice_lost_interval=(0.0, 0.0), tiles=tiles, time=1.0)]
    for number, limits in enumerate(trials, start=1):
        adaptive = EarlyExit(runner, depths, limits)
        dice, seconds = score_cases(predictor, adaptive, cases)
        lost = compute_dice_losses(full, dice)
        if not lost:
            expected = "some, to measure what early exit loses"
            sizes = predictor.sizes
            action = f"Give `unetpp predict` a `{sizes.noun}` instead, {sizes.describe()}."
            raise UsageError("validation cases", "no foreground in any of them", expected, action)
        rule = Rule(
            doubts=limits,
            dice_lost=mean_of(lost),
            dice_lost_interval=bootstrap_interval(lost),
            tiles={depth: adaptive.images[depth] for depth in depths},
            time=seconds / full_s,
        )
        rules += [rule] if rule.time < 1 else []  # slower than the deepest head: nothing to choose it for
        show(number, len(trials))
    return rules


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
    recorder = _Recorder(predictor.runners[0], depths[:-1])
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

    def __init__(self, runner: Runner, depths: Sequence[int]) -> None:
        self._runner, self._depths = runner, depths
        self.uncertainty: list[list[float]] = []

    def __call__(self, x: Tensor, depth: int | None = None, heads: bool = False) -> HeadOutputs:
        outputs = cast(HeadOutputs, self._runner(x, heads=True))
        self.uncertainty += torch.stack(
            [estimate_uncertainty(outputs.at(depth)) for depth in self._depths], dim=1
        ).tolist()
        return outputs


def time_depths(predictor: Predictor, case: StoredCase, repeats: int = 3) -> np.ndarray:
    """Time an incremental forward pass of one tile up to each depth.

    Args:
        predictor: the model.
        case: the case of the tile.
        repeats: number of timed passes.

    Returns:
        (depths,) seconds: the shortest over the repeats.
    """
    plan, image = predictor.plan.predict, StoredImage(case.image())
    tile = read_tile(image, next(iter(TileGrid(image.shape[1:], plan.tile, plan.overlap))), plan.tile)
    x = torch.from_numpy(tile)[None].to(predictor.device)
    spent = np.empty((1 + repeats, len(predictor.growth)))
    with torch.inference_mode(), torch.cuda.device(x.get_device()), autocast(predictor.device, plan.precision):
        for row in spent:  # the first warms up
            forward_pass, started = predictor.runners[0].start_forward(x), time.perf_counter()
            for place, depth in enumerate(predictor.growth):
                forward_pass.logits(depth).sum().item()  # waits for a GPU
                row[place] = time.perf_counter() - started
    best: np.ndarray = spent[1:].min(axis=0)
    return best


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


def score_cases(predictor: Predictor, runner: Runner, cases: Sequence[StoredCase]) -> tuple[list[float | None], float]:
    """Predict cases at the deepest head, or as early exit chooses, and score them.

    Args:
        predictor: the model.
        runner: the network, or early exit around it.
        cases: labelled cases.

    Returns:
        Dice of each case, and the seconds of predicting all of them.
    """
    deepest = predictor.depths[-1:]
    _predict(predictor, runner, cases[0], deepest)  # warm-up
    if isinstance(runner, EarlyExit):
        runner.images.clear()
    started = time.perf_counter()
    found = [_predict(predictor, runner, case, deepest)[deepest[0]] for case in cases]
    seconds = time.perf_counter() - started
    return [_score(predictor, case, each) for case, each in zip(cases, found, strict=True)], seconds


def _predict(predictor: Predictor, runner: Runner, case: StoredCase, depths: Sequence[int]) -> dict[int, np.ndarray]:
    return predict_tiles([runner], StoredImage(case.image()), predictor.plan.predict, depths, predictor.device)


def _score(predictor: Predictor, case: StoredCase, segmentation: np.ndarray) -> float | None:
    return fast_dice(segmentation, case.label(), predictor.plan.data.num_classes)
