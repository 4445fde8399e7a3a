"""Results of the verbs: typed, with a dictionary for programs and a text for people. Imports nothing heavy."""

from __future__ import annotations

import importlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic_core import to_json

from unetpp.errors import Problem, list_problems, merge_problems, shorten_lines
from unetpp.measured import (
    DepthRow,
    DepthTable,
    ExportNotes,
    Measured,
    Metrics,
    Notes,
    Rule,
    Scores,
    Verdict,
    list_columns,
    tabulate,
)
from unetpp.plan import DataPlan, Plan, PredictPlan
from unetpp.words import count_noun, find_value, format_value, list_numbers, list_some, wrap, write_command

DONE, PARTLY, UNUSABLE = 0, 1, 2
WIDTH, LONGEST_NAME = 80, 30
"""Characters of a line, and of the first column of a table."""
NEW_IMAGES = "new_images"
"""Name of a folder in commands that are suggested."""
NOTHING, UNLIKE, LOW = "nothing was found", "unlike the training", "low expected Dice"
"""Reasons to review a segmentation."""
REVIEWED = {
    NOTHING: "in which nothing was found",
    UNLIKE: "unlike the images of the training",
    LOW: "with a lower expected Dice than nine in ten validation cases",
}
"""The same in a sentence."""
WORST = 5
"""Number of cases that are named as the worst."""
LONGEST_REPR = 100
"""Largest number of characters of a result where Python shows it."""


class Result(ABC):
    """Base of all results: an exit code, a dictionary, a text, and in notebooks a table or pictures."""

    @property
    def exit_code(self) -> int:
        """0: done; 1: some cases failed; 2: the input cannot be used."""
        return DONE

    def to_dict(self) -> dict[str, Any]:
        """Return the fields in terms of JSON; numbers that are not finite become None."""
        values: dict[str, Any] = json.loads(to_json(self, inf_nan_mode="null"))
        return values

    @abstractmethod
    def to_text(self) -> str:
        """Describe the result, as the command line prints it."""

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        first = self.to_text().partition("\n")[0].strip().rstrip(":")
        return f"<{type(self).__name__}: {first if len(first) <= LONGEST_REPR else first[: LONGEST_REPR - 3] + '...'}>"

    def _repr_html_(self) -> str:
        html: str = _find_above("report.notebook", "to_html")(self)
        return html


@dataclass(frozen=True, repr=False)
class Checked(Result):
    """A data set, and every problem with it."""

    data: Path
    layout: str
    """Name of the layout; empty where none was recognized."""
    cases: int
    dims: int | None
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    labels: str = ""
    """What the values of the labels mean, and why."""
    settings: tuple[str, ...] = ()
    """Settings with which it was read, as `section.key=value`."""

    @property
    def exit_code(self) -> int:
        return UNUSABLE if self.problems else DONE

    def to_text(self) -> str:
        dims = f", {self.dims}D" if self.dims else ""
        lines = [f"{self.data}: {count_noun(self.cases, 'case')}{dims}, layout {self.layout}"] if self.layout else []
        lines += [f"channels: {', '.join(self.channels)}; classes: {', '.join(self.classes)}"] if self.classes else []
        lines += [f"labels: {self.labels}"] if self.labels and self.cases else []
        lines += shorten_lines([f"note: {note}" for note in self.notes])
        problems = enumerate(merge_problems(self.problems), start=1)
        lines += shorten_lines([f"{number}. {problem}" for number, problem in problems])
        found = f"{count_noun(len(self.problems), 'problem')} to fix."
        settings = ["--set", *self.settings] if self.settings else []
        next_step = f"Next: {write_command('train', self.data, '--minutes', 20, *settings)}"
        return "\n".join([*lines, *([found] if self.problems else ["No problems.", next_step])])


