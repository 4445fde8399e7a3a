"""Rules for `predict --depth auto`, fitted on validation cases: how sure a head has to be, what that loses, and what it saves on this machine."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from unetpp.data.store import StoredCase
from unetpp.errors import UsageError
from unetpp.infer.early_exit import Adaptive, doubts
from unetpp.infer.predictor import Predictor, load_predictor
from unetpp.infer.sliding import predict_tiles
from unetpp.infer.tiles import TileGrid, read_tile
from unetpp.measure.stored_cases import StoredImage, stored_split
from unetpp.measured import Notes, Rule
from unetpp.metrics.scores import bootstrap_interval, fast_dice, losses, mean_of
from unetpp.model.file import load_model, save_model
from unetpp.model.network import HeadOutputs
from unetpp.runtime.device import autocast
from unetpp.runtime.runner import Runner

LOSSES = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.01)
"""Of Dice. For each of them the fastest rule is tried that should lose no more in the mean over cases, with two standard errors."""
ALWAYS = 100.0
"""A doubt that no image has: half of its voxels over `infer.adaptive.FEWEST` is the most."""
COMBINATIONS = 3000
"""Of limits at the depths, among which the rules are looked for; at one depth `MOST_LIMITS` at most."""
MOST_LIMITS = 14
FEWEST_CASES = 3
Progress = Callable[[int, int], None]


def adapt_file(
    model: Path, device: str = "auto", backend: str = "auto", progress: Progress | None = None
) -> list[Rule]:
    """Fit rules for a model file and write them into it.

    Returns:
        the rules, the most careful first.

    Raises:
        UsageError: a network with one head, or too few validation cases in the run folder.
        ModelFileError: the model cannot be used.
    """
    predictor = load_predictor(model, device, backend)
    if len(predictor.depths) < 2:
        raise UsageError(f"{model}: got a network with one head; expected several depths to choose from.")
    _, cases = stored_split(model, predictor.plan.data)
    if len(cases) < FEWEST_CASES:
        raise UsageError(
            f"{model}: got {len(cases)} validation cases in the run folder; expected {FEWEST_CASES} or more, prepared as training left them (RUN/splits.json, RUN/cache). "
            "Name the model in its run folder, or train again."
        )
    rows = fit_rules(predictor, cases, progress or (lambda done, total: None))
    network, header = load_model(model)
    save_model(model, network.state_dict(), header.plan, header.notes.merge(Notes(auto=rows)))
    return rows


def fit_rules(predictor: Predictor, cases: Sequence[StoredCase], progress: Progress) -> list[Rule]:
    """Look at every head once, choose limits that should lose little and save much, then predict the cases with each choice. Full depth is always among them."""
    depths, runner = predictor.depths, predictor.runners[0]
    found = observed(predictor, cases)
    careful: list[float | None] = [None] * (len(depths) - 1)
    rules = [limits for limits in promising(found, seconds_of_depths(predictor, cases[0])) if limits != careful]
    full, full_s = scored(predictor, runner, cases)
    tiles = {depth: len(found.case) if depth == depths[-1] else 0 for depth in depths}
    rows = [
        Rule(doubts=careful, dice_lost=0.0, dice_lost_interval=(0.0, 0.0), tiles=tiles, time=1.0)
    ]  # the deepest head: nothing is lost
    for number, limits in enumerate(rules, start=1):
        adaptive = Adaptive(runner, depths, limits)
        dice, seconds = scored(predictor, adaptive, cases)
        lost = losses(full, dice)
        if not lost:
            raise UsageError(
                "adapt: got validation cases without any foreground; expected some, to see what is lost. Name a depth instead."
            )
        rows.append(
            Rule(
                doubts=limits,
                dice_lost=mean_of(lost),
                dice_lost_interval=bootstrap_interval(lost),
                tiles={depth: adaptive.images[depth] for depth in depths},
                time=seconds / full_s,
            )
        )
        progress(number, len(rules))
    return rows


@dataclass(frozen=True, eq=False)
class Observed:
    """What all heads say about some cases."""

    case: np.ndarray
    """(tiles,): the number of the case that each tile is of."""
    doubts: np.ndarray
    """(tiles, depths - 1): at each depth but the deepest."""
    lost: np.ndarray
    """(cases, depths): Dice of the deepest head less that of each, where all tiles stop there."""


def observed(predictor: Predictor, cases: Sequence[StoredCase]) -> Observed:
    """Predict the cases at all depths."""
    recorder = _Recorder(predictor.runners[0])
    number, lost = [], []
    for index, case in enumerate(cases):
        before = len(recorder.doubts)
        found = predict_tiles(
            [recorder], StoredImage(case.image()), predictor.plan.predict, predictor.depths, predictor.device
        )
        dice = [fast_dice(found[depth], case.label(), predictor.plan.data.num_classes) for depth in predictor.depths]
        lost.append([sum(losses([dice[-1]], [each])) for each in dice])
        number += [index] * (len(recorder.doubts) - before)
    return Observed(np.asarray(number), np.asarray(recorder.doubts), np.asarray(lost))


class _Recorder:
    """Runs all heads of a network, and keeps the doubt about each image at each depth but the deepest."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.doubts: list[list[float]] = []

    def __call__(self, x: Tensor, depth: int | None = None, heads: bool = False) -> HeadOutputs:
        outputs = cast(HeadOutputs, self._runner(x, heads=True))
        self.doubts += torch.stack([doubts(logits) for logits in outputs.logits[:-1]], dim=1).tolist()
        return outputs


