"""`predictions.json` and `predictions.csv`: what `unetpp predict` records beside its segmentations.

`evaluate` and later predictions read the first. Anybody may have edited it, or a disk damaged it: it is read as a type,
and a record that does not fit is one problem.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from unetpp.errors import DataError, Problem
from unetpp.files import write_text
from unetpp.json_files import read_json
from unetpp.plan import LabelPlan, Region

PREDICTIONS, TABLE, OVERLAYS = "predictions.json", "predictions.csv", "overlays"
COLUMNS = (
    "file",
    "class",
    "voxels",
    "area_um2",
    "area_mm2",
    "volume_mm3",
    "volume_ml",
    "objects",
    "expected_dice",
    "expected_dice_error",
    "review",
)
"""Columns of predictions.csv. Pixels of an image are voxels too; what is not known is empty."""


class PredictionRecord(BaseModel):
    """Content of a predictions.json, as far as it is read again; settings of the prediction are extra fields."""

    model_config = ConfigDict(frozen=True, extra="allow")

    files: tuple[str, ...] | None = None
    """Segmentations, by their path in the folder; None: the record does not say."""
    cases: dict[str, dict[str, Any] | None] = {}
    """File -> how good it may be."""
    failed: tuple[Any, ...] = ()
    """Images that could not be predicted."""
    verdicts: tuple[str, ...] = ()
    """On the training of the model, a line for each that is not good."""
    classes: tuple[str, ...] = ()
    label_values: tuple[int, ...] = ()
    labels: LabelPlan = LabelPlan()
    regions: tuple[Region, ...] | None = None
    instances: bool = False
    """Written by an earlier version for objects, before there was `labels`."""

    @field_validator("cases")
    @classmethod
    def _rename(cls, cases: dict[str, dict[str, Any] | None]) -> dict[str, dict[str, Any] | None]:
        """Take the expected Dice of earlier versions, which called it predicted; theirs was the confidence."""
        return {
            name: entry
            if entry is None or "predicted_dice" not in entry
            else {key: value for key, value in entry.items() if key != "predicted_dice"}
            | {"expected_dice": entry["predicted_dice"], "confidence": entry.get("expected_dice")}
            for name, entry in cases.items()
        }

    def matches(self, settings: Mapping[str, Any]) -> bool:
        """Tell whether the files were predicted with these settings, as JSON has them."""
        mine = self.model_dump(mode="json")
        return all(mine.get(key) == value for key, value in settings.items())


def write_table(folder: Path, cases: Mapping[str, Mapping[str, Any] | None]) -> None:
    """Write predictions.csv: a row for each file and foreground class.

    Args:
        folder: folder of the segmentations.
        cases: file -> its entry in predictions.json.

    Raises:
        WriteError: it cannot be written.
    """
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    for name, entry in cases.items():
        known = {key: value for key, value in (entry or {}).items() if key in COLUMNS}
        for class_name, found in ((entry or {}).get("classes") or {"": {}}).items():
            table.writerow({"file": name, "class": class_name, **known, **found})
    write_text(folder / TABLE, text.getvalue())


def measure_size(voxels: int, spacing_mm: Sequence[float] | None) -> dict[str, float]:
    """Return the area or the volume of some voxels, in the units of the columns; empty without a voxel size."""
    if spacing_mm is None:
        return {}
    size = voxels * prod(spacing_mm)
    if len(spacing_mm) == 2:
        return {"area_um2": size * 1e6, "area_mm2": size}
    return {"volume_mm3": size, "volume_ml": size / 1000}


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
