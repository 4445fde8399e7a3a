"""What the verbs return: typed, with a dictionary for programs and a text for people. Imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from unetpp.errors import Problem
from unetpp.measured import DepthRow, DepthTable, Measured, Metrics, Notes, Rule, Scores, tabulate
from unetpp.plan import Plan

DONE, PARTLY, UNUSABLE = 0, 1, 2


@dataclass(frozen=True)
class _Outcome:
    """What all results have in common: an exit code and a dictionary."""

    @property
    def exit_code(self) -> int:
        """0 done; 1 some cases failed; 2 the input cannot be used."""
        return DONE

    def to_dict(self) -> dict[str, Any]:
        return {field.name: jsonable(getattr(self, field.name)) for field in fields(self)}


@dataclass(frozen=True)
class Checked(_Outcome):
    """A data set and all that is wrong with it."""

    data: Path
    layout: str
    cases: int
    dims: int | None
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        return UNUSABLE if self.problems else DONE

    def to_text(self) -> str:
        lines = (
            [f"{self.data}: {self.cases} cases" + (f", {self.dims}D" if self.dims else "") + f", layout {self.layout}"]
            if self.layout
            else []
        )
        lines += [f"channels: {', '.join(self.channels)}; classes: {', '.join(self.classes)}"] if self.classes else []
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"{number}. {problem}" for number, problem in enumerate(self.problems, start=1)]
        count = len(self.problems)
        lines.append(
            f"{count} problem{'s' * (count != 1)} to mend."
            if count
            else f"No problems. Next: unetpp train {self.data} --out RUN --minutes 20"
        )
        return "\n".join(lines)


@dataclass(frozen=True)
class Planned(_Outcome):
    """A plan, and what it will take."""

    run: Path
    plan: Plan
    parameters: int
    train_memory_mb: float
    """Estimated memory of a training step."""
    train_minutes: float | None
    """Of all folds: given, or measured for a dry run; None: not known."""
    folds: int
    training_cases: int
    validation_cases: int
    written: bool
    """False after a dry run."""

    def to_text(self) -> str:
        return "\n".join([describe_plan(self.plan), self._costs(), self._next()])

    def _costs(self) -> str:
        train = self.plan.train
        length = (
            f"{train.minutes:g} minutes" if train.minutes else f"{train.epochs} epochs of {train.steps_per_epoch} steps"
        )
        length += f" for each of {self.folds} folds" if self.folds > 1 else ""
        length += (
            f", about {self.train_minutes:.1f} minutes of steps on this machine"
            if self.train_minutes and not train.minutes
            else ""
        )
        cases = f"{self.training_cases} cases to train, {self.validation_cases} to validate"
        return f"{cases}; {self.parameters:,} parameters; about {self.train_memory_mb:,.0f} MB of memory in training; {length}."

    def _next(self) -> str:
        if not self.written:
            return "Dry run: nothing was written."
        return f"Written to {self.run / 'plan.json'}; edit it if you like. Next: unetpp train DATA --out {self.run}"


@dataclass(frozen=True)
class TrainedFold:
    """One fold of a run, measured on its validation cases."""

    fold: int
    reason: str
    """Why training ended: finished or patience."""
    steps: int
    seconds: float
    data_wait: float
    """Share of the time in which the network waited for data."""
    metrics: Metrics


@dataclass(frozen=True)
class Run(_Outcome):
    """A trained run."""

    run: Path
    folds: tuple[TrainedFold, ...]
    report: Path | None
    seconds: float

    def to_text(self) -> str:
        lines = []
        for fold in self.folds:
            lines.append(
                f"fold {fold.fold}: {fold.steps} steps in {fold.seconds / 60:.1f} minutes ({fold.reason}), waiting for data {fold.data_wait:.1%} of the time"
            )
            lines.append(describe_depths(fold.metrics))
        lines += [f"Report: {self.report}"] if self.report else []
        recommended = self.folds[0].metrics.recommended if len(self.folds) == 1 else None
        lines.append(
            f"Next: unetpp predict {self.run} IMAGES --out DIR"
            + (f"   (add --depth {recommended.depth} for the recommended one)" if recommended else "")
        )
        return "\n".join(lines)


@dataclass(frozen=True)
class Predicted(_Outcome):
    """Files that were written, and those that could not be."""

    out: Path
    depths: tuple[int | str, ...]
    files: tuple[Path, ...]
    """Segmentations that were written; after a dry run, the images that would be predicted."""
    failed: tuple[Problem, ...]
    seconds: float
    written: bool = True
    """False after a dry run."""
    doubtful: tuple[Path, ...] = ()
    """Of `files`, those that should be looked at: nothing was found, or the Dice to be expected is below that of nine in ten validation cases."""
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        return PARTLY if self.failed else DONE

    def to_text(self) -> str:
        if not self.written:
            title = f"Dry run: {len(self.files)} images would be predicted into {self.out} at depth {', '.join(map(str, self.depths))}:"
            return "\n".join([title, *(f"  {path}" for path in self.files)])
        lines = [f"{len(self.files)} files written to {self.out} in {self.seconds:.1f} s"]
        lines += [
            f"{len(self.doubtful)} to look at (nothing found, or a lower Dice to be expected than of nine in ten validation cases): {_some([path.name for path in self.doubtful])}"
        ] * bool(self.doubtful)
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"{len(self.failed)} skipped:", *(f"  {problem}" for problem in self.failed)] if self.failed else []
        return "\n".join(lines)


@dataclass(frozen=True)
class Evaluated(_Outcome):
    """Scores of predictions against references."""

    metrics: Metrics
    problems: tuple[Problem, ...]
    out: Path | None

    @property
    def exit_code(self) -> int:
        return PARTLY if self.problems else DONE

    def to_dict(self) -> dict[str, Any]:
        return self.metrics.to_dict() | {"problems": jsonable(self.problems), "out": jsonable(self.out)}

    def to_text(self) -> str:
        lines = [f"{len(self.metrics.cases)} cases", describe_scores(self.metrics)]
        lines += (
            [f"{len(self.problems)} cases could not be scored:", *(f"  {problem}" for problem in self.problems)]
            if self.problems
            else []
        )
        lines += [f"Written to {self.out}"] if self.out else []
        return "\n".join(lines)


@dataclass(frozen=True)
class Reported(_Outcome):
    """The report of a run."""

    report: Path

    def to_text(self) -> str:
        return f"Report: {self.report}"


@dataclass(frozen=True)
class Pruned(_Outcome):
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
    """What came of it, in words."""

    def to_text(self) -> str:
        share = self.parameters / self.parameters_before
        text = f"{self.out}: depth {self.depth} ({self.reason}), {self.parameters:,} parameters, {share:.0%} of {self.parameters_before:,}; its output was compared and agrees."
        return text + (f"\n{self.finetuning[0].upper()}{self.finetuning[1:]}." if self.finetuning else "")


@dataclass(frozen=True)
class Adapted(_Outcome):
    """Rules for `predict --depth auto`, now in the model file."""

    model: Path
    rules: tuple[Rule, ...]
    """The most careful first."""

    def to_text(self) -> str:
        depths = list(self.rules[0].tiles)
        rows = [["stops at doubts of", "Dice lost", "at most", "time", *(f"tiles at {depth}" for depth in depths)]]
        for rule in self.rules:
            at_most = f"{rule.dice_lost_interval[1]:.4f}" if rule.dice_lost_interval else "-"
            tiles = [f"{rule.tiles[depth] / sum(rule.tiles.values()):.0%}" for depth in depths]
            limits = ", ".join(map(_limit, rule.doubts))
            rows.append([limits, f"{rule.dice_lost:.4f}", at_most, f"{rule.time:.0%}", *tiles])
        lines = [
            f"{self.model}: {len(self.rules)} rules, against the deepest head on the validation cases (at most: the upper end of the 95 % interval):",
            table(rows),
        ]
        lines.append(
            f"Next: unetpp predict {self.model} IMAGES --out DIR --depth auto --max-drop POINTS   (a point is 0.01 of Dice)"
        )
        return "\n".join(lines)


@dataclass(frozen=True)
class Exported(_Outcome):
    """A file for other runtimes."""

    out: Path
    card: Path
    """The model card."""
    depth: int
    int8: bool
    comparison: str
    """With the network, in words."""
    file_mb: float

    def to_text(self) -> str:
        return f"{self.out}: depth {self.depth}{', 8-bit integers' if self.int8 else ''}, {self.file_mb:.1f} MB. {self.comparison}\nModel card: {self.card}"


@dataclass(frozen=True)
class Imported(_Outcome):
    """A model file made of another library's checkpoint, and what became of all that was in it."""

    out: Path
    source: str
    """The network it was."""
    plan: Plan
    parameters: int
    tensors: int
    """Of the checkpoint that are used."""
    ignored: dict[str, str]
    """Tensor of the checkpoint that is not used -> why."""
    assumed: dict[str, str]
    """Field of the plan that the checkpoint does not say -> why it has its value."""

    def to_text(self) -> str:
        values = self.plan.model_dump(mode="json")
        model = self.plan.model
        lines = [
            f"{self.out}: {self.source}, as {model.topology} of depth {model.depth}, {model.dims}D, {self.parameters:,} parameters"
        ]
        lines.append(
            f"{self.tensors} tensors of the checkpoint are used, {len(self.ignored)} are not"
            + (":" if self.ignored else ".")
        )
        for reason in dict.fromkeys(self.ignored.values()):
            lines.append(f"  {_some([name for name, why in self.ignored.items() if why == reason])}   ({reason})")
        lines += ["The checkpoint does not say these; change with --set what was otherwise:"] if self.assumed else []
        lines += [f"  {key} = {_short(_at(values, key))}   ({reason})" for key, reason in self.assumed.items()]
        lines.append(f"Next: unetpp predict {self.out} IMAGES --out DIR")
        return "\n".join(lines)


