"""Shares of the work of one command: `--part 2/8` does the second of eight, with no engine at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from unetpp.errors import UsageError

_Unit = TypeVar("_Unit")


@dataclass(frozen=True)
class Part:
    """One of several equal shares of a list of units: cases, or blocks of an image."""

    index: int = 1
    """1 for the first."""
    count: int = 1

    @classmethod
    def parse(cls, text: str | None) -> Part:
        """Read "2/8", the second of eight; None is the whole.

        Raises:
            UsageError: any other text.
        """
        if text is None:
            return cls()
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", str(text))
        index, count = map(int, found.groups()) if found else (0, 0)
        if not 1 <= index <= count:
            expected = "I/N with I from 1 to N, such as 2/8 for the second of eight"
            raise UsageError("part", repr(text), expected, "In a SLURM array: $SLURM_ARRAY_TASK_ID/8.")
        return cls(index, count)

    @property
    def is_whole(self) -> bool:
        """Whether this share is everything."""
        return self.count == 1

    def choose(self, units: Sequence[_Unit]) -> list[_Unit]:
        """Choose every `count`-th unit; the shares of all parts meet in all units, each once."""
        return list(units[self.index - 1 :: self.count])

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


WHOLE = Part()
"""Everything."""
