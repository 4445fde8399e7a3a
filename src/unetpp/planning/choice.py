"""What a rule of the planner returns, and how choices are collected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Choice(NamedTuple, Generic[T]):
    """A value and the reason for it."""

    value: T
    reason: str


@dataclass
class Decisions:
    """Collects the choices of a plan; values that the user set are taken as they are."""

    settings: Mapping[str, Any]
    """What the user set, by dotted name."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Why all else is as it is, by dotted name."""

    def choose(self, name: str, choice: Choice[Any]) -> Any:
        """Return the user's value of a field, else that of a rule, whose reason is noted."""
        if name in self.settings:
            return self.settings[name]
        self.reasons[name] = choice.reason
        return choice.value
