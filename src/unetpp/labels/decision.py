"""How probabilities become classes, and which probabilities are reported: a threshold and a temperature.

Classes are decided first, from the probabilities of the networks; the temperature changes what is reported only. The
arithmetic is that of NumPy arrays and of tensors alike; needs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

Array = TypeVar("Array", bound=Any)


@dataclass(frozen=True)
class Decision:
    """Threshold of two classes, and temperature of the probabilities of any number of them."""

    threshold: float = 0.5
    """Probability of the second of two classes above which it is chosen; the most probable of more are always taken."""
    temperature: float = 1.0
    """Above 1 probabilities become less certain; the order of the classes stays."""

    def scale(self, probabilities: Array) -> Array:
        """Scale probabilities (classes, ...), or (1, ...) of the second of two alone, by the temperature.

        As if logits were divided by it (Guo et al. 2017, "On calibration of modern neural networks", section 4.2).
        """
        if self.temperature == 1:
            return probabilities
        power = 1 / self.temperature
        known = probabilities.clip(0, 1)  # blended tiles may exceed 1 by rounding
        powers = known**power
        total = powers + (1 - known) ** power if len(known) == 1 else powers.sum(0)
        scaled: Array = powers / total
        return scaled


MOST_PROBABLE = Decision()
"""The most probable class, and the probabilities of the networks."""