@dataclass(frozen=True, repr=False)
class Planned(Result):
    """A plan, and the time and memory that training takes."""

    data: Path
    run: Path
    plan: Plan
    parameters: int
    train_memory_mb: float
    """Estimated memory of a training step, in MB."""
    train_minutes: float | None
    """Minutes of all folds: given, or measured by a dry run; None: unknown."""
    folds: int
    training_cases: int
    validation_cases: int
    written: bool
    """False after a dry run."""

    def to_text(self) -> str:
        lines = [self.summarize()]
        if not self.written:
            return "\n".join([*lines, "Dry run: nothing was written."])
        lines += [f"Written:  {self.run / 'plan.json'}: every choice with its reason; you may edit it."]
        return "\n".join([*lines, f"Next: {write_command('train', self.data, '--out', self.run)}"])

    def summarize(self, started: datetime | None = None) -> str:
        """Describe in four lines what is trained.

        Args:
            started: when the training started; None: it has not.
        """
        model, train, data = self.plan.model, self.plan.train, self.plan.data
        element = "image" if data.dims == 2 else "volume"
        channels = f" with {len(data.channels)} channels" if len(data.channels) > 1 else ""
        patch = " x ".join(map(str, train.patch))
        return "\n".join(
            [
                f"Data:     {count_noun(self.training_cases, element)}{channels} to train on, "
                f"{self.validation_cases} to validate; {list_some(data.classes, 4)}",
                f"Network:  {model.topology} of depth {model.depth}, {self.parameters:,} parameters; "
                f"patches of {patch}; {self.train_memory_mb:,.0f} MB",
                f"Training: {self._describe_length()}, then every depth is scored and timed",
                f"Ends:     {self._describe_end(started)}; results in {self.run}",
            ]
        )

    def _describe_length(self) -> str:
        train = self.plan.train
        steps = train.epochs * train.steps_per_epoch
        length = count_noun(train.minutes, "minute") if train.minutes else count_noun(steps, "step")
        return f"{self.folds} folds of {length}" if self.folds > 1 else length

    def _describe_end(self, started: datetime | None) -> str:
        if self.train_minutes is None:
            return "the progress display tells when"
        if started is None:
            length = count_noun(float(f"{self.train_minutes:.2g}"), "minute")
            return f"about {length}{'' if self.plan.train.minutes else ' of steps on this machine'} after the start"
        end = started + timedelta(minutes=self.train_minutes)
        return f"about {end:%H:%M}" + f" on {end:%A %d %B}" * (end.date() != started.date())


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

    def report(self) -> Reported:
        """Write the report again and open it: in the browser, or in the notebook."""
        reported: Reported = _find_above("verbs.report", "report")(self.run)
        reported.open()
        return reported

    def to_text(self) -> str:
        lines = [self._describe_fold(fold) for fold in self.folds]
        scores = self.pooled or self.folds[0].metrics
        if self.pooled:
            lines.append(f"all {len(self.folds)} folds, {count_noun(len(scores.cases), 'validation case')}:")
        lines.append(describe_depths(scores))
        lines += describe_worst(scores)
        if unfinished := list(dict.fromkeys(text for fold in self.folds for text in fold.metrics.unfinished)):
            lines.append(f"the time was over: {'; '.join(unfinished)}")
            lines.append(f"Measure the rest: {write_command('report', self.run)}")
        lines += [f"Report: {self.page}"] if self.page else []
        lines += [wrap(str(self.verdict), WIDTH)] if self.verdict else []
        depth = ["--depth", scores.recommended.depth] if scores.recommended else []
        predict = write_command("predict", self.run, NEW_IMAGES, "--out", "predictions", *depth)
        return "\n".join(
            [*lines, *([f"Next: {self.command}", f"or: {predict}"] if self.command else [f"Next: {predict}"])]
        )

    def _describe_fold(self, fold: TrainedFold) -> str:
        """Describe the length of a training, and of one of several its Dice."""
        length = f"{count_noun(fold.steps, 'step')} in {fold.seconds / 60:.1f} minutes ({fold.reason})"
        dice = fold.metrics.mean.dice
        scored = f", Dice {dice:.4f}" if dice is not None and len(self.folds) > 1 else ""
        scored += "; no scores, as every case was trained on: folds 0, 1, ... have them" if fold.fold == "none" else ""
        return f"fold {fold.fold}: {length}, {fold.data_wait:.1%} of the time waiting for data{scored}"


