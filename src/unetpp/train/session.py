"""One session of a training, from its start or resume to its end: times, and what was not reported yet."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Session:
    """Clock of a session.

    Args:
        step: steps that were done before it.
        earlier_s: seconds of training before it.
    """

    def __init__(self, step: int = 0, earlier_s: float = 0.0) -> None:
        self._first, self._earlier_s = step, earlier_s
        self._started = self.reported = self.saved = time.perf_counter()
        self._validating_s = 0.0
        self.losses: list[float] = []
        """Of the steps since the last report."""

    @property
    def elapsed_s(self) -> float:
        """Seconds of training over all sessions."""
        return self._earlier_s + time.perf_counter() - self._started

    @property
    def stepping_s(self) -> float:
        """Seconds of this session that went into steps, not into validations."""
        return max(time.perf_counter() - self._started - self._validating_s, 1e-9)

    @property
    def mean_loss(self) -> float:
        """Mean loss since the last report."""
        return sum(self.losses) / len(self.losses) if self.losses else math.nan

    def steps_per_second(self, step: int) -> float:
        """Speed of this session, after so many steps in all."""
        return (step - self._first) / self.stepping_s

    @contextmanager
    def validating(self) -> Iterator[None]:
        """Leave this time out of that of the steps."""
        started = time.perf_counter()
        yield
        self._validating_s += time.perf_counter() - started