@dataclass(frozen=True)
class ModelInfo(_Outcome):
    """What a model is."""

    model: Path
    files: tuple[Path, ...]
    """One for each fold."""
    plan: Plan
    parameters: int
    file_mb: float
    notes: Notes
    """What was recorded when the file was written: scores at every depth."""

    def to_text(self) -> str:
        data, model = self.plan.data, self.plan.model
        folds = f", {len(self.files)} folds" if len(self.files) > 1 else ""
        lines = [
            f"{self.model}: {model.topology} of depth {model.depth}, {data.dims}D, {self.parameters:,} parameters, {self.file_mb:.1f} MB{folds}",
            f"trained on: {self.plan.name}",
            f"channels:   {', '.join(data.channels)}",
            f"classes:    {', '.join(f'{value} = {name}' for value, name in zip(data.label_values, data.classes, strict=True))}",
            f"spacing:    {' x '.join(f'{mm:g}' for mm in data.spacing_mm) + ' mm' if data.spacing_mm else 'as in each file'}",
            f"network:    widths {list(model.widths)}, {model.norm} norm, {model.block} blocks; tile {list(self.plan.predict.tile)}",
        ]
        lines += [describe_depths(self.notes)] if self.notes.depths else []
        return "\n".join(lines)


@dataclass(frozen=True)
class Demonstrated(_Outcome):
    """A run on generated data, and where its predictions are."""

    data: Path
    trained: Run
    predictions: Path

    def to_text(self) -> str:
        run = self.trained.run
        commands = [
            f"unetpp info {run}",
            f"unetpp predict {run} {self.data / 'images'} --out {run / 'predictions_all'} --depth all",
            f"unetpp prune {run} --out {run / 'small.safetensors'} --max-drop 1",
        ]
        return "\n".join(
            [
                *self.trained.to_text().splitlines()[:-1],
                f"Predictions: {self.predictions}",
                "",
                "What you can do next:",
                *(f"  {command}" for command in commands),
                "  unetpp train YOUR_DATA --out RUN --minutes 20",
            ]
        )


