"""A depth for each tile: deeper heads are computed only where the shallower one is in doubt."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from unetpp.errors import UsageError
from unetpp.labels.classes_torch import compact_probabilities, most_probable
from unetpp.measured import Rule
from unetpp.runtime.runner import Grower

FEWEST = 0.01
"""Share of the voxels of a tile that are taken to be foreground at least, so that a few unsure ones of an empty tile are no doubt."""


def estimate_uncertainty(logits: Tensor) -> Tensor:
    """Expected number of voxels that are wrong, for each voxel of foreground: (B,) of logits (B, channels, *spatial)."""
    best, classes = most_probable(compact_probabilities(logits).flatten(2), dim=1)
    return (1 - best).sum(dim=1) / (classes > 0).sum(dim=1).clamp(min=FEWEST * best.shape[1])


def choose_rule(rules: Sequence[Rule], max_drop: float, model: str, depths: Sequence[int]) -> Rule:
    """The rule that saves most of those that lose at most `max_drop` points (hundredths) of Dice, by the upper end of the interval over validation cases.

    Args:
        rules: as `deploy.adapt` fits them.
        model: its name, for errors, and its `depths`.

    Raises:
        UsageError: the model has no rules, or none that loses so little.
    """
    if not rules:
        raise UsageError(
            f"depth: got auto for {model}, which has no rules; expected one that they were fitted for. Run: unetpp adapt {model}. Or name a depth, one of {list(depths)}."
        )
    worst = {number: 100 * (rule.dice_lost_interval or (0, rule.dice_lost))[1] for number, rule in enumerate(rules)}
    good = [number for number, lost in worst.items() if lost <= max_drop + 1e-7]
    if not good:
        raise UsageError(
            f"--max-drop: got {max_drop:g} points of Dice; expected at least {min(worst.values()):.2f}, what the most careful rule may lose. Raise it, or name a depth."
        )
    return rules[min(good, key=lambda number: rules[number].time)]


class EarlyExit:
    """Runs a network as `infer.engine.Runner` does; each image gets the first depth at which its doubt is small enough.

    Args:
        network: torch's or OpenVINO's.
        depths: of its heads, shallowest first.
        doubts: for each depth but the deepest, the largest doubt at which an image stops; None: it never does, and the head is not computed.

    Attributes:
        images: how many stopped at each depth so far.
    """

    def __init__(self, network: Grower, depths: Sequence[int], doubts: Sequence[float | None]) -> None:
        self._network = network
        self._limits = {
            depth: limit for depth, limit in zip(depths, (*doubts, math.inf), strict=True) if limit is not None
        }
        self.images: Counter[int] = Counter()

    def __call__(self, x: Tensor, depth: int | None = None, heads: bool = False) -> Tensor:
        growth = self._network.grow(x)
        waiting = torch.arange(len(x), device=x.device)
        found: Tensor | None = None
        for depth, limit in self._limits.items():
            logits = growth.logits(depth)
            found = logits.clone() if found is None else found.index_copy(0, waiting, logits)
            done = (
                estimate_uncertainty(logits) <= limit
                if limit < math.inf
                else torch.ones(len(logits), dtype=torch.bool, device=x.device)
            )
            self.images[depth] += int(done.sum())
            if done.all():
                return found
            if done.any():  # else all go on, and nothing is copied
                waiting = waiting[~done]
                growth.keep(~done)
        raise ValueError("depths: got none; expected at least one.")
