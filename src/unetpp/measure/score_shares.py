"""How the scoring of one command is shared: between processes, between commands, and with those that were stopped.

    SCORES.json.parts/2-of-8.json    scores of the second of eight shares, as `evaluate --part 2/8` does it

Each share writes the scores of all that are there, the last one those of all. The files stay: a share that is done
again, such as by a requeued job, finds the others. Shares of files that have changed since do not count.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from unetpp.cluster.engine import HERE, Engine
from unetpp.errors import Problem, UsageError
from unetpp.files import hold_lock, write_text
from unetpp.formats import list_image_files
from unetpp.layouts.dataset import Case
from unetpp.measure.score_records import ScoreRecords
from unetpp.metrics.scores import CaseScore
from unetpp.parts import WHOLE, Part
from unetpp.words import count_noun

SCORE = "score"
"""Name of the work of which `notes` tells."""


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
    records: ScoreRecords = field(default_factory=ScoreRecords)
    """What is found of each case."""

    @classmethod
    @contextmanager
    def open(cls, part: Part, out: Path | None, resume: bool) -> Iterator[ScoreSharing]:
        """Hold the scores against other commands, and record what is found; records become scores at the end.

        They stay where an error ends it, for `resume`; with `resume` and of a share they always do.

        Raises:
            UsageError: a share, or what is to be resumed, whose scores are not written; another command writes them.
            WriteError: records cannot be written.
        """
        if out is None:
            if resume or not part.is_whole:
                got = "resume=True" if part.is_whole else str(part)
                expected = "the file beside which records are, and in which shares meet"
                raise UsageError("resume" if part.is_whole else "part", f"{got} without `out`", expected, "Give `out`.")
            yield cls()
            return
        with _hold(out, part):
            sharing = cls(part=part, out=out)
            records = ScoreRecords.open(sharing.folder / f"{_name(part)}.jsonl", resume)
            try:
                yield replace(sharing, records=records)
                if part.is_whole and not resume:
                    records.remove()
            finally:
                with suppress(OSError):
                    sharing.folder.rmdir()  # of a command that recorded nothing

    @property
    def notes(self) -> tuple[str, ...]:
        """What to say of records that were there."""
        count = self.records.used[SCORE]
        return (f"{count_noun(count, 'segmentation')} had been scored before, with the same files",) if count else ()

    @property
    def folder(self) -> Path:
        """Folder of the shares."""
        return Path(f"{self.out}.parts")

    @contextmanager
    def hold_shares(self) -> Iterator[None]:
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
        return self.folder / f"{f'{name}.' if name else ''}{_name(Part(index, self.part.count))}.json"


def _name(part: Part) -> str:
    return "all" if part.is_whole else f"{part.index}-of-{part.count}"


@contextmanager
def _hold(out: Path, part: Part) -> Iterator[None]:
    """Hold scores against other commands; those of other parts may go on. Raises UsageError."""
    lock = out.with_name(f".{out.name}.lock")
    own = lock.with_name(f"{lock.name}.{_name(part)}")
    with hold_lock(lock, shared=not part.is_whole) as is_free, hold_lock(own) as is_ours:
        if not (is_free and is_ours):
            action = "Wait until that has ended; several at once share the work with `part`."
            got = f"{out}, into which another command scores at the moment"
            raise UsageError("out", got, "one that no other command writes to", action)
        yield


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
