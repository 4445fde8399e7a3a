"""What ranks agree on after each step, in one small message: how far the schedule is, and whether to stop."""

from __future__ import annotations

from collections.abc import Callable

from unetpp.runtime.ranks import Ranks


class Agreement:
    """One clock, that of the first rank, and one ear for signals, that of all. A single process has its own.

    Args:
        ranks: the processes that train together.
        compute_fraction: computes the completed fraction of the schedule from a number of steps, by the clock.
        hears_signal: tells whether a signal has arrived at this process.
    """

    def __init__(
        self, ranks: Ranks, compute_fraction: Callable[[int], float], hears_signal: Callable[[], bool]
    ) -> None:
        self._ranks, self._compute_fraction, self._hears_signal = ranks, compute_fraction, hears_signal
        self._agreed: tuple[int, float, bool] | None = None

    def find_fraction(self, step: int) -> float:
        """Return the completed fraction of the schedule after a number of steps."""
        return self._compute_fraction(step) if self._ranks.is_alone else self._agree(step)[0]

    def is_interrupted(self, step: int) -> bool:
        """Tell whether a signal had arrived, at any rank, after a number of steps."""
        return self._hears_signal() if self._ranks.is_alone else self._agree(step)[1]

    def forget(self) -> None:
        """Agree anew: time has passed since the step."""
        self._agreed = None

    def _agree(self, step: int) -> tuple[float, bool]:
        if self._agreed is None or self._agreed[0] != step:
            self._agreed = step, *self._ranks.agree(self._compute_fraction(step), self._hears_signal())
        return self._agreed[1:]
