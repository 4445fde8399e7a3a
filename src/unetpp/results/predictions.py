"""Results of predictions and of their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unetpp.errors import Problem, list_problems, shorten_lines
from unetpp.model_notes import Metrics
from unetpp.results.result import DONE, PARTLY, Result
from unetpp.results.tables import WIDTH, describe_scores, describe_worst
from unetpp.size_names import find_noun
from unetpp.words import count_noun, list_some, wrap

NOTHING, UNLIKE, LOW = "nothing was found", "unlike the training", "low expected Dice"
SPECKLED = "speckled"
"""Reasons to review a segmentation."""
REVIEWED = {
    NOTHING: "in which nothing was found",
    SPECKLED: "speckled: more than one object for every 50 pixels",
    UNLIKE: "unlike the images of the training",
    LOW: "with a lower expected Dice than nine in ten validation cases",
}
"""The same in a sentence."""


@dataclass(frozen=True, repr=False)
class Predicted(Result):
    """Files that were written, and inputs that could not be predicted."""

    out: Path
    depths: tuple[int | str, ...]
    """Depths, with shells names of sizes, or "mean", "auto"."""
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
    depth_shares: Mapping[int | str, float] = field(default_factory=dict)
    """With early exit (`size="auto"`): fraction of the tiles that stopped at each depth, with shells at each size."""
    job_script: str = ""
    """After a dry run: script of a job of a batch system, if one would be sent."""

    @property
    def exit_code(self) -> int:
        return PARTLY if self.failed else DONE

    def to_text(self) -> str:
        count, depths = len(self.files), ", ".join(map(str, self.depths))
        noun = find_noun([*self.depths, *self.depth_shares])
        if not self.written:
            title = f"Dry run: {count_noun(count, 'image')} would be predicted into {self.out} at {noun} {depths}:"
            lines = [title, *shorten_lines([f"  {path}" for path in self.files]), *self._describe_rest()]
            return "\n".join([*lines, *(["Script of each job:", self.job_script] if self.job_script else [])])
        images = len(self._group_by_name(self.files))
        of_depths = f" at {len(self.depths)} {noun}s" if len(self.depths) > 1 else ""
        lines = [f"{count_noun(images, 'image')} segmented{of_depths}, in {self.out}, in {self.seconds:.1f} s"]
        if self.depth_shares:
            shares = (f"{share:.0%} at {depth}" for depth, share in self.depth_shares.items())
            lines.append(f"{noun} of the tiles: {', '.join(shares)}")
        lines += self._describe_expected()
        for reason in dict.fromkeys(self.doubtful.values()):
            names = self._group_by_name([path for path, why in self.doubtful.items() if why == reason])
            title = wrap(f"{len(names)} to review, {REVIEWED.get(reason, reason)}:", WIDTH)
            lines += [title, f"  {list_some(names)}"]
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
            depths.setdefault(name, []).append(depth.rpartition(" ")[2])
        noun = find_noun(self.depths)
        return [name + (f" ({noun} {', '.join(each)})" if each != [""] else "") for name, each in depths.items()]

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
    """What was found about the meaning of the values; verdicts on the training of the model that predicted."""
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
