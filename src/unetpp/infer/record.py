"""`predictions.json`: what `unetpp predict` records beside its segmentations; `evaluate` and later predictions read it.

Anybody may have edited it, or a disk damaged it: it is read as a type, and a record that does not fit is one problem.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from unetpp.errors import DataError, Problem
from unetpp.json_files import read_json
from unetpp.plan import LabelPlan

PREDICTIONS = "predictions.json"


class PredictionRecord(BaseModel):
    """Content of a predictions.json, as far as it is read again; settings of the prediction are extra fields."""

    model_config = ConfigDict(frozen=True, extra="allow")

    files: tuple[str, ...] | None = None
    """Segmentations, by their path in the folder; None: the record does not say."""
    cases: dict[str, dict[str, Any] | None] = {}
    """File -> how good it may be."""
    classes: tuple[str, ...] = ()
    label_values: tuple[int, ...] = ()
    labels: LabelPlan = LabelPlan()
    instances: bool = False
    """Written by an earlier version for objects, before there was `labels`."""

    def matches(self, settings: Mapping[str, Any]) -> bool:
        """Tell whether the files were predicted with these settings, as JSON has them."""
        mine = self.model_dump(mode="json")
        return all(mine.get(key) == value for key, value in settings.items())


def read_record(folder: Path) -> PredictionRecord | None:
    """Read the record of a folder; None if there is none.

    Raises:
        DataError: there is one that cannot be read, or is none.
    """
    path = folder / PREDICTIONS
    try:
        return PredictionRecord.model_validate(read_json(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        reason: object = getattr(error, "strerror", None) or error
        if isinstance(error, ValidationError):
            entry = error.errors()[0]
            reason = f"{'.'.join(map(str, entry['loc'])) or 'content'}: {entry['msg']}"
        got = f"a record that cannot be used ({reason})"
        action = "Restore it, predict again, or remove it: then all segmentations in the folder count."
        raise DataError(Problem(str(path), got, "the record that `unetpp predict` writes", action)) from None
