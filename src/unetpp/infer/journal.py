"""Cases that are finished while a command runs, each recorded at once: what survives its process, and its machine.

    OUT/.predictions/WRITER.HOST.PROCESS.jsonl   a line for each finished case, appended by the process that did it

The command makes predictions.json of them at its end, and removes them. `predict --resume` reads both.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from unetpp.errors import UsageError, WriteError
from unetpp.files import append_line_soon, hold_lock, read_json_lines
from unetpp.parts import WHOLE, Part

FOLDER = ".predictions"
_LOCK, _RECORD = ".predictions.lock", ".predictions.record.lock"
_ATTEMPTS = 100
"""Parts that may remove the empty folder just before one of them writes into it."""


class FinishedFile(NamedTuple):
    """One segmentation that is there."""

    folder: str
    """Its folder below the folder of the results; empty: that itself."""
    key: str
    """Identifies the model and the settings."""
    file: str
    """Path in the folder."""
    entry: dict[str, Any]
    """Its entry in predictions.json."""


@dataclass(frozen=True)
class Journal:
    """The finished cases of one command; workers append to it as well."""

    out: Path
    """Folder of the results."""
    part: Part = WHOLE

    @property
    def folder(self) -> Path:
        """Folder of the journals of all commands that write to the same results."""
        return self.out / FOLDER

    def begin(self) -> None:
        """Make its folder. Raises WriteError."""
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise WriteError(self.folder, error.strerror or str(error), "a folder", "Choose another `out`.") from error

    def append(self, files: list[FinishedFile]) -> None:
        """Record that one case is finished, at all its sizes. Raises WriteError."""
        path = self.folder / f"{self._writer}.{socket.gethostname()}.{os.getpid()}.jsonl"
        text = json.dumps(files, allow_nan=False)
        for attempts_left in reversed(range(_ATTEMPTS)):
            try:
                append_line_soon(path, text)
            except WriteError as error:
                if not (attempts_left and isinstance(error.__cause__, FileNotFoundError)):
                    raise
                self.begin()  # another part has removed the folder at its end, as nothing was in it yet
            else:
                return

    def read(self) -> Iterator[FinishedFile]:
        """Read what all commands have recorded, and not yet put into predictions.json."""
        for path in sorted(self.folder.glob("*.jsonl")):
            for line in read_json_lines(path):
                for fields in line if isinstance(line, list) else ():
                    with suppress(TypeError, ValueError):
                        yield FinishedFile(*fields)

    def remove(self) -> None:
        """Remove what this command has recorded; that of the whole has the shares of all parts, too."""
        for path in self.folder.glob("*.jsonl" if self.part.is_whole else f"{self._writer}.*.jsonl"):
            with suppress(OSError):
                path.unlink()
        with suppress(OSError):
            self.folder.rmdir()  # refused unless it is empty

    @property
    def _writer(self) -> str:
        return "all" if self.part.is_whole else f"{self.part.index}-of-{self.part.count}"

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the results against other commands; those of other parts may go on.

        Raises:
            UsageError: another command writes there.
        """
        own = self.out / f"{_LOCK}.{self._writer}"
        with hold_lock(self.out / _LOCK, shared=not self.part.is_whole) as is_free, hold_lock(own) as is_ours:
            if not (is_free and is_ours):
                expected = "one that no other command writes to"
                action = "Wait until that has ended; several at once share the work with `part`."
                got = f"{self.out}, into which another command predicts at the moment"
                raise UsageError("out", got, expected, action)
            yield

    @contextmanager
    def hold_record(self) -> Iterator[None]:
        """Hold predictions.json while it is read and written; other parts wait."""
        with hold_lock(self.out / _RECORD, wait=True):
            yield