def describe_plan(plan: Plan) -> str:
    """Every choice that has a reason, one a line."""
    lines = [f"  {key} = {value}   ({reason})" for key, value, reason in list_choices(plan)]
    return "\n".join([f"Plan for {plan.name}:", *lines])


def list_choices(plan: Plan) -> list[tuple[str, str, str]]:
    """List the settings that have a reason: dotted name, value as text, reason."""
    values = plan.model_dump(mode="json")
    return [(key, _short(_at(values, key)), reason) for key, reason in plan.reasons.items()]


def describe_scores(metrics: Metrics) -> str:
    """Mean, pooled and class scores as a table."""
    lines = [
        ("mean", metrics.mean),
        ("pooled", metrics.pooled),
        *metrics.classes.items(),
    ]  # a class may be called so, too
    return table(tabulate("", Scores, lines, metrics.distance_unit, brief=True))


def describe_depths(found: DepthTable) -> str:
    """The depth table: quality beside cost, for every depth that was measured, and for the mean of all heads."""
    lines = [table(tabulate("depth", DepthRow, list(found.rows.items()), found.distance_unit, brief=True))]
    lines += [f"  costs: {found.conditions}"] if found.conditions else []
    recommended = found.recommended
    lines += [f"  recommended: depth {recommended.depth} ({recommended.reason})"] if recommended else []
    return "\n".join(lines)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned, the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  "
        + "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def jsonable(value: Any) -> Any:
    """The same in terms of JSON; numbers that are not finite become null."""
    if isinstance(value, Plan):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): jsonable(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(entry) for entry in value]
    if isinstance(value, (Problem, Measured, _Outcome)):
        return value.to_dict()
    if isinstance(value, TrainedFold):
        return {field.name: jsonable(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def _at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_short(entry)}" for key, entry in value.items() if entry is not None) + "}"
    if (
        isinstance(value, list)
        and len(value) > 1
        and isinstance(value[0], list | dict)
        and all(entry == value[0] for entry in value)
    ):
        return f"{len(value)} x {_short(value[0])}"
    if isinstance(value, list):
        return "[" + ", ".join(_short(entry) for entry in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _some(names: Sequence[str], shown: int = 3) -> str:
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def _limit(doubt: float | None) -> str:
    """A limit of doubt; no tile is as much in doubt as `deploy.adapt.ALWAYS`."""
    return "never" if doubt is None else "always" if doubt >= 100 else f"{doubt:.3g}"
