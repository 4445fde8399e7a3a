"""How probabilities become classes, and which probabilities are reported: a threshold and a temperature.

Classes are decided first, from the probabilities of the networks; the temperature changes what is reported only. The
arithmetic is that of NumPy arrays and of tensors alike; needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from unetpp.plan import DataPlan
from unetpp.selection import Selection

Array = TypeVar("Array", bound=Any)
Threshold = float | tuple[float, ...]
"""Of two classes or of every region; or one for each region."""


@dataclass(frozen=True)
class Decision:
    """Threshold of two classes or of regions, and temperature of the probabilities of any number of them."""

    threshold: Threshold = 0.5
    """Probability above which the second of two classes, or a region, is chosen; of more classes the most probable is
    always taken."""
    temperature: float = 1.0
    """Above 1 probabilities become less certain; the order of the classes stays."""
    exclusive: bool = True
    """Whether probabilities are those of exclusive classes; those of regions are scaled one by one."""

    def scale(self, probabilities: Array) -> Array:
        """Scale probabilities (classes, ...), or (1, ...) of the second of two alone, or (regions, ...).

        As if logits were divided by it (Guo et al. 2017, "On calibration of modern neural networks", section 4.2).
        """
        if self.temperature == 1:
            return probabilities
        power = 1 / self.temperature
        known = probabilities.clip(0, 1)  # blended tiles may exceed 1 by rounding
        powers = known**power
        alone = len(known) == 1 or not self.exclusive
        total = powers + (1 - known) ** power if alone else powers.sum(0)
        scaled: Array = powers / total
        return scaled


MOST_PROBABLE = Decision()
"""The most probable class, and the probabilities of the networks."""


def make_decision(selection: Selection, data: DataPlan) -> Decision:
    """Make the decision of a selection for the classes or regions of a plan."""
    common = selection.threshold  # earlier versions had it for a single region, too
    threshold: Threshold = common
    if data.regions is not None:
        threshold = tuple(selection.region_thresholds.get(name, common) for name in data.scored)
    return Decision(threshold, selection.temperature.value, exclusive=data.regions is None)


def list_thresholds(threshold: Threshold, regions: int) -> tuple[float, ...]:
    """List the threshold of each region."""
    return threshold if isinstance(threshold, tuple) else (threshold,) * regions
