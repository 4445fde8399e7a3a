"""`log.jsonl`: one JSON object per line, for people, plots and programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat

from unetpp.errors import WriteError
from unetpp.files import write_text
from unetpp.json_files import parse_json
from unetpp.words import count_noun

LogLine = dict[str, Any]


class _Line(BaseModel):
    """What is read of a line of the log; other keys are passed on."""

    model_config = ConfigDict(extra="allow")

    kind: str
    step: int = 0
    elapsed_s: FiniteFloat | None = None
    loss: float | None = None
    dice: float | None = None
    train_dice: float | None = None
    depths: dict[str, float | None] | None = None
    learning_rate: float | None = None
    images_per_second: float | None = None
    data_wait: FiniteFloat | None = None


class Log:
    """Log of a training, one line at a time.

    Args:
        path: file of the log.
        listen: called with each line too.
        writes: whether this process writes the log, of several that train together.
    """

    def __init__(self, path: Path, listen: Callable[..., object] = lambda **values: None, writes: bool = True) -> None:
        self._path, self._listen, self._writes = path, listen, writes

    def begin(self, until_step: int = -1, validations: int = 0, phase: int = 0) -> None:
        """Start a log; on resuming keep the lines from before the checkpoint: what came after it is done again.

        Args:
            until_step: step of the checkpoint.
            validations: number of validations in the checkpoint; it may be one from before that of its step.
            phase: of growth, in the checkpoint; the next one may have begun at its step.

        Raises:
            WriteError: the file cannot be written.
        """
        if not self._writes:
            return
        lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines() if self._path.exists() else []
        kept = (line for line in lines if _is_before(line, until_step, validations, phase))
        write_text(self._path, "".join(line + "\n" for line in kept))

    def write(self, kind: str, **values: Any) -> None:
        """Append a line.

        Raises:
            WriteError: the file cannot be written.
        """
        if not self._writes:
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"kind": kind, **values}) + "\n")
        except OSError as error:
            action = "Free some space, then continue with `resume=True`."
            raise WriteError(self._path, error.strerror or str(error), "to write the log", action) from error
        self._listen(kind=kind, **values)


def read_log(path: Path) -> tuple[list[LogLine], str]:
    """Read the lines of a log, and say how much of it cannot be read."""
    try:
        texts = path.read_bytes().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return [], ""
    except OSError as error:
        return [], f"all ({error.strerror})"
    lines, bad = [], 0
    for text in texts:
        try:
            lines.append(_Line.model_validate(parse_json(text)).model_dump(exclude_unset=True))
        except ValueError:
            bad += bool(text.strip("\0 "))
    return lines, count_noun(bad, "line") if bad else ""


def _is_before(line: str, step: int, validations: int, phase: int) -> bool:
    """Tell whether a line was written before a checkpoint; half a line, from a killed run, was not."""
    try:
        values = parse_json(line)
        done = (values.get("step", 0) <= step, values.get("number", 0) <= validations, values.get("phase", 0) <= phase)
        return all(done)
    except (ValueError, AttributeError, TypeError):
        return False
