"""Scores of several commands, each of which scored a share of the cases, as `evaluate --part 2/8` does.

    SCORES.json.parts/2-of-8.json    scores of the second of eight shares

Each share writes the scores of all that are there, the last one those of all. The files stay: a share that is done
again, such as by a requeued job, finds the others. Shares of files that have changed since do not count.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from unetpp.cluster.engine import HERE, Engine
from unetpp.errors import Problem, UsageError
from unetpp.files import hold_lock, write_text
from unetpp.formats import list_image_files
from unetpp.layouts.dataset import Case
from unetpp.metrics.scores import CaseScore
from unetpp.parts import WHOLE, Part


class Share(BaseModel):
    """Content of the file of a share."""

    model_config = ConfigDict(frozen=True)

    identity: str
    """Digest of the files that all shares compare, and of how."""
    scores: tuple[CaseScore, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class ScoreSharing:
    """How the scoring of one command is shared between processes, and between commands."""

    engine: Engine = HERE
    part: Part = WHOLE
    """The share of this command."""
    out: Path | None = None
    """File of the scores."""

    def require_out(self) -> None:
        """Raise UsageError for a share whose scores are not written."""
        if self.out is None and not self.part.is_whole:
            raise UsageError("part", f"{self.part} without `out`", "the file in which the shares meet", "Give `out`.")

    @property
    def folder(self) -> Path:
        """Folder of the shares."""
        return Path(f"{self.out}.parts")

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the scores while shares are read and written; other parts wait."""
        if self.part.is_whole:
            yield
            return
        with hold_lock(self.folder.with_name(f".{self.folder.name}.lock"), wait=True):
            yield

    def meet(self, name: str, mine: Share) -> tuple[list[CaseScore], list[Problem], list[int]]:
        """Write this share, and read the others.

        Args:
            name: name of the folder that is scored, one of several depths; empty: there is one.
            mine: this share.

        Returns:
            Scores and problems of all shares that are there, and the numbers of those that are not.
        """
        if self.part.is_whole:
            return list(mine.scores), list(mine.problems), []
        write_text(self._file(name, self.part.index), mine.model_dump_json())
        shares = {index: _read(self._file(name, index), mine.identity) for index in self._numbers}
        there = [share for share in shares.values() if share]
        scores = [score for share in there for score in share.scores]
        problems = list(dict.fromkeys(problem for share in there for problem in share.problems))
        return scores, problems, [index for index, share in shares.items() if share is None]

    @property
    def _numbers(self) -> range:
        return range(1, self.part.count + 1)

    def _file(self, name: str, index: int) -> Path:
        return self.folder / f"{f'{name}.' if name else ''}{index}-of-{self.part.count}.json"


def _read(file: Path, identity: str) -> Share | None:
    """Read a share; None if it is not there, or of other files."""
    try:
        share = Share.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        return None
    return share if share.identity == identity else None


def identify_files(files: Mapping[str, Path], cases: Mapping[str, Case], stems: Sequence[str], how: object) -> str:
    """Digest the names, sizes and times of all files that are compared, and how they are.

    Args:
        files: segmentations by stem.
        cases: references by stem.
        stems: those that are compared.
        how: what is known of the meaning of their values; the same content has the same `repr`.
    """
    paths = [path for stem in stems for path in (files[stem], *cases[stem].labels)]
    found = [
        (file.name, status.st_size, status.st_mtime_ns)
        for path in paths
        for file in list_image_files(path)
        for status in [file.stat()]
    ]
    return hashlib.sha256(json.dumps([list(stems), found, repr(how)]).encode(errors="surrogatepass")).hexdigest()[:16]