@dataclass(frozen=True, repr=False)
class Predicted(Result):
    """Files that were written, and inputs that could not be predicted."""

    out: Path
    depths: tuple[int | str, ...]
    files: tuple[Path, ...]
    """Segmentations that were written; after a dry run, the images that would be predicted."""
    failed: tuple[Problem, ...]
    seconds: float
    written: bool = True
    """False after a dry run."""
    doubtful: Mapping[Path, str] = field(default_factory=dict)
    """Those of `files` to review, and why."""
    notes: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    """How images differ from those of the training, so that no Dice is expected of them: a line for each way."""
    expected_dice: Mapping[Path, float] = field(default_factory=dict)
    """Dice that is to be expected of those of `files` of which it is known, by the calibration on validation cases."""
    expected_dice_error: Mapping[Path, float] = field(default_factory=dict)
    """Mean absolute error of that on the validation cases."""
    depth_shares: Mapping[int, float] = field(default_factory=dict)
    """With `depth="auto"`: fraction of the tiles that stopped at each depth."""

    @property
    def exit_code(self) -> int:
        return PARTLY if self.failed else DONE

    def to_text(self) -> str:
        count, depths = len(self.files), ", ".join(map(str, self.depths))
        if not self.written:
            title = f"Dry run: {count_noun(count, 'image')} would be predicted into {self.out} at depth {depths}:"
            return "\n".join([title, *shorten_lines([f"  {path}" for path in self.files]), *self._describe_rest()])
        images = len(self._group_by_name(self.files))
        of_depths = f" at {len(self.depths)} depths" if len(self.depths) > 1 else ""
        lines = [f"{count_noun(images, 'image')} segmented{of_depths}, in {self.out}, in {self.seconds:.1f} s"]
        if self.depth_shares:
            shares = (f"{share:.0%} at {depth}" for depth, share in self.depth_shares.items())
            lines.append(f"depth of the tiles: {', '.join(shares)}")
        lines += self._describe_expected()
        for reason in dict.fromkeys(self.doubtful.values()):
            names = self._group_by_name([path for path, why in self.doubtful.items() if why == reason])
            lines += [f"{len(names)} to review, {REVIEWED.get(reason, reason)}:", f"  {list_some(names)}"]
        if self.outside:
            lines += ["unlike the training, so that no Dice is expected:", *(f"  {way}" for way in self.outside[:10])]
            rest = len(self.outside) - 10
            lines += [f"  and {count_noun(rest, 'line')} more in predictions.json"] if rest > 0 else []
        return "\n".join([*lines, *self._describe_rest()])

    def _describe_expected(self) -> list[str]:
        """Describe the expected Dice at each depth, with its error."""
        depths: dict[str, list[Path]] = {}
        for path in self.expected_dice:
            depths.setdefault(self._place(path)[0], []).append(path)
        lines = []
        for depth, paths in depths.items():
            dice = [self.expected_dice[path] for path in paths]
            error = self.expected_dice_error.get(paths[0])
            text = f"expected Dice{f' at {depth}' if depth else ''}: {sum(dice) / len(dice):.3f} on average"
            text += f", {min(dice):.3f} to {max(dice):.3f}" if len(dice) > 1 else ""
            lines.append(text + (f", off by {error:.3f} on average" if error is not None else ""))
        return lines

    def _group_by_name(self, paths: Sequence[Path]) -> list[str]:
        """Name each file once, with its depths where there are several."""
        depths: dict[str, list[str]] = {}
        for depth, name in map(self._place, paths):
            depths.setdefault(name, []).append(depth.removeprefix("depth "))
        return [name + (f" (depth {', '.join(each)})" if each != [""] else "") for name, each in depths.items()]

    def _place(self, path: Path) -> tuple[str, str]:
        """Return the depth, if there are several, and the name of a file."""
        parts = path.relative_to(self.out).parts if path.is_relative_to(self.out) else (path.name,)
        if len(self.depths) > 1 and len(parts) > 1:
            return parts[0].replace("_", " "), "/".join(parts[1:])
        return "", "/".join(parts)

    def _describe_rest(self) -> list[str]:
        """Describe what was left out."""
        skipped = [f"{len(self.failed)} skipped:", *(f"  {problem}" for problem in list_problems(self.failed))]
        return [*shorten_lines([f"note: {note}" for note in self.notes]), *(skipped if self.failed else [])]


