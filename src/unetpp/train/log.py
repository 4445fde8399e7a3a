"""`log.jsonl`: one JSON object per line, for people, plots and programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unetpp.errors import WriteError
from unetpp.files import write_text
from unetpp.json_files import parse_json


class Log:
    """Log of a training, one line at a time.

    Args:
        path: file of the log.
        listen: called with each line too.
    """

    def __init__(self, path: Path, listen: Callable[..., object] = lambda **values: None) -> None:
        self._path, self._listen = path, listen

    def begin(self, until_step: int = -1) -> None:
        """Start a log; on resuming keep the lines up to the step of the checkpoint: later steps are done again.

        Raises:
            WriteError: the file cannot be written.
        """
        lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines() if self._path.exists() else []
        write_text(self._path, "".join(line + "\n" for line in lines if _read_step(line) <= until_step))

    def write(self, kind: str, **values: Any) -> None:
        """Append a line.

        Raises:
            WriteError: the file cannot be written.
        """
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"kind": kind, **values}) + "\n")
        except OSError as error:
            action = "Free some space, then continue with `resume=True`."
            raise WriteError(self._path, error.strerror or str(error), "to write the log", action) from error
        self._listen(kind=kind, **values)


def _read_step(line: str) -> float:
    try:
        return float(parse_json(line).get("step", 0))
    except (ValueError, AttributeError):
        return float("inf")  # half a line, from a killed run
