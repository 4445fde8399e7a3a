"""The base of all results."""

from __future__ import annotations

import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from pydantic_core import to_json

DONE, PARTLY, UNUSABLE = 0, 1, 2
LONGEST_REPR = 100
"""Largest number of characters of a result where Python shows it."""


class Result(ABC):
    """Base of all results: an exit code, a dictionary, a text, and in notebooks a table or pictures."""

    @property
    def exit_code(self) -> int:
        """0: done; 1: some cases failed; 2: the input cannot be used."""
        return DONE

    def to_dict(self) -> dict[str, Any]:
        """Return the fields in terms of JSON; numbers that are not finite become None."""
        values: dict[str, Any] = json.loads(to_json(self, inf_nan_mode="null"))
        return values

    @abstractmethod
    def to_text(self) -> str:
        """Describe the result, as the command line prints it."""

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        first = self.to_text().partition("\n")[0].strip().rstrip(":")
        return f"<{type(self).__name__}: {first if len(first) <= LONGEST_REPR else first[: LONGEST_REPR - 3] + '...'}>"

    def _repr_html_(self) -> str:
        html: str = find_above("report.notebook", "to_html")(self)
        return html


def find_above(module: str, name: str) -> Callable[..., Any]:
    """Find a function of a layer above by its name: results are shown by what is built on them."""
    function: Callable[..., Any] = getattr(importlib.import_module(f"unetpp.{module}"), name)
    return function
