"""The cases of DATA, which can be predicted by their names."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from unetpp.layouts.cases import find_cases
from unetpp.layouts.dataset import Case
from unetpp.serve.problems import Refused


class CaseEntry(BaseModel):
    """A case of DATA."""

    id: str
    has_label: bool
    files: int


class DataCases:
    """Cases of a data set, found once.

    Args:
        path: the data set; None: there is none.

    Raises:
        DataError: it has no cases.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        dataset = None if path is None else find_cases(path, tolerant=True)
        self.name = "" if dataset is None else dataset.name
        self._cases = {case.id: case for case in (dataset.cases if dataset else ())}

    def __len__(self) -> int:
        return len(self._cases)

    def list(self, first: int, count: int, search: str = "") -> list[CaseEntry]:
        """List some cases whose names hold a text."""
        found = [case for id, case in self._cases.items() if search.lower() in id.lower()]
        return [
            CaseEntry(id=case.id, has_label=bool(case.labels), files=len(case.images))
            for case in found[first : first + count]
        ]

    def find(self, id: str) -> Case:
        """Find a case; raises Refused."""
        if id not in self._cases:
            expected = (
                f"one of {len(self)} cases of the data" if self._cases else "an uploaded file: no data are served"
            )
            raise Refused(404, "case", repr(id[:80]), expected, "Choose one of /v1/cases.")
        return self._cases[id]
