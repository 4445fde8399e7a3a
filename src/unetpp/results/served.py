"""The result of serving: what was done until the server was stopped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from unetpp.results.result import Result
from unetpp.words import count_noun, format_time


@dataclass(frozen=True, repr=False)
class Served(Result):
    """A server that was stopped."""

    address: str
    jobs: Mapping[str, int]
    """State -> number of jobs that ended in it."""
    seconds: float

    def to_text(self) -> str:
        ended = ", ".join(f"{count} {state}" for state, count in self.jobs.items())
        count = count_noun(sum(self.jobs.values()), "job")
        return f"{self.address} was served for {format_time(self.seconds)}: {count}{f' ({ended})' if ended else ''}."
