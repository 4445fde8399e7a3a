"""Marks of finished blocks beside the labels: a killed run goes on where it stopped, and writers know of each other.

    .unetpp/IDENTITY/STAGE/NUMBER    a finished unit of a stage; IDENTITY is a digest of model, options and image
    .unetpp/writers/NAME             who writes now, refreshed every minute

They are removed when all is written.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psutil

from unetpp.errors import LOG, UsageError
from unetpp.formats.object_store import Objects

FOLDER = ".unetpp"
FRESH_S = 900.0
"""Seconds for which a writer that says nothing counts as alive: those of many refreshes that failed."""
_REFRESH_S = 60.0


@dataclass(frozen=True)
class Marks:
    """The marks of one model, its options and one image."""

    objects: Objects
    identity: str

    def list_done(self, stage: str) -> set[int]:
        """List the numbers of the finished units of a stage."""
        found = self.objects.list_keys(f"{FOLDER}/{self.identity}/{stage}")
        return {int(name) for key, _ in found if (name := key.rpartition("/")[2]).isdecimal()}

    def set(self, stage: str, number: int, content: Any = None) -> None:
        """Mark a unit as finished, with what later stages read of it, in terms of JSON."""
        self.objects.write(f"{FOLDER}/{self.identity}/{stage}/{number}", json.dumps(content).encode())

    def read(self, stage: str, number: int) -> Any:
        """Read what a finished unit left; None: it is not finished."""
        content = self.objects.read(f"{FOLDER}/{self.identity}/{stage}/{number}")
        return None if content is None else json.loads(content)

    def forget_others(self) -> None:
        """Remove the marks of other models, options or images: their blocks are about to be overwritten."""
        own = (f"{FOLDER}/{self.identity}/", f"{FOLDER}/writers/")
        self.objects.delete([key for key, _ in self.objects.list_keys(FOLDER) if not key.startswith(own)])

    def forget(self) -> None:
        """Remove the own marks."""
        self.objects.delete([key for key, _ in self.objects.list_keys(f"{FOLDER}/{self.identity}")])


class Writer:
    """One client that writes, known to the others while it lives.

    Args:
        marks: of what it writes.
        part: its share, such as "1/4"; None: all.
    """

    def __init__(self, marks: Marks, part: str | None) -> None:
        self._marks, self._part = marks, part
        self._name = f"{FOLDER}/writers/{secrets.token_hex(8)}"

    def refresh(self) -> None:
        """Tell others that it lives."""
        entry = {
            "identity": self._marks.identity,
            "part": self._part,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "began": psutil.Process().create_time(),
        }
        self._marks.objects.write(self._name, json.dumps(entry).encode())

    @contextmanager
    def refreshing(self) -> Iterator[None]:
        """Go on telling that it lives, whatever units take: workers of a cluster may have to wait for hours."""
        ended = threading.Event()

        def refresh() -> None:
            while not ended.wait(_REFRESH_S):
                try:
                    self.refresh()
                except Exception:  # the next one may reach the store again; what writes labels names the problem
                    LOG.debug("%s was not refreshed", self._name, exc_info=True)

        thread = threading.Thread(target=refresh, name="unetpp-writer", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()  # it must not write the entry again when that is removed

    def end(self) -> None:
        """Remove the entry."""
        with contextlib.suppress(Exception):  # it counts as gone after a while anyway
            self._marks.objects.delete([self._name])

    def find_rival(self, resume: bool) -> dict[str, Any] | None:
        """Find another client that is alive and would write the same blocks; entries of dead ones are removed.

        Args:
            resume: clients of the same model and image do no harm: they write the same bytes.
        """
        for key, written in list(self._marks.objects.list_keys(f"{FOLDER}/writers")):
            content = None if key == self._name else self._marks.objects.read(key)
            if content is None:
                continue
            try:
                entry = dict(json.loads(content))
            except (ValueError, TypeError):
                continue
            is_fresh = (datetime.now(UTC) - written).total_seconds() < FRESH_S
            if not is_fresh or _has_died(entry):
                self._marks.objects.delete([key])
                continue
            is_same = entry.get("identity") == self._marks.identity
            shares = entry.get("part") != self._part and None not in (entry.get("part"), self._part)
            if not (is_same and (shares or resume)):
                return entry
        return None


@contextmanager
def writing(marks: Marks, part: str | None, resume: bool) -> Iterator[None]:
    """Write alone, or with clients that write other parts of the same, who know of this one all the time.

    Raises:
        UsageError: another client writes there.
    """
    writer = Writer(marks, part)
    writer.refresh()
    try:
        if rival := writer.find_rival(resume):
            got = f"{marks.objects}, which process {rival.get('process')} on {rival.get('host')} is writing"
            action = (
                f"Wait for it, or choose another `out`. If it has died there, go on after {FRESH_S / 60:.0f} minutes."
            )
            raise UsageError("out", got, "one client for each `out`, or parts of one (`part`)", action)
        with writer.refreshing():
            yield
    finally:
        writer.end()


def _has_died(entry: dict[str, Any]) -> bool:
    """Tell whether a process of this machine is gone; of others nothing is known."""
    if entry.get("host") != socket.gethostname():
        return False
    try:
        began = float(psutil.Process(int(entry["process"])).create_time())
        return abs(began - float(entry["began"])) > 1
    except (psutil.Error, ValueError, TypeError, KeyError):
        return True
