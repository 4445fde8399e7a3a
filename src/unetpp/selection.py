"""What `unetpp select` chose and compared: the content of select.json. Needs no torch."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator

from unetpp.errors import ModelFileError
from unetpp.measured import Calibration, Interval, Measured, Scores
from unetpp.words import count_noun, list_some

SELECTED, PAGE = "select.json", "select.html"
"""Files of a folder that `unetpp select` wrote."""
LARGEST, SMALLEST, HOLES = "largest", "smallest", "holes"
"""Kinds of steps: keep the largest object; remove objects of fewer voxels; fill holes."""
Probability = Annotated[float, Field(gt=0, lt=1)]


class Step(Measured):
    """A step of the post-processing of segmentations."""

    kind: Literal["largest", "smallest", "holes"]
    classes: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    """Indices of the classes whose objects are treated; several are treated together, as one region."""
    voxels: int = Field(default=0, ge=0)
    """Of `smallest`: voxels of the smallest object that is kept."""

    def describe(self, classes: tuple[str, ...]) -> str:
        """Say in words what the step does; `classes` are the names of all classes, background first."""
        names = " and ".join(classes[index] for index in self.classes)
        if len(self.classes) == len(classes) - 1 > 1:
            names = "the whole foreground"
        if self.kind == LARGEST:
            return f"keep the largest object of {names}"
        if self.kind == HOLES:
            return f"fill holes of {names}"
        return f"remove objects of {names} of fewer than {count_noun(self.voxels, 'voxel')}"


class TriedStep(Measured):
    """A step that was tried on the validation cases."""

    step: Step
    before: dict[str, float | None] = Field(default_factory=dict)
    """Mean Dice over cases of each class, without it."""
    after: dict[str, float | None] = Field(default_factory=dict)
    gain_interval: Interval | None = None
    """Of the gain in Dice, mean over the classes, paired over cases."""
    kept: bool = False


class Temperature(Measured):
    """A temperature of the probabilities, fitted on validation cases; 1 changes nothing."""

    value: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    ece_before: float | None = None
    """Expected calibration error over voxels: mean distance of confidence and accuracy in 15 bins."""
    ece_after: float | None = None
    """With temperatures that were fitted on the other half of the cases."""
    nll_before: float | None = None
    """Mean negative logarithm of the probability of the true class."""
    nll_after: float | None = None
    voxels: int = 0
    """Voxels that were drawn; of regions once for each."""


class Member(Measured):
    """A trained run at one size, whose folds predict together."""

    run: str
    """Name of the run."""
    size: int
    """Number of the size."""
    name: str = ""
    """Name of the size, as in "depth 2"."""
    files: tuple[str, ...] = Field(default=(), max_length=1000)
    """Model files, relative to the folder, one for each fold."""

    @field_validator("files")
    @classmethod
    def _require_inside(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse paths that lead out of the folder."""
        for file in files:
            path = PurePosixPath(file)
            if path.is_absolute() or ".." in path.parts or "\\" in file or ":" in file:
                raise ValueError(f"{file} leads out of the folder")
        return files


class Candidate(Measured):
    """What was compared: members, whose probabilities are averaged, with or without mirrored copies."""

    name: str
    dice: float | None = None
    """Mean over cases of the mean over foreground classes."""
    dice_interval: Interval | None = None
    lost: float | None = None
    """Dice of the best, minus this one; mean over cases."""
    lost_interval: Interval | None = None
    """Of that, paired over cases."""
    ms: float | None = None
    """Milliseconds for an image of the median size of the compared, with all folds and copies."""
    classes: dict[str, float | None] = Field(default_factory=dict)
    """Mean Dice of each class."""
    best: bool = False
    chosen: bool = False


class Selection(Measured):
    """Content of select.json."""

    format: Literal[1] = 1
    unetpp: str = ""
    """Version that wrote it."""
    name: str = ""
    """Name of the data set."""
    members: tuple[Member, ...] = Field(min_length=1, max_length=2)
    tta: bool = False
    """Whether mirrored copies are averaged."""
    threshold: Probability = 0.5
    """Of two classes: probability above which a voxel is foreground."""
    region_thresholds: dict[str, Probability] = Field(default_factory=dict)
    """Of regions: probability above which a voxel is in it, where that is not 0.5."""
    temperature: Temperature = Temperature()
    steps: tuple[Step, ...] = ()
    """Post-processing, in this order."""
    calibration: Calibration = Calibration()
    """Of the expected Dice, of the whole of it."""
    scores: Scores = Scores()
    """Of the whole of it, on the cases that were compared."""
    class_dice: dict[str, float | None] = Field(default_factory=dict)
    candidates: tuple[Candidate, ...] = ()
    tried: tuple[TriedStep, ...] = ()
    threshold_gain: float | None = None
    """Gain in Dice by the thresholds, mean over cases."""
    cases: tuple[str, ...] = ()
    """Validation cases that were compared."""
    cases_shared: int = 0
    """Number of cases that all runs have validated."""
    max_ms: float | None = None
    reason: str = ""
    notes: tuple[str, ...] = ()
    """What was not compared, and why."""

    def describe_what(self) -> str:
        """Name what predicts, as in "nuclei at depth 2 (5 folds), mirrored"."""
        parts = [f"{each.run} at {each.name} ({count_noun(len(each.files), 'fold')})" for each in self.members]
        return " + ".join(parts) + (", averaged over mirrored copies" if self.tta else "")

    def list_thresholds(self) -> dict[str, float]:
        """List the thresholds that are not 0.5, by what is above them."""
        return self.region_thresholds | ({"foreground": self.threshold} if self.threshold != 0.5 else {})

    def describe_extras(self, classes: tuple[str, ...]) -> list[str]:
        """Say in words what is done beside averaging: threshold, post-processing, temperature."""
        lines = [f"{name} above a probability of {limit:g}" for name, limit in self.list_thresholds().items()]
        lines += [step.describe(classes) for step in self.steps]
        heat = self.temperature
        if heat.value != 1.0:
            text = f"probabilities of temperature {heat.value:.3g}"
            if heat.ece_before is not None and heat.ece_after is not None:
                text += f" (calibration error {heat.ece_before:.4f} before, {heat.ece_after:.4f} after)"
            lines.append(text)
        return lines


def is_selection(path: Path) -> bool:
    """Tell whether a folder was written by `unetpp select`."""
    return (path / SELECTED).is_file()


def read_selection(folder: Path) -> Selection:
    """Read the select.json of a folder.

    Raises:
        ModelFileError: it cannot be used, or lacks a model file.
    """
    path, expected = folder / SELECTED, "what `unetpp select` wrote"
    try:
        found = Selection.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ModelFileError(path, error.strerror or str(error), expected, "Check the path.") from None
    except (ValidationError, ValueError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": str(error)}
        got = f"a file that cannot be used ({'.'.join(map(str, first['loc']))}: {first['msg']})"
        raise ModelFileError(path, got, expected, "Run `unetpp select` again.") from None
    if missing := [file for file in list_files(found) if not (folder / file).is_file()]:
        got = f"a folder without {list_some(missing)}"
        raise ModelFileError(folder, got, "the model files that select.json names", "Copy the whole folder again.")
    return found


def list_files(selection: Selection) -> list[str]:
    """List the model files of a selection, relative to its folder."""
    return [file for member in selection.members for file in member.files]
