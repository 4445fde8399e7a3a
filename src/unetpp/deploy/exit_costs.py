"""What early exit takes: forward passes of one tile in steps, timed in turn, combined by how many tiles take which."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import cast

import torch
from torch import Tensor

from unetpp.data.store import StoredCase
from unetpp.infer.early_exit import estimate_uncertainty
from unetpp.infer.predictor import Predictor
from unetpp.infer.tiles import TileGrid, read_tile
from unetpp.measure.stored_cases import StoredImage
from unetpp.runtime.cuda import CAPTURE_AFTER
from unetpp.runtime.device import autocast

REPEATS = 7

Path = tuple[int, ...]
"""Depths, with shells numbers of sizes, at which a pass stops to look at the uncertainty, in order."""


@dataclass(frozen=True)
class ExitCosts:
    """Seconds that one tile takes, all measured in turn."""

    steps: Mapping[Path, float]
    """Of a pass that looks at each of these depths, up to and with the last."""
    alone: Mapping[int, float]
    """Of a prediction at a depth, as with `depth`."""

    def share(self, path: Path, tiles: Mapping[int, int]) -> float:
        """Time of early exit, as a fraction of that of the deepest head for every tile.

        Args:
            path: the depths at which tiles may stop.
            tiles: number of tiles that stop at each depth.
        """
        seconds = sum(count * self.steps[path[: path.index(depth) + 1]] for depth, count in tiles.items() if count)
        return seconds / sum(tiles.values()) / self.alone[max(self.alone)]

    def shares(self) -> dict[int, float]:
        """Time of each depth for every tile, as a fraction of that of the deepest."""
        return {depth: seconds / self.alone[max(self.alone)] for depth, seconds in self.alone.items()}


def time_exits(predictor: Predictor, case: StoredCase, paths: Sequence[Path], repeats: int = REPEATS) -> ExitCosts:
    """Time one tile along each path, and at each depth alone.

    All are timed once, then all again, so that whatever else the machine does slows them alike; paths that begin alike
    share the times of what they have in common.

    Args:
        predictor: the model.
        case: the case of the tile.
        paths: the paths.
        repeats: number of timed passes of each.

    Returns:
        The medians.
    """
    plan, image, runner = predictor.plan.predict, StoredImage(case.image()), predictor.runners[0]
    tile = read_tile(image, next(iter(TileGrid(image.shape[1:], plan.tile, plan.overlap))), plan.tile)
    x = torch.from_numpy(tile)[None].to(predictor.device)
    steps: dict[Path, list[float]] = defaultdict(list)
    alone: dict[int, list[float]] = defaultdict(list)
    warm = 1 + CAPTURE_AFTER if predictor.device.type == "cuda" else 1
    with torch.inference_mode(), torch.cuda.device(x.get_device()), autocast(predictor.device, plan.precision):
        for number in range(warm + repeats):
            if number == warm:
                steps.clear()
                alone.clear()
            for path in paths:
                started = time.perf_counter()
                forward_pass = runner.start_forward(x)
                for place, depth in enumerate(path, start=1):
                    logits = forward_pass.logits(depth)
                    is_last = depth == predictor.growth[-1]
                    found = logits.sum() if is_last else estimate_uncertainty(logits, predictor.coding)
                    found.tolist()  # waits for a GPU
                    steps[path[:place]].append(time.perf_counter() - started)
            for depth in predictor.growth:
                started = time.perf_counter()
                cast(Tensor, runner(x, depth=depth)).sum().item()
                alone[depth].append(time.perf_counter() - started)
    return ExitCosts(
        {path: median(seconds) for path, seconds in steps.items()},
        {depth: median(seconds) for depth, seconds in alone.items()},
    )
