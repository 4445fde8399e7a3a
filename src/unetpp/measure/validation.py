"""Validation during training: Dice of every depth on stored cases, in little time."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
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
from unetpp.runtime.ranks import ALONE, Ranks
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
        ranks: the processes that train together, which divide the cases: all of them call such an object.

    Attributes:
        cases: the cases in use, see `shorten` and `keep`.
        tile_s: seconds for one tile, by the latest measurement of the whole network; None before the first.
        is_stopped: asked between two cases by each of several ranks, as none of them may leave the others waiting.
        show: called with each validation case that this process scores, and its segmentation by the deepest head.
    """

    def __init__(
        self,
        cases: Sequence[StoredCase],
        plan: Plan,
        device: torch.device,
        training: Sequence[StoredCase] = (),
        ranks: Ranks = ALONE,
    ) -> None:
        self._ranks = ranks
        self.is_stopped: Callable[[], bool] = lambda: False
        self.show: Callable[[StoredCase, np.ndarray], object] = lambda case, segmentation: None
        self._all = self.cases = cases
        self._training = training
        self.plan, self._coding = plan, make_tensor_coding(plan.data)
        self.device = device
        self.tile_s: float | None = None
        self._loss_s: float | None = None
        self._options = plan.predict.model_copy(update={"overlap": min(plan.predict.overlap, VALIDATION_OVERLAP)})

    def __call__(self, network: nn.Module) -> Validation:
        """Mean Dice of each depth over the cases in use, and of the deepest over the training cases.

        Raises:
            KeyboardInterrupt: one of several ranks `is_stopped`.
        """
        started, heads = time.perf_counter(), cast(UNetPlusPlus, network).head_depths
        tasks = [(case, heads) for case in self.cases] + [(case, heads[-1:]) for case in self.training_cases]
        scores = self._score_all(network, tasks)
        found, trained = scores[: len(self.cases)], mean_of(each[heads[-1]] for each in scores[len(self.cases) :])
        tile_s = (time.perf_counter() - started) * self._ranks.size / self.count_tiles()
        is_whole = cast(UNetPlusPlus, network).shells == len(self.plan.model.shells)
        self.tile_s = tile_s if is_whole or self.tile_s is None else self.tile_s  # what follows predicts with the whole
        dice = {depth: mean_of(each[depth] for each in found) or 0.0 for depth in heads}
        started, loss = time.perf_counter(), self._compute_loss(cast(UNetPlusPlus, network))
        self._loss_s = time.perf_counter() - started
        return Validation(dice, trained, loss)

    def _score_all(
        self, network: nn.Module, tasks: Sequence[tuple[StoredCase, Sequence[int]]]
    ) -> list[dict[int, float | None]]:
        """Score cases at some depths each; of several ranks every one its share, in turns: cases differ in size."""
        if self._ranks.is_alone:
            return [self._score(network, *task) for task in tasks]
        depths = cast(UNetPlusPlus, network).head_depths
        table, stopped = torch.zeros(len(tasks), len(depths), dtype=torch.float64), False
        for number in range(self._ranks.rank, len(tasks), self._ranks.size):
            if stopped := stopped or self.is_stopped():
                break
            for depth, score in self._score(network, *tasks[number]).items():
                table[number, depths.index(depth)] = math.nan if score is None else score
        if self._ranks.agree(0.0, stopped)[1]:
            raise KeyboardInterrupt
        rows = self._ranks.add_up(table).tolist()
        return [
            {depth: None if math.isnan(value := row[depths.index(depth)]) else value for depth in wanted}
            for row, (_, wanted) in zip(rows, tasks, strict=True)
        ]

    def estimate_seconds(self) -> float:
        """Estimate the time of a validation, by the latest or by that of one tile; 0 if neither is known."""
        tiles = (self.tile_s or 0.0) * self.count_tiles() / self._ranks.size
        return tiles + (tiles / 4 if self._loss_s is None else self._loss_s)  # the loss has a patch for 4 tiles

    def _compute_loss(self, network: UNetPlusPlus) -> float | None:
        """Compute the mean loss of all heads; None where a validation has few tiles, and so hardly any time."""
        train, patches = self.plan.train, min(LOSS_PATCHES, self.count_tiles() // 4)
        batch = min(train.batch, patches)
        sampler = PatchSampler(self.cases, train.patch, batch, train.foreground_fraction, seed=0)
        data = self.plan.data
        compute = make_loss(train, network, labels.find_ignored_index(data), regions=data.region_indices)
        losses = torch.zeros(patches // batch if batch else 0, dtype=torch.float64)
        for step in range(self._ranks.rank, len(losses), self._ranks.size):
            pairs = [sampler.read(sampler.draw(step, index)) for index in range(batch)]
            images = torch.from_numpy(np.stack([image for image, _ in pairs])).to(self.device)
            target = torch.from_numpy(np.stack([label for _, label in pairs])[:, None]).long().to(self.device)
            if data.resolution == "cascade":
                images, target = FirstStageChannels(self.plan)(images, target)
            with torch.inference_mode(), autocast(self.device, train.precision):
                outputs = network(images, heads=True)
            losses[step] = compute(outputs, target).item()
        return mean_of(self._ranks.add_up(losses).tolist())

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
        self.show(case, found[depths[-1]])
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
