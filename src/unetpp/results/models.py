"""Results of what makes and describes models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetpp.dial import describe_size, noun_of
from unetpp.model_notes import MAX_DROP, ExportNotes, Notes, Rule, find_rule, has_unlearned
from unetpp.plan import DataPlan, Plan, PredictPlan
from unetpp.results.result import Result
from unetpp.results.tables import (
    NEW_IMAGES,
    WIDTH,
    describe_depths,
    describe_parameters,
    list_choices,
    suggest_prediction,
    table,
)
from unetpp.selection import Selection
from unetpp.size_names import find_noun
from unetpp.words import count_noun, format_size, list_numbers, list_some, wrap, write_command


@dataclass(frozen=True, repr=False)
class Pruned(Result):
    """A smaller model file."""

    out: Path
    depth: int
    """Depth of the smaller network."""
    parameters: int
    parameters_before: int
    reason: str
    """Why this size."""
    difference: float
    """Largest difference between its logits and those of the full (or the fine-tuned) network, on random input."""
    finetuning: str | None = None
    """Outcome of fine-tuning, in words."""
    is_whole: bool = False
    """Whether this is the whole network, so that nothing could go."""
    size: str = ""
    """Name of the size that was kept: the depth, with shells also the width."""
    verdicts: tuple[str, ...] = ()
    """On the training, a line for each that is not good."""

    def to_text(self) -> str:
        size = self.size or self.depth
        noun = find_noun([size])
        share = f"{self.parameters / self.parameters_before:.0%} of {self.parameters_before:,}"
        title = f"{self.out}: {self.parameters:,} parameters, {share}"
        title += "." if self.finetuning else f"; its output is that of {noun} {size} in the full network."
        if self.is_whole:
            title = f"Nothing could be pruned: {self.out} holds the whole network, {self.parameters:,} parameters."
        lines = [title, f"{noun.capitalize()} {size}: {self.reason}."]
        lines += [f"{self.finetuning[:1].upper()}{self.finetuning[1:]}."] if self.finetuning else []
        lines += _write_notes(self.verdicts)
        return "\n".join([*lines, f"Next: {suggest_prediction(self.out)}"])


@dataclass(frozen=True, repr=False)
class Adapted(Result):
    """Rules of early exit (`size="auto"`), now in the model file."""

    model: Path
    rules: tuple[Rule, ...]
    """The most careful first."""
    sizes: Mapping[int, int | str]
    """Depth, with shells the number of a size -> its name."""
    given: Path | None = None
    """What the user named: the run folder, or the model file."""
    verdicts: tuple[str, ...] = ()
    """On the training, a line for each that is not good."""
    fixed: int | None = None
    """Number of the size that is as good for every tile, or better; None: early exit saves time."""
    why: str = ""
    """Why it is as good."""

    def to_text(self) -> str:
        noun, exiting = find_noun(self.sizes.values()), sum(rule.exits for rule in self.rules)
        if exiting:
            title = f"{count_noun(exiting, 'rule')} for early exit, fitted on the validation cases"
            lines = [f"{self.model}: {title}", *self._describe_rules(noun)]
        else:
            lines = [f"{self.model}: early exit saves no time on the validation cases."]
        lines += _write_notes(self.verdicts)
        if self.fixed is not None:
            lines.append(f"A fixed {noun} is enough: {self.why}.")
        chosen = "auto" if self.fixed is None else self.sizes[self.fixed]
        images = (NEW_IMAGES, "--out", "predictions")
        lines.append(f"Next: {write_command('predict', self.given or self.model, *images, f'--{noun}', chosen)}")
        what = "the points, hundredths of Dice, that may be lost"
        return "\n".join([*lines, *([f"  (and --max-drop 0.3: {what})"] if self.fixed is None else [])])

    def _describe_rules(self, noun: str) -> list[str]:
        """Describe the rules in a table, with what its columns mean."""
        depths = list(self.rules[0].tiles)
        names = [str(self.sizes[depth]) for depth in depths]
        rows = [["limits", "Dice change", "at worst", "time", *(f"{noun} {name}" for name in names)]]
        for rule in self.rules:
            at_worst = f"{0 - rule.dice_lost_interval[1]:+.4f}" if rule.dice_lost_interval else "-"
            tiles = [f"{rule.tiles[depth] / sum(rule.tiles.values()):.0%}" for depth in depths]
            limits = ", ".join(map(_describe_limit, rule.doubts))
            rows.append([limits, f"{0 - rule.dice_lost:+.4f}", at_worst, f"{rule.time:.0%}", *tiles])
        return [
            table(rows, tall=True),
            f"  limits: a tile stops at {noun} {', '.join(names[:-1])} if its uncertainty is lower; -: never",
            f"  first row: {noun} {names[-1]} for every tile, with which the rules are compared",
            f"  Dice change: against {noun} {names[-1]} (below 0: worse); at worst: by the 95 % interval",
            f"  time: of that of {noun} {names[-1]}; {noun} {names[0]}, ...: share of the tiles that stop there",
        ]


@dataclass(frozen=True, repr=False)
class Exported(Result):
    """A file for another runtime."""

    out: Path
    card: Path
    """The model card."""
    depths: tuple[int | str, ...]
    """Depths, with shells names of sizes."""
    folds: tuple[int, ...]
    """Folds whose probabilities are averaged in the file, if there are several."""
    int8: bool
    comparison: str
    """Comparison with the network, in words."""
    file_mb: float
    verdicts: tuple[str, ...] = ()
    """On the training, a line for each that is not good."""
    choice: str = ""
    """Where no size was asked for: which one that is, and the command for the recommended one, if it is another."""

    def to_text(self) -> str:
        title = f"{self.out}: {list_numbers(find_noun(self.depths), self.depths)}"
        title += f", the mean of {list_numbers('fold', self.folds)}" if self.folds else ""
        title += f"{', 8-bit integers' if self.int8 else ''}, {format_size(self.file_mb)}."
        lines = [title, *([self.choice] if self.choice else []), self.comparison, f"Model card: {self.card}"]
        return "\n".join([*lines, *_write_notes(self.verdicts)])


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
        size = describe_parameters(self.parameters, model)
        lines = [
            f"{self.out}: {self.source}",
            f"network: {model.topology} of depth {model.depth}, {model.dims}D, {size}",
            f"{self.tensors} tensors of the checkpoint are used, {len(self.ignored)} are not"
            + (":" if self.ignored else "."),
        ]
        for reason in dict.fromkeys(self.ignored.values()):
            lines.append(f"  {list_some(name for name, why in self.ignored.items() if why == reason)}   ({reason})")
        lines += ["The checkpoint does not tell these; change what differs with --set:"] if self.assumed else []
        lines += [f"  {key} = {value}   ({reason})" for key, value, reason in list_choices(self.plan, self.assumed)]
        return "\n".join([*lines, f"Next: {suggest_prediction(self.out)}"])


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
    no_expected_dice: str = ""
    """Why no Dice is expected of predictions; empty if one is."""
    command: str = ""
    """What to run next, by the verdict."""
    cache_mb: float = 0.0
    """Size of the prepared cases in the run folder."""

    def to_dict(self) -> dict[str, Any]:
        """As that of all results, with the verdict at the top, as in `train`.

        Of a network that was trained elsewhere the training is null: it is not known.
        """
        values = super().to_dict()
        values |= {"verdict": values["notes"].get("verdict")}
        return values | {"plan": values["plan"] | {"train": None}} if self.notes.imported_from else values

    def to_text(self) -> str:
        data, model, origin = self.plan.data, self.plan.model, self.notes.imported_from
        folds = f", {list_numbers('fold', list(map(_name_fold, self.files)))}" if len(self.files) > 1 else ""
        size = f"{describe_parameters(self.parameters, model)}, {format_size(self.file_mb)}{folds}"
        shells = f" in shells {list(model.shell_channels)}" if len(model.shells) > 1 else ""
        lines = [
            str(self.model),
            f"network:    {model.topology} of depth {model.depth}, {data.dims}D, {size}",
            f"            widths {list(model.widths)}{shells}, {model.norm} norm, {model.block} blocks",
            f"trained on: {f'unknown ({origin})' if origin else self.plan.name}",
            *([f"started from: {self.plan.train.start}"] if self.plan.train.start else []),
            *_describe_data(data, self.plan.predict),
        ]
        if self.cache_mb:
            clean = write_command("clean", self.model)
            lines.append(f"cache:      {format_size(self.cache_mb)} of prepared cases (`{clean}` removes them)")
        if self.notes.depths:
            lines += ["over the validation cases of all folds:"] if len(self.files) > 1 else []
            lines += [describe_depths(self.notes)]
        if self.notes.auto and not has_unlearned([self.notes]):
            lines.append(wrap(f"early exit: {_describe_early_exit(self.notes)}", WIDTH))
        lines += [f"no expected Dice for predictions: {self.no_expected_dice}"] if self.no_expected_dice else []
        lines += [wrap(str(self.notes.verdict), WIDTH)] if self.notes.verdict else []
        return "\n".join([*lines, f"Next: {self.command}"] if self.command else lines)


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
    selection: Selection | None = None
    """What `select` chose, if that was exported."""

    def to_text(self) -> str:
        notes, sizes = self.notes, self.notes.sizes
        size = f"{notes.parameters:,} parameters, " if notes.parameters else ""
        folds = f", the mean of {list_numbers('fold', notes.folds)}" if notes.folds else ""
        precision = ", 8-bit integers" if notes.int8 else ""
        names = sizes.list_names()
        default = f" (without --{sizes.noun}: {sizes.name(self.predict.depth)})" if len(names) > 1 else ""
        lines = [
            str(self.model),
            f"exported:   {list_numbers(sizes.noun, names)}{default}, {self.data.dims}D{folds}{precision}",
            f"            {size}{format_size(self.file_mb)}, run by {self.runtime}",
            f"trained on: {f'unknown ({notes.imported_from})' if notes.imported_from else notes.name}",
            *_describe_data(self.data, self.predict),
        ]
        if chosen := self.selection:
            lines.append(f"selected:   {chosen.describe_what()}")
            lines += [f"  also: {text}" for text in chosen.describe_extras(self.data.classes)]
        lines += [f"model card: {self.card}"] if self.card else []
        lines += [describe_depths(notes)] if any(row.dice is not None for row in notes.depths.values()) else []
        lines += [f"no expected Dice for predictions: {notes.no_expected_dice}"] if notes.no_expected_dice else []
        return "\n".join([*lines, wrap(str(notes.verdict), WIDTH)] if notes.verdict else lines)


def _describe_early_exit(notes: Notes) -> str:
    """Describe the rules that `adapt` has fitted: what they take of the time, what they may lose, and the usual one."""
    exiting = [rule for rule in notes.auto if rule.exits]
    if not exiting:
        return "saves no time on the validation cases"
    times = dict.fromkeys(f"{rule.time:.0%}" for rule in sorted(exiting, key=lambda rule: -rule.time))
    points = sorted(rule.points_at_worst for rule in exiting)
    lost = list(dict.fromkeys(f"{abs(each) if points[-1] <= 0 else each:.2f}" for each in points))
    usual, of_one = find_rule(notes.auto), ""
    if usual and len(usual.taken) == 1:
        of_one = f"; where {MAX_DROP} points may be lost, {describe_size(notes, usual.taken[0])} for every tile"
    return (
        f'{count_noun(len(exiting), "rule")} (`{noun_of(notes)}="auto"`), {_write_range(list(times))} of the time, '
        f"at worst {_write_range(lost)} points of Dice {'gained' if points[-1] < 0 else 'lost'}{of_one}"
    )


def _write_range(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{texts[0]} to {texts[-1]}"


def _write_notes(verdicts: Sequence[str]) -> list[str]:
    return [f"note: {text}" for text in verdicts]


def _describe_data(data: DataPlan, predict: PredictPlan) -> list[str]:
    """Describe the images and classes of a model, one property a line."""
    spacing = " x ".join(f"{mm:g}" for mm in data.spacing_mm) + " mm" if data.spacing_mm else "as in each file"
    stages = {"low": "one, at low resolution", "cascade": "the second of two; the first is at low resolution"}
    return [
        f"channels:   {', '.join(data.channels)}",
        f"classes:    {data.describe_classes()}",
        f"spacing:    {spacing}; tile {list(predict.tile)}; axes {data.orientation or 'as in each file'}",
        *([f"stages:     {stages[data.resolution]}"] if data.resolution in stages else []),
    ]


def _name_fold(file: Path) -> str:
    return file.parent.name.removeprefix("fold_")


def _describe_limit(uncertainty: float | None) -> str:
    """Describe a threshold; no tile is as uncertain as `deploy.adapt.ALWAYS`."""
    return "-" if uncertainty is None else "all" if uncertainty >= 100 else f"{uncertainty:.3g}"
