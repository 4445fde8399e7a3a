"""Data sets and their cases, independent of the layout on disk."""

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
    """One file, or several whose channels are concatenated."""
    labels: tuple[Path, ...] = ()
    """No file, one, or several with one object each."""
    group: str | None = None
    """Cases of one group (a patient) are never split between training and validation."""
    split: Subset | None = None
    """Subset that the data set assigns the case to; None: the folds decide."""


@dataclass(frozen=True)
class Dataset:
    """The cases of a data set and the declarations of its files."""

    name: str
    root: Path
    layout: Layout
    cases: tuple[Case, ...]
    channels: tuple[str, ...] | None = None
    """Declared names of the channels, such as MRI or CT."""
    classes: dict[int, str] | None = None
    """Declared label values and their names."""
    instances: bool = False
    """Labels number objects: every value above 0 is one object."""
    problems: tuple[Problem, ...] = ()
    """Problems with names and declarations; the cases concerned are left out."""
    notes: tuple[str, ...] = ()
    """Files and columns that were ignored."""
