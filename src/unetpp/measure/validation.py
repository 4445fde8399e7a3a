"""Validation during training: Dice of every depth on stored cases, in little time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import TypeVar, cast

import numpy as np
import torch
from torch import nn

from unetpp import labels
from unetpp.data.patches import PatchSampler
from unetpp.data.store import StoredCase
from unetpp.infer.sliding import predict_tiles
from unetpp.infer.tiles import TiledImage, TileGrid
from unetpp.labels.coding_torch import make_tensor_coding
from unetpp.measure.curves import VALIDATED_PER_TRAINED
from unetpp.measure.stored_cases import open_stored
from unetpp.metrics.scores import Validation, fast_dice, mean_of
from unetpp.model.network import UNetPlusPlus
from unetpp.plan import Plan, PredictPlan
from unetpp.runtime.device import autocast
from unetpp.runtime.stopwatch import time_calls
from unetpp.train.first_stage import FirstStageChannels
from unetpp.train.step import make_loss

T = TypeVar("T")
VALIDATION_OVERLAP = 0.25
"""Overlap of tiles during training: less than in prediction, to save most of the time; it ranks weights alike."""
LOSS_PATCHES = 16
"""Largest number of patches of the validation cases on which the loss is computed; at most one for 4 tiles."""


class DepthValidation:
    """Scores a network at every depth on stored validation cases: the validation callback of training.

    Some training cases are scored in the same way, at the deepest head, and the loss of training is computed on patches
    of the validation cases, always the same and not varied: together they tell over-fitting.

    Args:
        cases: the validation cases.
        plan: how the network predicts.
        device: where the network is.
        training: the training cases.

    Attributes:
        cases: the cases in use, see `shorten` and `keep`.
        tile_s: seconds for one tile, by the latest measurement of the whole network; None before the first.
    """

    def __init__(
        self, cases: Sequence[StoredCase], plan: Plan, device: torch.device, training: Sequence[StoredCase] = ()
    ) -> None:
        self._all = self.cases = cases
        self._training = training
        self.plan, self._coding = plan, make_tensor_coding(plan.data)
        self.device = device
        self.tile_s: float | None = None
        self._loss_s: float | None = None
        self._options = plan.predict.model_copy(update={"overlap": min(plan.predict.overlap, VALIDATION_OVERLAP)})

    def __call__(self, network: nn.Module) -> Validation:
        """Mean Dice of each depth over the cases in use, and of the deepest over the training cases."""
        started, heads = time.perf_counter(), cast(UNetPlusPlus, network).head_depths
        found = [self._score(network, case, heads) for case in self.cases]
        trained = mean_of(self._score(network, case, heads[-1:])[heads[-1]] for case in self.training_cases)
        tile_s = (time.perf_counter() - started) / self.count_tiles()
        is_whole = cast(UNetPlusPlus, network).shells == len(self.plan.model.shells)
        self.tile_s = tile_s if is_whole or self.tile_s is None else self.tile_s  # what follows predicts with the whole
        dice = {depth: mean_of(each[depth] for each in found) or 0.0 for depth in heads}
        started, loss = time.perf_counter(), self._compute_loss(cast(UNetPlusPlus, network))
        self._loss_s = time.perf_counter() - started
        return Validation(dice, trained, loss)

    def estimate_seconds(self) -> float:
        """Estimate the time of a validation, by the latest or by that of one tile; 0 if neither is known."""
        tiles = (self.tile_s or 0.0) * self.count_tiles()
        return tiles + (tiles / 4 if self._loss_s is None else self._loss_s)  # the loss has a patch for 4 tiles

    def _compute_loss(self, network: UNetPlusPlus) -> float | None:
        """Compute the mean loss of all heads; None where a validation has few tiles, and so hardly any time."""
        train, patches = self.plan.train, min(LOSS_PATCHES, self.count_tiles() // 4)
        batch = min(train.batch, patches)
        sampler = PatchSampler(self.cases, train.patch, batch, train.foreground_fraction, seed=0)
        data = self.plan.data
        compute = make_loss(train, network, labels.find_ignored_index(data), regions=data.region_indices)
        losses = []
        for step in range(patches // batch if batch else 0):
            pairs = [sampler.read(sampler.draw(step, index)) for index in range(batch)]
            images = torch.from_numpy(np.stack([image for image, _ in pairs])).to(self.device)
            target = torch.from_numpy(np.stack([label for _, label in pairs])[:, None]).long().to(self.device)
            if data.resolution == "cascade":
                images, target = FirstStageChannels(self.plan)(images, target)
            with torch.inference_mode(), autocast(self.device, train.precision):
                outputs = network(images, heads=True)
            losses.append(compute(outputs, target).item())
        return mean_of(losses)

    @property
    def training_cases(self) -> list[StoredCase]:
        """The training cases that are scored: as few as show a trend, always the same."""
        return choose_evenly(self._training, -(-len(self.cases) // VALIDATED_PER_TRAINED))

    def seconds_per_tile(self, network: nn.Module) -> float:
        """Measure the time of one tile, on a corner of a case: a whole one may have hundreds of tiles."""
        corner = tuple(slice(size) for size in self._options.tile)
        image, heads = open_stored(self.cases[0], self.plan.data, corner), cast(UNetPlusPlus, network).head_depths
        self._predict(network, image, heads)  # warm-up
        self.tile_s = statistics.mean(time_calls(lambda: self._predict(network, image, heads), self.device))
        return self.tile_s

    def count_tiles(self) -> int:
        """Number of tiles of one validation."""
        return count_tiles([*self.cases, *self.training_cases], self._options)

    def shorten(self, tiles: float) -> None:
        """Use fewer cases, so that one validation has at most `tiles` tiles, but at least one validation case."""
        while len(self.cases) > 1 and self.count_tiles() > tiles:
            self.keep(len(self.cases) * 3 // 4)
        if self.count_tiles() > tiles:
            self._training = ()

    def keep(self, count: int) -> None:
        """Use `count` cases, spread evenly over all."""
        self.cases = choose_evenly(self._all, count)

    def _score(self, network: nn.Module, case: StoredCase, depths: Sequence[int]) -> dict[int, float | None]:
        label, data = case.label(), self.plan.data
        found = self._predict(network, open_stored(case, data), depths)
        meaning = data.num_classes, data.region_indices
        return {depth: fast_dice(segmentation, label, *meaning) for depth, segmentation in found.items()}

    def _predict(self, network: nn.Module, image: TiledImage, depths: Sequence[int]) -> dict[int, np.ndarray]:
        return predict_tiles([network], image, self._options, depths, self.device, self._coding)


def count_tiles(cases: Sequence[StoredCase], plan: PredictPlan) -> int:
    """Number of tiles that cover some cases."""
    return sum(len(TileGrid(case.label().shape, plan.tile, plan.overlap)) for case in cases)


def choose_evenly(items: Sequence[T], count: int) -> list[T]:
    """Choose at most `count` items, spread evenly over all."""
    if len(items) <= count:
        return list(items)
    return [items[number * len(items) // count] for number in range(count)]