@dataclass(frozen=True, repr=False)
class Evaluated(Result):
    """Scores of segmentations against references."""

    metrics: Metrics
    problems: tuple[Problem, ...]
    out: Path | None
    notes: tuple[str, ...] = ()
    """What was found about the meaning of the values."""
    csv: Path | None = None

    @property
    def exit_code(self) -> int:
        return PARTLY if self.problems else DONE

    def to_dict(self) -> dict[str, Any]:
        """Return the keys of metrics.json, with `problems`, `out` and `csv`."""
        values = super().to_dict()
        metrics: dict[str, Any] = values.pop("metrics")
        return metrics | values

    def to_text(self) -> str:
        lines = [count_noun(len(self.metrics.cases), "case"), describe_scores(self.metrics)]
        lines += describe_worst(self.metrics)
        lines += [f"note: {note}" for note in self.notes]
        if self.problems:
            lines += [
                f"{count_noun(len(self.problems), 'problem')}:",
                *(f"  {each}" for each in list_problems(self.problems)),
            ]
        written = [str(path) for path in (self.out, self.csv) if path]
        return "\n".join([*lines, f"Written to {' and '.join(written)}"] if written else lines)


@dataclass(frozen=True, repr=False)
class Reported(Result):
    """The report of a run."""

    report: Path
    left_out: tuple[str, ...] = ()
    """What the report leaves out, because it cannot be read."""
    notes: tuple[str, ...] = ()

    def open(self) -> None:
        """Open the page: in the browser, or in the notebook."""
        _find_above("report.notebook", "open_page")(self.report)

    def to_text(self) -> str:
        return "\n".join(
            [
                *(f"note: {text}" for text in self.notes),
                *(f"note: {text} cannot be read; the report leaves it out" for text in self.left_out),
                f"Report: {self.report}",
            ]
        )


@dataclass(frozen=True, repr=False)
class Pruned(Result):
    """A smaller model file."""

    out: Path
    depth: int
    parameters: int
    parameters_before: int
    reason: str
    """Why this depth."""
    difference: float
    """Largest difference between its logits and those of the full (or the fine-tuned) network, on random input."""
    finetuning: str | None = None
    """Outcome of fine-tuning, in words."""
    is_whole: bool = False
    """Whether the depth is that of the whole network, so that nothing could go."""

    def to_text(self) -> str:
        share = f"{self.parameters / self.parameters_before:.0%} of {self.parameters_before:,}"
        title = f"{self.out}: {self.parameters:,} parameters, {share}; its output agrees with that of the full network."
        if self.is_whole:
            title = f"Nothing could be pruned: {self.out} holds the whole network, {self.parameters:,} parameters."
        lines = [title, f"Depth {self.depth}: {self.reason}."]
        lines += [f"{self.finetuning[:1].upper()}{self.finetuning[1:]}."] if self.finetuning else []
        return "\n".join(lines)


