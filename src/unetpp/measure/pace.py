"""How much of a measurement fits a limited time: what all units need comes first, extras while time is left."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
SHARE_AFTER = 0.1
"""Largest fraction of the time for what follows training; what does not fit is measured by `unetpp report`."""
FIRST_EXTRA = 2.0
"""Expected time of the first extra, as a multiple of what a unit needs."""


class Pace:
    """Pace of a loop over units of about equal length, each of a part that all need and of an extra.

    Args:
        count: number of units.
        until: time of `time.monotonic` at which the loop ends.

    Attributes:
        done: number of units done; at least one is, however late it is.
    """

    def __init__(self, count: int, until: float) -> None:
        self._count, self._until = count, until
        self.done = 0
        self._started = self._needed_s = self._longest_s = 0.0

    def limit(self, units: Iterable[T]) -> Iterator[T]:
        """Pass on units until the time is over, judged by those before."""
        for unit in units:
            if self.done and time.monotonic() + self._mean_s > self._until:
                return
            self._started = time.monotonic()
            yield unit

    @contextmanager
    def extra(self) -> Iterator[bool]:
        """Do the extra of a unit: tells whether there is time for it, beside what the units to come need."""
        started = time.monotonic()
        self.done += 1
        self._needed_s += started - self._started
        needed_s = (self._count - self.done) * self._mean_s
        extra_s = self._longest_s or FIRST_EXTRA * self._mean_s
        affordable = started + needed_s + extra_s <= self._until
        yield affordable
        if affordable:
            self._longest_s = max(self._longest_s, time.monotonic() - started)

    @property
    def _mean_s(self) -> float:
        return self._needed_s / self.done


def choose_order(count: int) -> list[int]:
    """Choose an order of `count` units, always the same, of which every beginning is a random sample."""
    return random.Random(0).sample(range(count), count)
