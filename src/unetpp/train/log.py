"""`log.jsonl`: one JSON object for each line, for people, plots and programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from unetpp.errors import WriteError
from unetpp.files import write_text


class Log:
    """Appends lines to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def begin(self, keep_until_step: int | None = None) -> None:
        """Start a new log, or on resuming keep that up to the checkpoint: what came after it will happen again."""
        path = self._path
        lines = (
            path.read_bytes().decode(errors="replace").splitlines()
            if keep_until_step is not None and path.exists()
            else []
        )
        write_text(path, "".join(line + "\n" for line in lines if _step(line) <= (keep_until_step or 0)))

    def write(self, kind: str, **values: Any) -> None:
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"kind": kind, **values}) + "\n")
        except OSError as error:
            raise WriteError(
                f"{self._path}: got {error.strerror}; expected to write the log. Free some space; then go on with --resume."
            ) from error


def _step(line: str) -> float:
    try:
        return float(json.loads(line).get("step", 0))
    except (ValueError, AttributeError):
        return float("inf")  # half a line from a killed run