@dataclass(frozen=True, repr=False)
class Adapted(Result):
    """Rules for `depth="auto"`, now in the model file."""

    model: Path
    rules: tuple[Rule, ...]
    """The most careful first."""

    def to_text(self) -> str:
        if len(self.rules) == 1:
            return (
                f"{self.model}: early exit saves no time here: --depth auto would take the deepest head for every tile."
            )
        depths = list(self.rules[0].tiles)
        rows = [["stops below", "Dice lost", "at most", "time", *(f"tiles at {depth}" for depth in depths)]]
        for rule in self.rules:
            at_most = f"{rule.dice_lost_interval[1]:.4f}" if rule.dice_lost_interval else "-"
            tiles = [f"{rule.tiles[depth] / sum(rule.tiles.values()):.0%}" for depth in depths]
            limits = ", ".join(map(_describe_limit, rule.doubts))
            rows.append([limits, f"{rule.dice_lost:.4f}", at_most, f"{rule.time:.0%}", *tiles])
        return "\n".join(
            [
                f"{self.model}: {count_noun(len(self.rules), 'rule')} for early exit, fitted on the validation cases",
                table(rows),
                "  stops below: uncertainty below which a tile exits at each depth",
                "  Dice lost: against the deepest head; at most: upper end of its 95 % interval",
                f"Next: {write_command('predict', self.model, NEW_IMAGES, '--out', 'predictions', '--depth', 'auto')}",
                "  (and --max-drop 0.3: the points, hundredths of Dice, that may be lost)",
            ]
        )


@dataclass(frozen=True, repr=False)
class Exported(Result):
    """A file for another runtime."""

    out: Path
    card: Path
    """The model card."""
    depths: tuple[int, ...]
    folds: tuple[int, ...]
    """Folds whose probabilities are averaged in the file, if there are several."""
    int8: bool
    comparison: str
    """Comparison with the network, in words."""
    file_mb: float

    def to_text(self) -> str:
        title = f"{self.out}: {list_numbers('depth', self.depths)}"
        title += f", the mean of {list_numbers('fold', self.folds)}" if self.folds else ""
        title += f"{', 8-bit integers' if self.int8 else ''}, {self.file_mb:.1f} MB."
        return f"{title}\n{self.comparison}\nModel card: {self.card}"


@dataclass(frozen=True, repr=False)
class Imported(Result):
    """A model file converted from another library's checkpoint."""

    out: Path
    source: str
    """Name of the network in the other library."""
    plan: Plan
    parameters: int
    tensors: int
    """Number of tensors of the checkpoint that are used."""
    ignored: dict[str, str]
    """Tensor of the checkpoint that is not used -> why."""
    assumed: dict[str, str]
    """Field of the plan that the checkpoint does not determine -> why it has its value."""

    def to_text(self) -> str:
        model = self.plan.model
        lines = [
            f"{self.out}: {self.source}",
            f"network: {model.topology} of depth {model.depth}, {model.dims}D, {self.parameters:,} parameters",
            f"{self.tensors} tensors of the checkpoint are used, {len(self.ignored)} are not"
            + (":" if self.ignored else "."),
        ]
        for reason in dict.fromkeys(self.ignored.values()):
            lines.append(f"  {list_some(name for name, why in self.ignored.items() if why == reason)}   ({reason})")
        lines += ["The checkpoint does not tell these; change what differs with --set:"] if self.assumed else []
        lines += [f"  {key} = {value}   ({reason})" for key, value, reason in list_choices(self.plan, self.assumed)]
        return "\n".join([*lines, f"Next: {write_command('predict', self.out, NEW_IMAGES, '--out', 'predictions')}"])


