"""Cases that an earlier command has read: what they have shown, as long as their files are the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter

from unetpp.data.case_facts import CaseFacts
from unetpp.files import write_text
from unetpp.layouts.dataset import Case
from unetpp.plan import ReadPlan
from unetpp.version import __version__

_DETACHED = (".mhd", ".nhdr", ".hdr", ".img")
"""Suffixes of headers whose voxels are in another file, which may change alone: such cases are read each time."""
_FACTS = TypeAdapter(dict[str, CaseFacts], config=ConfigDict(ser_json_inf_nan="constants"))


class KnownCases:
    """Facts of cases, by what they were read from: files with their sizes and times, and how they are read.

    Args:
        path: what `write` has written; None, no such file or a damaged one: nothing is known.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._before: dict[str, CaseFacts] = {}
        self._keys: dict[str, str] = {}
        self._now: dict[str, CaseFacts] = {}
        if path is not None:
            with suppress(OSError, ValueError):
                self._before = _FACTS.validate_json(path.read_bytes())

    def recall(self, case: Case, reading: ReadPlan, most: int) -> CaseFacts | None:
        """Return what a case has shown; None: it is not known, or its files have changed.

        Args:
            case: the case.
            reading: how its files are read.
            most: largest number of voxels of its sample.
        """
        with suppress(OSError):  # a file that is not there is reported by reading it
            if key := _identify(case, reading, most):
                self._keys[case.id] = key
                return self._before.get(key)
        return None

    def add(self, case: Case, facts: CaseFacts | None) -> None:
        """Add what a case that was asked for has shown; None: a problem, which is looked for again."""
        if facts is not None and case.id in self._keys:
            self._now[self._keys[case.id]] = facts

    def write(self, path: Path) -> None:
        """Write the cases that were asked for, unless the file has them.

        Raises:
            WriteError: the file cannot be written.
        """
        if self._now.keys() != self._before.keys():
            write_text(path, _FACTS.dump_json(self._now).decode())


def _identify(case: Case, reading: ReadPlan, most: int) -> str:
    """Compute a key that is equal as long as a case shows the same; empty: this cannot be told from its files."""
    files = [path.absolute() for path in (*case.images, *case.labels)]
    if any(path.suffix.lower() in _DETACHED for path in files):
        return ""
    place = (case.id, case.label_classes, case.class_values, case.label_key, case.plane, case.area)
    seen = [(str(path), [list(_look(each)) for each in _list_files(path)]) for path in files]
    key = json.dumps([__version__, place, seen, reading.model_dump(mode="json"), most])
    return hashlib.sha256(key.encode()).hexdigest()


def _list_files(path: Path) -> list[Path]:
    """List a file, or those of a folder, as of a DICOM series."""
    return sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]


def _look(path: Path) -> Iterator[int | str]:
    found = path.stat()
    yield from (path.name, found.st_size, found.st_mtime_ns)
