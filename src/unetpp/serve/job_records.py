"""predictions.json and predictions.csv of a job: kept in short with its results, written when somebody takes all files.

Most requests are for one segmentation, and their tables would take as long to write as the segmentation.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter

from unetpp.infer.record import PREDICTIONS, TABLE
from unetpp.infer.record_writing import Inputs, write_record

KEPT = ".records.json"


class SizeRecord(BaseModel):
    """What the record of one size says."""

    settings: dict[str, Any]
    file: str
    """The segmentation, in the folder of its size."""
    entry: dict[str, Any]
    verdicts: list[str]


_WRITING = threading.Lock()
_RECORDS = TypeAdapter(dict[str, SizeRecord])


def keep_records(results: Path, records: Mapping[str, SizeRecord]) -> None:
    """Keep the records of a job, by the folders of their sizes; the job is not done before they are there."""
    (results / KEPT).write_bytes(_RECORDS.dump_json(dict(records)))


def write_records(results: Path) -> None:
    """Write the tables of a job, unless they are there; those of earlier versions are.

    Raises:
        WriteError: no space.
    """
    kept = results / KEPT
    with _WRITING:  # who takes all files at the same time waits for them
        for folder, record in (_RECORDS.validate_json(kept.read_bytes()) if kept.is_file() else {}).items():
            if not all((results / folder / name).is_file() for name in (PREDICTIONS, TABLE)):
                found = {record.file: record.entry}
                write_record(results / folder, record.settings, found, (), Inputs((), frozenset()), record.verdicts)