@dataclass(frozen=True, repr=False)
class ModelInfo(Result):
    """Description of a model."""

    model: Path
    files: tuple[Path, ...]
    """One file for each fold."""
    plan: Plan
    parameters: int
    file_mb: float
    notes: Notes
    """Notes of the model file: scores and costs of every depth, of several folds over all their validation cases."""
    command: str = ""
    """What to run next, by the verdict."""
    cache_mb: float = 0.0
    """Size of the prepared cases in the run folder."""

    def to_text(self) -> str:
        data, model = self.plan.data, self.plan.model
        folds = f", {len(self.files)} folds" if len(self.files) > 1 else ""
        size = f"{self.parameters:,} parameters, {self.file_mb:.1f} MB{folds}"
        lines = [
            str(self.model),
            f"network:    {model.topology} of depth {model.depth}, {data.dims}D, {size}",
            f"            widths {list(model.widths)}, {model.norm} norm, {model.block} blocks",
            f"trained on: {self.plan.name}",
            *([f"started from: {self.plan.train.start}"] if self.plan.train.start else []),
            *_describe_data(data, self.plan.predict),
        ]
        if self.cache_mb:
            clean = write_command("clean", self.model)
            lines.append(f"cache:      {self.cache_mb:,.1f} MB of prepared cases (`{clean}` removes them)")
        if self.notes.depths:
            lines += ["over the validation cases of all folds:"] if len(self.files) > 1 else []
            lines += [describe_depths(self.notes)]
        lines += [wrap(str(self.notes.verdict), WIDTH)] if self.notes.verdict else []
        return "\n".join([*lines, f"Next: {self.command}"] if self.command else lines)


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

    def to_text(self) -> str:
        verb = "removed" if self.written else "would be removed"
        return "\n".join(
            f"{each.run}: {count_noun(each.files, 'file')}, {each.mb:,.1f} MB, {verb}" for each in self.runs
        )


@dataclass(frozen=True, repr=False)
class ExportInfo(Result):
    """Description of an exported file."""

    model: Path
    runtime: str
    """What runs it: onnxruntime, openvino or torch."""
    data: DataPlan
    predict: PredictPlan
    """Tile, overlap, and the depth of a prediction for which none is given."""
    notes: ExportNotes
    """Depths in the file, with their scores before the export."""
    file_mb: float
    card: Path | None
    """The model card beside the file."""

    def to_text(self) -> str:
        notes, depths = self.notes, tuple(self.notes.depths)
        size = f"{notes.parameters:,} parameters, " if notes.parameters else ""
        folds = f", the mean of {list_numbers('fold', notes.folds)}" if notes.folds else ""
        precision = ", 8-bit integers" if notes.int8 else ""
        default = f" (without --depth: {self.predict.depth})" if len(depths) > 1 else ""
        lines = [
            str(self.model),
            f"exported:   {list_numbers('depth', depths)}{default}, {self.data.dims}D{folds}{precision}",
            f"            {size}{self.file_mb:.1f} MB, run by {self.runtime}",
            f"trained on: {notes.name}",
            *_describe_data(self.data, self.predict),
        ]
        lines += [f"model card: {self.card}"] if self.card else []
        scored = any(row.dice is not None for row in notes.depths.values())
        return "\n".join([*lines, describe_depths(notes)] if scored else lines)


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
            ("predict", run, self.data / "images", "--out", run / "predictions_all", "--depth", "all"),
            ("prune", run, "--out", run / "small.safetensors", "--max-drop", 1),
            ("train", "my_data", "--minutes", 20),
        )
        return "\n".join(
            [
                *self.trained.to_text().splitlines()[:-1],
                f"Predictions: {self.predictions}",
                "",
                "What you can do next:",
                *(f"  {write_command(*words)}" for words in commands),
            ]
        )


def _find_above(module: str, name: str) -> Callable[..., Any]:
    """Find a function of a layer above by its name: results are shown by what is built on them."""
    function: Callable[..., Any] = getattr(importlib.import_module(f"unetpp.{module}"), name)
    return function


def _describe_data(data: DataPlan, predict: PredictPlan) -> list[str]:
    """Describe the images and classes of a model, one property a line."""
    classes = (f"{value} = {name}" for value, name in zip(data.label_values, data.classes, strict=True))
    spacing = " x ".join(f"{mm:g}" for mm in data.spacing_mm) + " mm" if data.spacing_mm else "as in each file"
    return [
        f"channels:   {', '.join(data.channels)}",
        f"classes:    {', '.join(classes)}",
        f"spacing:    {spacing}; tile {list(predict.tile)}; axes {data.orientation or 'as in each file'}",
    ]


