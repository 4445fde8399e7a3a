"""What `evaluate` has found of each case, recorded at once: what survives its process, and is not done again.

    SCORES.json.parts/all.jsonl       a line for each label that was measured, and for each pair that was scored
    SCORES.json.parts/2-of-8.jsonl    those of the second of eight shares

A line knows the files that it came from, and how they were read.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from unetpp.cluster.engine import Engine, Outcome
from unetpp.data.case_runs import HasFiles, run_cases
from unetpp.errors import WriteError
from unetpp.files import append_line_soon, read_json_lines
from unetpp.formats import list_image_files
from unetpp.version import __version__

_Case = TypeVar("_Case", bound=HasFiles)
_Value = TypeVar("_Value")
_LENGTH = 16


@dataclass(frozen=True)
class ScoreRecords:
    """The records of one command.

    Args:
        file: where they are appended; None: nothing is recorded.
        found: those of before, by their keys.

    Attributes:
        used: how many of these there were cases for, by what was done.
    """

    file: Path | None = None
    found: Mapping[str, Any] = field(default_factory=dict)
    used: Counter[str] = field(default_factory=Counter)

    @classmethod
    def open(cls, file: Path, resume: bool) -> ScoreRecords:
        """Begin to record; without `resume` anew, with it after what all commands have recorded there.

        Raises:
            WriteError: there can be no such folder.
        """
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            if not resume:
                file.unlink(missing_ok=True)
                return cls(file)
        except OSError as error:
            got, action = error.strerror or str(error), "Choose another `out`."
            raise WriteError(file.parent, got, "a folder for the records", action) from error
        lines = (line for path in sorted(file.parent.glob("*.jsonl")) for line in read_json_lines(path))
        return cls(file, {line[0]: line[1] for line in lines if isinstance(line, list) and len(line) == 2})

    def remove(self) -> None:
        """Remove the records, when they have become scores."""
        if self.file is not None:
            with suppress(OSError):
                self.file.unlink(missing_ok=True)
                self.file.parent.rmdir()  # refused unless it is empty

    def run(
        self,
        engine: Engine,
        task: Callable[[_Case], _Value],
        cases: Sequence[_Case],
        kind: type[_Value],
        *,
        name: str,
        identify: Callable[[_Case], str],
        progress: Callable[[int, int], object] | None = None,
    ) -> Iterator[Outcome[_Case, _Value]]:
        """Call a task with each case that has no record, and record its value at once.

        Args:
            engine: where.
            task: a picklable function.
            cases: the cases.
            kind: type of its values.
            name: what is done, in a word.
            identify: digests the files of a case, and how they are read.
            progress: called with (cases done, cases in all).

        Yields:
            Outcomes in the order of the cases.
        """
        adapter = TypeAdapter(kind)
        keys = [f"{name} {identify(case)}" for case in cases]
        known = {number: value for number, key in enumerate(keys) for value in self._recall(adapter, key)}
        self.used[name] += len(known)
        todo = [number for number in range(len(cases)) if number not in known]

        def record(place: int, outcome: Outcome[Any, _Value]) -> None:
            if self.file is not None and not outcome.problems:
                value = adapter.dump_python(outcome.value, mode="json")
                append_line_soon(self.file, json.dumps([keys[todo[place]], value]))

        def show(done: int, count: int) -> None:
            if progress:
                progress(len(known) + done, len(cases))

        rest = [cases[number] for number in todo]
        fresh = run_cases(engine, task, rest, name=name, progress=show, ended=record)
        for number, case in enumerate(cases):
            yield Outcome(case, known[number]) if number in known else next(fresh)

    def _recall(self, adapter: TypeAdapter[_Value], key: str) -> Iterator[_Value]:
        """Yield the recorded value of a case, if there is one that this version reads."""
        if key in self.found:
            with suppress(ValidationError):
                yield adapter.validate_python(self.found[key])


def identify_case(paths: Iterable[Path], how: object) -> str:
    """Digest the places, sizes and times of the files of a case, and how they are read.

    Args:
        paths: images and labels; what belongs to one, such as voxels beside a header, counts with it.
        how: what is known of the meaning of their values; the same content has the same `repr`.

    Returns:
        Hexadecimal digits.
    """
    files = [file for path in paths for file in list_image_files(path)]
    text = json.dumps([__version__, *map(_describe, files), repr(how)])
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]


def _describe(file: Path) -> tuple[str, int, int]:
    """Describe a file; one that is not there is a problem of its case, of which there will be no record."""
    try:
        status = file.stat()
    except OSError:
        return str(file.absolute()), 0, 0
    return str(file.absolute()), status.st_size, status.st_mtime_ns
