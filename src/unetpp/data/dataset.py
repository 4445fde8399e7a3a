"""What a data set is, whatever layout it came in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unetpp.errors import Problem

Layout = Literal["folder", "instances", "decathlon", "nnunet", "kaggle", "csv"]
Subset = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Case:
    """One image with its label."""

    id: str
    """Unique in its data set; names the prediction."""
    images: tuple[Path, ...]
    """One file, or several whose channels follow one another."""
    labels: tuple[Path, ...] = ()
    """No file, one, or several with one object each."""
    group: str | None = None
    """Cases of one group (a patient) are never split between training and validation."""
    split: Subset | None = None
    """What the user wants the case for; None: the folds decide."""


@dataclass(frozen=True)
class Dataset:
    """The cases of a data set and what its files declare about them."""

    name: str
    root: Path
    layout: Layout
    cases: tuple[Case, ...]
    channels: tuple[str, ...] | None = None
    """Declared names, such as MRI or CT."""
    classes: dict[int, str] | None = None
    """Declared label values and their names."""
    instances: bool = False
    """True: every value above 0 in a label is one object."""
    problems: tuple[Problem, ...] = ()
    """What is wrong with names and declarations; the cases concerned are left out."""
    notes: tuple[str, ...] = ()
    """What was ignored."""