def describe_plan(plan: Plan) -> str:
    """List the values of a plan that have a reason, one a line."""
    lines = [f"  {key} = {value}   ({reason})" for key, value, reason in list_choices(plan, plan.reasons)]
    return "\n".join([f"Plan for {plan.name}:", *lines])


def list_choices(plan: Plan, reasons: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """List settings that have a reason: dotted name, value as text, reason."""
    values = plan.model_dump(mode="json")
    return [(key, format_value(find_value(values, key)), reason) for key, reason in reasons.items()]


def describe_scores(metrics: Metrics) -> str:
    """Make a table of mean, pooled and class scores."""
    rows = [("mean", metrics.mean), ("pooled", metrics.pooled), *metrics.classes.items()]  # a class may be named so too
    return _fit_table("", Scores, rows, metrics.distance_unit)


def describe_depths(found: DepthTable) -> str:
    """Make the depth table: quality and cost of every depth that was measured, and of the mean of all heads."""
    lines = [_fit_table("depth", DepthRow, list(found.rows.items()), found.distance_unit)]
    lines += [f"  costs: {found.conditions}"] if found.conditions else []
    recommended = found.recommended
    return "\n".join(
        [*lines, f"  recommended: depth {recommended.depth} ({recommended.reason})"] if recommended else lines
    )


def describe_worst(metrics: Metrics) -> list[str]:
    """List the cases with the lowest Dice, and of several classes the worst of each."""
    scored = sorted((case.mean.dice, case.id, case) for case in metrics.cases if case.mean.dice is not None)
    if len(scored) < 2:
        return []
    rows = [["worst cases", "Dice", *(["worst class"] if len(metrics.classes) > 1 else [])]]
    for dice, name, case in scored[:WORST]:
        classes = sorted((each.dice, key) for key, each in case.classes.items() if each.dice is not None)
        rows.append(
            [name, f"{dice:.4f}", *([f"{classes[0][1]} {classes[0][0]:.4f}"] if len(metrics.classes) > 1 else [])]
        )
    return [table(rows)]


def _fit_table(first: str, kind: type[Measured], rows: Sequence[tuple[str, Measured]], unit: str | None) -> str:
    """Make a table as wide as a terminal; what is left out where it is too wide is in the JSON and in the report."""
    text = table(tabulate(first, kind, rows, unit, brief=True))
    for spared in range(1 + max(column.spare for column in list_columns(kind).values())):
        if max(map(len, text.split("\n"))) <= WIDTH:
            break
        text = table(tabulate(first, kind, rows, unit, brief=True, spared=spared), tall=True)
    return text


def table(rows: Sequence[Sequence[str]], tall: bool = False) -> str:
    """Align columns, the first to the left, the others to the right.

    Args:
        rows: headings, then the texts of each row. A first text that is too long is shortened.
        tall: headings that are wider than their column take two lines.
    """
    headings, *body = [[_shorten(first, LONGEST_NAME), *others] for first, *others in rows]
    lines = [*(_split_headings(headings, body) if tall else [headings]), *body]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        ("  " + "  ".join([first.ljust(widths[0]), *map(str.rjust, others, widths[1:])])).rstrip()
        for first, *others in lines
    )


def _split_headings(headings: Sequence[str], body: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """Split headings that are wider than the texts below them into two lines."""
    widest = [max(map(len, column)) for column in zip(*body, strict=True)]
    halves = [
        text.rpartition(" ")[::2] if len(text) > width else ("", text)
        for text, width in zip(headings, widest, strict=True)
    ]
    return list(zip(*halves, strict=True))


def _shorten(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _describe_limit(uncertainty: float | None) -> str:
    """Describe a threshold; no tile is as uncertain as `deploy.adapt.ALWAYS`."""
    return "never" if uncertainty is None else "always" if uncertainty >= 100 else f"{uncertainty:.3g}"
