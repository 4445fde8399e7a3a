"""Results of a selection."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unetpp.results.result import Result, find_above
from unetpp.results.tables import NEW_IMAGES, WIDTH
from unetpp.selection import Candidate, Selection
from unetpp.words import count_noun, wrap, write_command

SHOWN = 8
"""Candidates that a terminal shows; select.json and the page have all."""


@dataclass(frozen=True, repr=False)
class Selected(Result):
    """What `select` chose among runs."""

    model: Path
    """The folder, which predicts."""
    page: Path | None
    selection: Selection
    classes: tuple[str, ...]
    """Names of the classes, background first."""

    def open(self) -> None:
        """Open the page: in the browser, or in the notebook."""
        find_above("report.notebook", "open_page")(self.page)

    def to_text(self) -> str:
        chosen = self.selection
        lines = [f"{self.model}: {chosen.describe_what()}", wrap(f"  {chosen.reason}", WIDTH)]
        lines += list_candidates(chosen)
        lines += describe_selection(chosen, self.classes)
        lines += [f"Page: {self.page}"] if self.page else []
        return "\n".join([*lines, f"Next: {write_command('predict', self.model, NEW_IMAGES, '--out', 'predictions')}"])


@dataclass(frozen=True, repr=False)
class SelectionInfo(Result):
    """Description of a folder that `select` wrote."""

    model: Path
    selection: Selection
    classes: tuple[str, ...]
    parameters: int
    """Number of parameters of all networks together."""
    file_mb: float

    def to_text(self) -> str:
        chosen = self.selection
        size = f"{self.parameters:,} parameters in {count_noun(len(self._files), 'network')}, {self.file_mb:.1f} MB"
        lines = [str(self.model), f"selected:   {chosen.describe_what()}", f"            {size}"]
        lines += [f"trained on: {chosen.name}", f"classes:    {', '.join(self.classes)}"]
        return "\n".join([*lines, *describe_selection(chosen, self.classes), *list_candidates(chosen)])

    @property
    def _files(self) -> list[str]:
        return [file for member in self.selection.members for file in member.files]


def describe_selection(selection: Selection, classes: tuple[str, ...]) -> list[str]:
    """Say in lines what is done beside averaging, what it scores, and what was left open."""
    dice, interval = selection.scores.dice, selection.scores.dice_interval
    lines = [f"  also: {text}" for text in selection.describe_extras(classes)]
    if dice is not None:
        about = f" (95 %: {interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
        lines.append(f"validation Dice of the whole: {dice:.4f}{about}, {count_noun(len(selection.cases), 'case')}")
    return lines + [wrap(f"note: {text}", WIDTH) for text in selection.notes]


def list_candidates(selection: Selection) -> list[str]:
    """List the best candidates, and the one that was chosen, one a line."""
    ranked = list(enumerate(selection.candidates))
    shown = [each for place, each in ranked if place < SHOWN or each.chosen]
    lines = [f"  {_describe(each)}" for each in shown]
    rest = len(ranked) - len(shown)
    return lines + ([f"  and {count_noun(rest, 'candidate')} more"] if rest else [])


def _describe(candidate: Candidate) -> str:
    dice = "-" if candidate.dice is None else f"{candidate.dice:.4f}"
    lost = ""
    if candidate.lost_interval and not candidate.best:
        low, high = candidate.lost_interval
        lost = f", {100 * low:.2f} to {100 * high:.2f} points lost"
    time = "" if candidate.ms is None else f", {candidate.ms:,.1f} ms an image"
    mark = "*" if candidate.chosen else " "
    return f"{mark} {dice}  {candidate.name}{time}{lost}"