def seconds_of_depths(predictor: Predictor, case: StoredCase, repeats: int = 3) -> np.ndarray:
    """(depths,): of a tile that goes from head to head as far as each, the best of some repeats."""
    plan, image = predictor.plan.predict, StoredImage(case.image())
    tile = read_tile(image, next(iter(TileGrid(image.shape[1:], plan.tile, plan.overlap))), plan.tile)
    x = torch.from_numpy(tile)[None].to(predictor.device)
    spent = np.empty((1 + repeats, len(predictor.depths)))
    with torch.inference_mode(), torch.cuda.device_of(x), autocast(predictor.device, plan.precision):
        for row in spent:  # the first warms up
            growth, started = predictor.runners[0].grow(x), time.perf_counter()
            for place, depth in enumerate(predictor.depths):
                growth.logits(depth).sum().item()  # waits for a GPU
                row[place] = time.perf_counter() - started
    best: np.ndarray = spent[1:].min(axis=0)
    return best


def promising(found: Observed, seconds: np.ndarray) -> list[list[float | None]]:
    """Limits of doubt for each depth but the deepest: for each of `LOSSES` the fastest that should lose no more, without repetitions.

    A case is taken to lose the mean of what its tiles lose, and a tile what the whole case loses at the depth where the tile stops.
    """
    count = found.doubts.shape[1]
    each = min(MOST_LIMITS, max(3, int(COMBINATIONS ** (1 / count))))
    quantiles = np.quantile(found.doubts, np.linspace(0, 1, each)[1:-1], axis=0).T
    tiles = np.bincount(found.case)
    trials: list[tuple[float, float, list[float | None]]] = []
    for limits in itertools.product(*([None, *map(float, of_depth), ALWAYS] for of_depth in quantiles)):
        stops = np.full(len(found.case), count)
        for depth in reversed(range(count)):
            if (limit := limits[depth]) is not None:
                stops[found.doubts[:, depth] <= limit] = depth
        lost = np.bincount(found.case, weights=found.lost[found.case, stops]) / tiles
        trials.append(
            (float(seconds[stops].mean()), float(lost.mean() + 2 * lost.std(ddof=1) / np.sqrt(len(lost))), list(limits))
        )
    best = [min((trial for trial in trials if trial[1] <= most), key=lambda trial: trial[0])[2] for most in LOSSES]
    return [limits for number, limits in enumerate(best) if limits not in best[:number]]


def scored(predictor: Predictor, runner: Runner, cases: Sequence[StoredCase]) -> tuple[list[float | None], float]:
    """Dice of each case, and seconds for all of them."""
    plan, deepest = predictor.plan, predictor.depths[-1]

    def segmented(case: StoredCase) -> np.ndarray:
        return predict_tiles([runner], StoredImage(case.image()), plan.predict, (deepest,), predictor.device)[deepest]

    segmented(cases[0])  # compiles what is compiled at its first use
    if isinstance(runner, Adaptive):
        runner.images.clear()
    started = time.perf_counter()
    found = [segmented(case) for case in cases]
    seconds = time.perf_counter() - started
    return [
        fast_dice(segmentation, case.label(), plan.data.num_classes)
        for segmentation, case in zip(found, cases, strict=True)
    ], seconds
