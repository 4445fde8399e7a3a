"""Validation during training: Dice of every depth on stored cases, in little time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import TypeVar, cast

import numpy as np
import torch
from torch import nn

from unetpp.data.store import StoredCase
from unetpp.infer.sliding import predict_tiles
from unetpp.infer.tiles import TileGrid
from unetpp.measure.stored_cases import StoredImage
from unetpp.metrics.scores import Validation, fast_dice, mean_of
from unetpp.model.network import UNetPlusPlus
from unetpp.plan import Plan, PredictPlan
from unetpp.runtime.stopwatch import time_calls

T = TypeVar("T")
VALIDATION_OVERLAP = 0.25
"""Overlap of tiles during training: less than in prediction, to save most of the time; it ranks weights alike."""


class DepthValidation:
    """Scores a network at every depth on stored validation cases: the validation callback of training.

    Args:
        cases: the validation cases.
        plan: how the network predicts.
        device: where the network is.

    Attributes:
        cases: the cases in use, see `shorten` and `keep`.
        tile_s: seconds for one tile, by the latest measurement of the whole network; None before the first.
    """

    def __init__(self, cases: Sequence[StoredCase], plan: Plan, device: torch.device) -> None:
        self._all = self.cases = cases
        self.plan = plan
        self.device = device
        self.tile_s: float | None = None
        self._options = plan.predict.model_copy(update={"overlap": min(plan.predict.overlap, VALIDATION_OVERLAP)})

    def __call__(self, network: nn.Module) -> Validation:
        """Mean Dice of each depth over the cases in use."""
        scores: dict[int, list[float | None]] = {}
        started = time.perf_counter()
        for case in self.cases:
            for depth, dice in self._score(network, case).items():
                scores.setdefault(depth, []).append(dice)
        tile_s = (time.perf_counter() - started) / self.count_tiles()
        is_whole = cast(UNetPlusPlus, network).shells == len(self.plan.model.shells)
        self.tile_s = tile_s if is_whole or self.tile_s is None else self.tile_s  # what follows predicts with the whole
        return Validation({depth: mean_of(values) or 0.0 for depth, values in scores.items()})

    def seconds_per_tile(self, network: nn.Module) -> float:
        """Measure the time of one tile, on a corner of a case: a whole one may have hundreds of tiles."""
        corner = (slice(None), *(slice(size) for size in self._options.tile))
        image = StoredImage(self.cases[0].image()[corner])
        self._predict(network, image)  # warm-up
        self.tile_s = statistics.mean(time_calls(lambda: self._predict(network, image), self.device))
        return self.tile_s

    def count_tiles(self) -> int:
        """Number of tiles of one validation."""
        return count_tiles(self.cases, self._options)

    def shorten(self, tiles: float) -> None:
        """Use fewer cases, so that one validation has at most `tiles` tiles, but at least one case."""
        while len(self.cases) > 1 and self.count_tiles() > tiles:
            self.keep(len(self.cases) * 3 // 4)

    def keep(self, count: int) -> None:
        """Use `count` cases, spread evenly over all."""
        self.cases = choose_evenly(self._all, count)

    def _score(self, network: nn.Module, case: StoredCase) -> dict[int, float | None]:
        found, label, classes = (
            self._predict(network, StoredImage(case.image())),
            case.label(),
            self.plan.data.num_classes,
        )
        return {depth: fast_dice(segmentation, label, classes) for depth, segmentation in found.items()}

    def _predict(self, network: nn.Module, image: StoredImage) -> dict[int, np.ndarray]:
        return predict_tiles([network], image, self._options, cast(UNetPlusPlus, network).head_depths, self.device)


def count_tiles(cases: Sequence[StoredCase], plan: PredictPlan) -> int:
    """Number of tiles that cover some cases."""
    return sum(len(TileGrid(case.label().shape, plan.tile, plan.overlap)) for case in cases)


def choose_evenly(items: Sequence[T], count: int) -> list[T]:
    """Choose at most `count` items, spread evenly over all."""
    if len(items) <= count:
        return list(items)
    return [items[number * len(items) // count] for number in range(count)]
