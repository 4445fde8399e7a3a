"""Early exit: larger sizes (deeper heads, outer shells) only for tiles that a smaller one leaves uncertain."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from unetpp.errors import UsageError
from unetpp.labels.coding_torch import CLASSES, TensorCoding
from unetpp.model_notes import Rule, find_rule
from unetpp.runtime.runner import IncrementalRunner
from unetpp.size_names import SizeNames
from unetpp.words import count_noun, write_command

MIN_FOREGROUND = 0.01
"""Smallest fraction of foreground assumed in a tile, so that a few uncertain voxels of an empty tile count little."""


def estimate_uncertainty(logits: Tensor, coding: TensorCoding = CLASSES) -> Tensor:
    """Estimate the number of wrong voxels per voxel of foreground: (B,), from logits (B, channels, *spatial)."""
    best, is_foreground = coding.find_certainty(coding.compact(logits).flatten(2), dim=1)
    return (1 - best).sum(dim=1) / is_foreground.sum(dim=1).clamp(min=MIN_FOREGROUND * best.shape[1])


def choose_rule(rules: Sequence[Rule], max_drop: float, model: str, sizes: SizeNames, setting: str = "depth") -> Rule:
    """Choose the fastest rule among those that lose at most `max_drop`, by the upper end of the interval over cases.

    Args:
        rules: as `deploy.adapt` fits them.
        max_drop: points (hundredths) of Dice that may be lost against the deepest head.
        model: name of the model, for errors.
        sizes: those of the model, for errors.
        setting: in which "auto" was given, `size` or `depth`, for errors.

    Raises:
        UsageError: the model has no rules, or none that loses so little.
    """
    if not rules:
        find = f"Run `{write_command('adapt', model)}` once, which finds for each {sizes.noun} when it may stop"
        got, expected = f"auto for {model}", "a model that was adapted to it"
        raise UsageError(setting, got, expected, f"{find}; or choose a {sizes.noun}, {sizes.describe()}.")
    chosen = find_rule(rules, max_drop)
    if chosen is None:
        fewest = min(rule.points_at_worst for rule in rules)
        expected = f"at least {fewest:.2f}, what the most careful rule may lose"
        action = f"Raise it, or choose a `{sizes.noun}`, {sizes.describe()}."
        raise UsageError("max_drop", f"{count_noun(max_drop, 'point')} of Dice", expected, action)
    return chosen


class EarlyExit:
    """Runs a network as a `runtime.runner.Runner`: each image stops at the first size that is certain enough.

    Args:
        network: the network, of torch or OpenVINO.
        depths: depths of its heads, shallowest first; with shells numbers of sizes, each holding the one before
            (`sizes.list_growth`).
        limits: for each of them but the last, the largest uncertainty at which an image stops; None: the head is not
            computed.
        coding: what the logits mean.

    Attributes:
        images: number of images that stopped at each of them so far.
    """

    def __init__(
        self,
        network: IncrementalRunner,
        depths: Sequence[int],
        limits: Sequence[float | None],
        coding: TensorCoding = CLASSES,
    ) -> None:
        self._network, self._coding = network, coding
        every = zip(depths, (*limits, math.inf), strict=True)
        self._limits = {depth: limit for depth, limit in every if limit is not None}
        self.images: Counter[int] = Counter()

    def __call__(self, x: Tensor, depth: int | None = None, heads: bool = False) -> Tensor:
        """Return logits (B, channels, *spatial), each image's from the size at which it stops.

        Args:
            x: images (B, C, *spatial).
            depth: ignored.
            heads: ignored.
        """
        forward_pass = self._network.start_forward(x)
        waiting = torch.arange(len(x), device=x.device)
        found: Tensor | None = None
        for depth, limit in self._limits.items():
            logits = forward_pass.logits(depth)
            found = logits.clone() if found is None else found.index_copy(0, waiting, logits)
            last = limit == math.inf
            certain = torch.ones_like(waiting, dtype=torch.bool)
            done = certain if last else estimate_uncertainty(logits, self._coding) <= limit
            self.images[depth] += int(done.sum())
            if done.all():
                return found
            if done.any():  # otherwise all images go on, and nothing is copied
                waiting = waiting[~done]
                forward_pass.keep(~done)
        raise ValueError("depths: got none; expected at least one.")
