"""What the user asks of `train`, and the cases and folds that this means."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from unetpp.cluster.engine import HERE, Engine
from unetpp.data.folds import Split
from unetpp.errors import Interrupted
from unetpp.plan import Plan
from unetpp.planning.planner import Start
from unetpp.progress import Progress
from unetpp.run_folder import NO_VALIDATION, FoldName, RunFolder
from unetpp.verbs import begun_folds, preparation
from unetpp.verbs.arguments import LogTo
from unetpp.verbs.request import Request
from unetpp.verbs.splits import choose_split, find_splits
from unetpp.verbs.start import describe_start

FEW_MINUTES = 1.0
"""Minutes of a fold below which a note says that they are few."""


@dataclass(frozen=True)
class TrainingRequest:
    """What the user asks of `train`: its arguments, checked as far as that goes without the data."""

    data: Path
    run: RunFolder
    request: Request
    """Settings of the plan, with the length of the whole command."""
    fold: int | str
    start: Start | None
    resume: bool
    add_cases: bool
    no_cache: bool
    select: bool
    device: str
    log_to: LogTo | None
    cluster: str | None
    started: float
    """Time of `time.monotonic` at which the command began."""
    progress: Progress

    @property
    def addition(self) -> Request | None:
        """The request, if its length is added to finished folds."""
        return self.request if self.request.adds else None

    def share_minutes(self, parts: int, share: float = 1.0, what: str = "folds") -> TrainingRequest:
        """Divide the minutes, or the share of them that training has, among the folds, or rounds of them."""
        if not self.request.minutes:
            return self
        minutes = share * self.request.minutes / parts
        if parts > 1:
            self.progress.note(f"The minutes are divided among {parts} {what}: {minutes:.3g} for each.")
        if minutes < FEW_MINUTES and not self.request.adds:
            self.progress.note(f"note: {60 * minutes:.0f} seconds for a fold are hardly enough to learn anything")
        return replace(self, request=replace(self.request, minutes=minutes))

    def note_start(self, plan: Plan, held_out: Collection[str]) -> None:
        """Say from which weights the training starts."""
        if not self.start and plan.train.start:
            source = plan.train.start.partition(",")[0]
            self.progress.note(f"Starts from {source}, as the plan in {self.run.plan} says.")
        for text in describe_start(self.start, plan, held_out, self.data) if self.start else []:
            self.progress.note(text)

    @contextmanager
    def explain_stop(self) -> Iterator[None]:
        """Add to an interruption what there is, and the command that goes on; raises Interrupted."""
        try:
            yield
        except KeyboardInterrupt:  # before or after the steps of training, which handle signals themselves
            raise Interrupted(self._describe_stop()) from None
        except Interrupted as error:
            raise Interrupted(f"{error} {self._describe_next()}") from None

    def _describe_stop(self) -> str:
        if begun_folds.has_started(self.run, self.fold):
            return f"Stopped; the work so far is saved. {self._describe_next()}"
        written = f"the plan is in {self.run.plan}" if self.run.plan.exists() else "nothing was written"
        return f"Stopped before training began; {written}. Begin again with the same arguments."

    def _describe_next(self) -> str:
        cluster = f" --cluster {self.cluster}" if self.cluster else ""
        return f"Continue: {self.run.write_resume(self.fold, str(self.data))}{cluster}"


@dataclass(frozen=True)
class RequestedFolds:
    """The folds that the user asks for, in the data that was read."""

    found: preparation.ReadData
    splits: Sequence[Split]
    """Those of all folds."""
    numbers: Sequence[FoldName]
    """The folds to train."""
    done: bool
    """Whether nothing of them is left to train."""

    def list_splits(self) -> list[Split]:
        """List the cases of each fold to train."""
        return [choose_split(self.splits, number) for number in self.numbers]

    def list_held_out(self) -> set[str]:
        """List the validation cases of all folds to train."""
        return {case for split in self.list_splits() for case in split.validation}


def find_folds(training: TrainingRequest, engine: Engine = HERE) -> RequestedFolds:
    """Read the data, and find the folds that the user asks for.

    Raises:
        DataError: all problems with the data at once.
        PlanError: a wrong setting.
        UsageError: no such fold, or one that cannot be trained so.
    """
    run, progress = training.run, training.progress
    found = preparation.read_data(training.data, training.request.settings, progress, run, engine)
    validated = training.fold != NO_VALIDATION
    classes = found.list_classes()
    splits = find_splits(run, found.dataset, progress, training.add_cases, validated, classes)
    numbers = begun_folds.parse_folds(training.fold, len(splits))
    done = begun_folds.are_done(run, numbers, training.resume, training.request.adds, training.add_cases)
    if len(numbers) > 1 and not training.resume:
        progress.note("What nnU-Net calls fold all, one model of all cases, is fold none here.")
    return RequestedFolds(found, splits, numbers, done)
