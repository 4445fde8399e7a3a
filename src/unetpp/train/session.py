"""Clock of one session of a training, from its start or resume to its end."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Session:
    """Times of a session, and the losses since the last report.

    Args:
        step: number of steps done before it.
        earlier_s: seconds of training before it.

    Attributes:
        reported: time of the last report.
        saved: time of the last checkpoint.
    """

    def __init__(self, step: int = 0, earlier_s: float = 0.0) -> None:
        self._first, self._earlier_s = step, earlier_s
        self._started = self.reported = self.saved = time.perf_counter()
        self._validating_s = self._before_s = 0.0
        self._losses: list[float] = []
        self._validated: list[float] = []
        self._mean_loss = math.nan

    @property
    def elapsed_s(self) -> float:
        """Seconds of training over all sessions."""
        return self._earlier_s + time.perf_counter() - self._started

    @property
    def stepping_s(self) -> float:
        """Seconds of this session without its validations."""
        return max(time.perf_counter() - self._started - self._validating_s, 1e-9)

    @property
    def mean_loss(self) -> float:
        """Mean loss since the last report; directly after it the one that was reported."""
        return statistics.fmean(self._losses) if self._losses else self._mean_loss

    def add_loss(self, loss: float) -> None:
        """Count the loss of a step."""
        self._losses.append(loss)
        self._validated.append(loss)

    def clear_losses(self) -> None:
        """Begin a new report."""
        self._mean_loss = self.mean_loss
        self._losses.clear()

    def take_mean_loss(self) -> float | None:
        """Return the mean loss since the last call, or since the start of this session; None without a step."""
        taken = statistics.fmean(self._validated) if self._validated else None
        self._validated.clear()
        return taken

    def begin_phase(self, step: int) -> None:
        """Begin a phase whose steps take another time: the speed is measured anew."""
        self._first, self._before_s = step, self.stepping_s

    def steps_per_second(self, step: int) -> float:
        """Compute the speed of this session, or phase, given the number of steps over all sessions."""
        return (step - self._first) / max(self.stepping_s - self._before_s, 1e-9)

    @contextmanager
    def time_validation(self) -> Iterator[None]:
        """Exclude the time of a validation from `stepping_s`."""
        started = time.perf_counter()
        yield
        self._validating_s += time.perf_counter() - started
