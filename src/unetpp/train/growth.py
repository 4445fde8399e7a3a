"""Growth: the inner shells of a network are trained first and alone, at the speed of a small network; others join them.

A training has phases; in each, the network has one shell more than in the one before. At a change its weights are
copied, and the heads of the new sizes start as copies of those one shell further in (`model.shells.grow`). The moving
average begins anew, as do Muon and AdamW: the loss has new terms, so that gradients have another scale than those that
they remember, and AdamW counts the steps of a tensor, not those of its new channels. Muon remembers 20 steps alone.
"""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from unetpp.model.network import UNetPlusPlus
from unetpp.model.pruned_plan import prune_plan
from unetpp.model.starting_weights import grow_into
from unetpp.plan import ModelPlan, TrainPlan
from unetpp.planning.cost import count_cost
from unetpp.sizes import Size, find_size, name_size


@dataclass(frozen=True)
class Growth:
    """The phases of a training, by number from 0."""

    model: ModelPlan
    """The whole network."""
    train: TrainPlan

    @property
    def last(self) -> int:
        """Number of the phase in which the whole network is trained."""
        return len(self.train.growth)

    @property
    def shares(self) -> list[float]:
        """Fraction of the schedule that each phase takes."""
        return [end - start for start, end in pairwise((0.0, *self.train.growth, 1.0))]

    def find_phase(self, fraction: float) -> int:
        """Find the phase at a completed fraction of the schedule."""
        return bisect_right(self.train.growth, fraction)

    def plan_phase(self, phase: int) -> ModelPlan:
        """Make the plan of the network of a phase."""
        return self.model if phase >= self.last else prune_plan(self.model, self._largest_size(phase), keep_heads=True)

    def describe_phase(self, phase: int) -> str:
        """Name the inner network that is trained alone, as in "inner 4x8"; empty in the last phase."""
        model, number = self.model, self._largest_size(phase)
        return "" if phase >= self.last else f"inner {name_size(number, model.depth, model.shell_channels)}"

    def cut(self, whole: UNetPlusPlus, phase: int) -> UNetPlusPlus:
        """Cut the network of a phase from the whole: a copy, but the whole itself in the last phase."""
        return whole if phase >= self.last else whole.prune(self._largest_size(phase), keep_heads=True)

    def grow(self, network: UNetPlusPlus, whole: UNetPlusPlus, phase: int) -> UNetPlusPlus:
        """Make the network of a later phase.

        Args:
            network: of an earlier phase; not changed.
            whole: gives the weights of new channels; in the last phase it is what is returned, with all weights.
            phase: the later phase.
        """
        return grow_into(network, whole, len(self.model.shells) - self.last + phase)

    def complete(self, network: UNetPlusPlus, whole: UNetPlusPlus) -> UNetPlusPlus:
        """Make the whole network from that of any phase: what has not been trained yet repeats the largest size."""
        return network if network.shells == whole.shells else self.grow(network, copy.deepcopy(whole), self.last)

    def complete_scores(self, scores: Mapping[int, float], phase: int) -> dict[int, float]:
        """Score all sizes of `complete`, given those of the network of a phase."""
        inner, depth = find_size(self._largest_size(phase), self.model.depth), self.model.depth
        found = dict(scores)
        for shell in range(inner.shell + 1, len(self.model.shells)):
            for number, score in scores.items():
                size = find_size(number, depth)
                if size.shell == inner.shell:
                    found[Size(size.depth, shell).number(depth)] = score
        return found

    def count_work(self, fraction: float) -> float:
        """Compute the completed fraction of the work, by multiply-adds, at a completed fraction of the steps."""
        if not self.last:
            return fraction
        starts = (0.0, *self.train.growth)
        costs = [count_cost(self.plan_phase(phase), self.train.patch).macs for phase in range(self.last + 1)]
        done = sum(
            cost * min(max(fraction - start, 0.0), share)
            for cost, start, share in zip(costs, starts, self.shares, strict=True)
        )
        return done / sum(cost * share for cost, share in zip(costs, self.shares, strict=True))

    def compute_rise(self, grown_at: float, fraction: float) -> float:
        """Compute the factor of learning rates by which they rise again after a change.

        Args:
            grown_at: fraction of the schedule at the change; 0: there was none.
            fraction: completed fraction of the schedule.
        """
        warmup = self.train.growth_warmup
        return min(1.0, max(0.0, fraction - grown_at) / warmup) if warmup and grown_at else 1.0

    def _largest_size(self, phase: int) -> int:
        shells = len(self.model.shells) - max(0, self.last - phase)
        return shells * self.model.depth
