"""`log.jsonl`: one JSON object for each line, for people, plots and programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from unetpp.errors import WriteError


class Log:
    """Appends lines; on resuming, what was logged after the checkpoint is dropped, as it will happen again."""

    def __init__(self, path: Path, keep_until_step: int | None = None) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if keep_until_step is not None and path.exists() else []
        self._write("w", "".join(line + "\n" for line in lines if _step(line) <= (keep_until_step or 0)))

    def write(self, kind: str, **values: Any) -> None:
        self._write("a", json.dumps({"kind": kind, **values}) + "\n")

    def _write(self, mode: str, text: str) -> None:
        try:
            with self._path.open(mode, encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise WriteError(f"{self._path}: got {error.strerror}; expected to write the log. Free some space; then go on with --resume.") from error


def _step(line: str) -> float:
    try:
        return float(json.loads(line).get("step", 0))
    except (ValueError, AttributeError):
        return float("inf")  # half a line from a killed run
