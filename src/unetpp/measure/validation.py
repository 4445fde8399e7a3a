"""How good a network is while it trains: Dice of every depth on stored cases, in little time."""

from __future__ import annotations

import statistics
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
"""Of tiles while training: less than in prediction, which costs a fraction of the time and orders the weights alike."""


class DepthValidation:
    """Scores a network at every depth on stored validation cases: the callback of training."""

    def __init__(self, cases: Sequence[StoredCase], plan: Plan, device: torch.device) -> None:
        self._all = self.cases = cases
        self.plan = plan
        self.device = device
        self._predict = plan.predict.model_copy(update={"overlap": min(plan.predict.overlap, VALIDATION_OVERLAP)})

    def __call__(self, network: nn.Module) -> Validation:
        scores: dict[int, list[float | None]] = {}
        for case in self.cases:
            for depth, dice in self._score(network, case).items():
                scores.setdefault(depth, []).append(dice)
        depths = {depth: mean_of(values) or 0.0 for depth, values in scores.items()}
        return Validation(depths)

    def seconds_per_tile(self, network: nn.Module) -> float:
        """Measured on a corner of a case: a whole one may have hundreds of tiles."""
        corner = (slice(None), *(slice(size) for size in self._predict.tile))
        image = StoredImage(self.cases[0].image()[corner])
        self._predicted(network, image)  # libraries are loaded and memory is taken
        return statistics.mean(time_calls(lambda: self._predicted(network, image), self.device))

    def tiles(self, cases: Sequence[StoredCase]) -> int:
        """Tiles of a validation on some cases."""
        return count_tiles(cases, self._predict)

    def shorten(self, tiles: float) -> None:
        """Use fewer cases, so that one validation has at most so many tiles; at least one case stays."""
        while len(self.cases) > 1 and self.tiles(self.cases) > tiles:
            self.keep(len(self.cases) * 3 // 4)

    def keep(self, count: int) -> None:
        """Use so many cases, spread over all."""
        self.cases = chosen_evenly(self._all, count)

    def _score(self, network: nn.Module, case: StoredCase) -> dict[int, float | None]:
        found, reference = self._predicted(network, StoredImage(case.image())), case.label()
        return {
            depth: fast_dice(segmentation, reference, self.plan.data.num_classes)
            for depth, segmentation in found.items()
        }

    def _predicted(self, network: nn.Module, image: StoredImage) -> dict[int, np.ndarray]:
        return predict_tiles([network], image, self._predict, cast(UNetPlusPlus, network).head_depths, self.device)


def count_tiles(cases: Sequence[StoredCase], plan: PredictPlan) -> int:
    """Tiles in which a network sees some cases."""
    return sum(len(TileGrid(case.label().shape, plan.tile, plan.overlap)) for case in cases)


def chosen_evenly(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of them, spread over all."""
    if len(items) <= count:
        return list(items)
    return [items[number * len(items) // count] for number in range(count)]
