"""Results of trainings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from unetpp.model_notes import Metrics, Verdict
from unetpp.results.result import DONE, PARTLY, Result, find_above
from unetpp.results.tables import WIDTH, describe_depths, describe_worst, suggest_prediction
from unetpp.words import count_noun, wrap, write_command


@dataclass(frozen=True)
class TrainedFold:
    """One fold of a run, measured on its validation cases."""

    fold: int | str
    """Its number; "none": all cases trained, none validated."""
    reason: str
    """Why training ended: finished or patience."""
    steps: int
    seconds: float
    data_wait: float
    """Fraction of the time in which the network waited for data."""
    metrics: Metrics = field(repr=False)


@dataclass(frozen=True, repr=False)
class Followed(Result):
    """What `train` returns in all processes of a training but the first, which has the result."""

    code: int

    @property
    def exit_code(self) -> int:
        """That of the first process."""
        return self.code

    def to_text(self) -> str:
        """Describe that there is nothing to say."""
        return "The result of this training is that of its first process."


@dataclass(frozen=True, repr=False)
class Run(Result):
    """A trained run."""

    run: Path
    folds: tuple[TrainedFold, ...]
    page: Path | None
    """The report; None: it could not be written."""
    seconds: float
    pooled: Metrics | None = None
    """Scores over the validation cases of all folds, if there are several."""
    verdict: Verdict | None = None
    """How the training stands; of several folds that which most needs something done."""
    command: str = ""
    """What to run next."""
    trackers: tuple[str, ...] = ()
    """Commands that open what `log_to` has written."""
    prediction: str = ""
    """The command that segments other images, at the size that all folds of the run recommend; empty: these folds."""
    selected: Path | None = None
    """Folder of what was selected among all folds, which predicts."""
    longer: str = ""
    """Of a run that was finished before, so that nothing was trained: the command that trains it longer; that of the
    verdict, if it wants more."""

    def report(self) -> Reported:
        """Open the report, and write it if there is none: in the browser, or in the notebook. Measures nothing."""
        found = Reported(self.page) if self.page and self.page.exists() else None
        reported: Reported = found or find_above("verbs.report", "write_page")(self.run)
        reported.open()
        return reported

    def to_text(self) -> str:
        if self.longer:
            return "\n".join(self.describe_end())
        lines = [self._describe_fold(fold) for fold in self.folds]
        scores = self.pooled or self.folds[0].metrics
        if self.pooled:
            lines.append(f"all {len(self.folds)} folds, {count_noun(len(scores.cases), 'validation case')}:")
        lines.append(describe_depths(scores))
        return "\n".join([*lines, *describe_worst(scores), *self.describe_end()])

    def describe_end(self) -> list[str]:
        """Say what was not measured, how the training stands and what comes next."""
        lines = []
        if self.longer:
            how = "" if self.longer == self.command else f"; `{self.longer}` trains it longer"
            lines.append(f"{self.run} was already finished{how}.")
        scores = self.pooled or self.folds[0].metrics
        if unfinished := list(dict.fromkeys(text for fold in self.folds for text in fold.metrics.unfinished)):
            lines.append(f"the time was over: {'; '.join(unfinished)}")
            lines.append(f"Measure the rest: {write_command('report', self.run)}")
        lines += [f"Report: {self.page}"] if self.page else []
        lines += [f"Selected: {self.selected} ({self.selected / 'select.html'})"] if self.selected else []
        lines += [f"Curves: {command}" for command in self.trackers]
        lines += [wrap(str(self.verdict), WIDTH)] if self.verdict else []
        predict = self.prediction or suggest_prediction(self.run, scores)
        return [*lines, *([f"Next: {self.command}", f"or: {predict}"] if self.command else [f"Next: {predict}"])]

    def _describe_fold(self, fold: TrainedFold) -> str:
        """Describe the length of a training, and of one of several its Dice."""
        length = f"{count_noun(fold.steps, 'step')} in {fold.seconds / 60:.1f} minutes ({fold.reason})"
        dice = fold.metrics.mean.dice
        scored = f", Dice {dice:.4f}" if dice is not None and len(self.folds) > 1 else ""
        scored += "; no scores, as every case was trained on: folds 0, 1, ... have them" if fold.fold == "none" else ""
        return f"fold {fold.fold}: {length}, {fold.data_wait:.1%} of the time waiting for data{scored}"


@dataclass(frozen=True, repr=False)
class Reported(Result):
    """The report of a run."""

    report: Path
    left_out: tuple[str, ...] = ()
    """What the report leaves out, because it cannot be read."""
    notes: tuple[str, ...] = ()
    verdict: Verdict | None = None
    """How the training stands; of several folds that which most needs something done."""
    command: str = ""
    """What to run next."""
    state: str = ""
    """How far a training got of which there is no verdict yet."""

    def open(self) -> None:
        """Open the page: in the browser, or in the notebook."""
        find_above("report.notebook", "open_page")(self.report)

    def to_text(self) -> str:
        return "\n".join(
            [
                *(f"note: {text}" for text in self.notes),
                *(f"note: {text} cannot be read; the report leaves it out" for text in self.left_out),
                f"Report: {self.report}",
                *([f"State: {self.state}"] if self.state else []),
                *([wrap(str(self.verdict), WIDTH)] if self.verdict else []),
                *([f"Next: {self.command}"] if self.command else []),
            ]
        )


@dataclass(frozen=True, repr=False)
class RunInfo(Result):
    """Description of a run that has no model yet."""

    run: Path
    state: str
    """How far its training got."""
    command: str
    """What to run next."""

    def to_text(self) -> str:
        return f"{self.run}\nstate:      {self.state}\nNext: {self.command}"


@dataclass(frozen=True)
class CleanedRun:
    """What was removed from a run, or would be."""

    run: Path
    files: int
    mb: float


@dataclass(frozen=True, repr=False)
class Cleaned(Result):
    """Runs without their caches."""

    runs: tuple[CleanedRun, ...]
    written: bool
    """False after a dry run."""
    left: tuple[Path, ...] = ()
    """Runs of a folder that are being trained, and were left alone."""

    @property
    def exit_code(self) -> int:
        return PARTLY if self.left else DONE

    def to_text(self) -> str:
        verb = "removed" if self.written else "would be removed"
        needed = "`unetpp adapt`, `unetpp prune --minutes` and 8-bit exports prepare the cases again, from the data"
        where = "where training found it; without it they do not work"
        return "\n".join(
            [
                *(f"{each.run}: {count_noun(each.files, 'file')}, {each.mb:,.1f} MB, {verb}" for each in self.runs),
                *(f"{run}: left alone, as it is being trained" for run in self.left),
                *([wrap(f"note: {needed} {where}.", WIDTH)] if any(each.files for each in self.runs) else []),
            ]
        )


@dataclass(frozen=True, repr=False)
class Demonstrated(Result):
    """A run on generated data, and its predictions."""

    data: Path
    trained: Run
    predictions: Path

    def to_text(self) -> str:
        run = self.trained.run
        commands = (
            ("info", run),
            ("predict", run, self.data / "images", "--out", run / "predictions_all", "--size", "all"),
            ("prune", run, "--out", run / "small.safetensors", "--max-drop", 1),
            ("train", "my_data", "--minutes", 20),
        )
        return "\n".join(
            [
                *(line for line in self.trained.to_text().splitlines() if not line.startswith(("Next: ", "or: "))),
                f"Predictions: {self.predictions}",
                "",
                "What you can do next:",
                *(f"  {write_command(*words)}" for words in commands),
            ]
        )
