"""What a set of label files means: the types that the modules of this package share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from unetpp.errors import Problem
from unetpp.labels.classes import Classes
from unetpp.labels.facts import MAX_VALUES, LabelFacts
from unetpp.plan import LabelPlan
from unetpp.words import count_noun, list_some

FOREGROUND = ("background", "foreground")
MAX_CLASSES = 64
"""More undeclared values or colors than this are no classes."""
MOST_CLASSES = MAX_VALUES - 1
"""More values than this are no classes, even if the user says so: no file is counted further."""

Files = Mapping[str, LabelFacts]
"""What each label file shows, by its name."""


@dataclass(frozen=True)
class Declared:
    """What a data set and its user say of the labels."""

    where: str
    """Name of the data set in problems."""
    classes: Mapping[int, str] | None = None
    """Names of the classes by value."""
    objects: bool = False
    """Labels number objects."""
    united: bool = False
    """Labels are masks of several parts, which are united."""
    ignore: int | None = None
    """Value of voxels that nobody labeled."""
    plan: LabelPlan | None = None
    """What the user says."""
    mask_value: int = 255
    """Value of the foreground in predictions, where the files do not tell: 1 in medical formats."""


@dataclass
class Meaning:
    """What the values of a set of labels mean."""

    plan: LabelPlan
    classes: Classes
    line: str
    """The meaning and its reason, on one line."""
    problems: list[Problem] = field(default_factory=list)
    """Errors that have to be corrected."""
    notes: list[str] = field(default_factory=list)
    """Remarks for the user."""


def some_of(some: int, count: int) -> str:
    """Write "5 of 6 files"."""
    return f"{some} of {count_noun(count, 'file')}"


def list_files(names: list[str]) -> str:
    """List the names of the first files, and the number of the others."""
    return list_some(Path(name).name for name in names)
