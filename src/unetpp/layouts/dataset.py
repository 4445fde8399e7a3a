"""Data sets and their cases, independent of the layout on disk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from unetpp.errors import Problem
from unetpp.plan import Region

Layout = Literal[
    "folder",
    "instances",
    "classes",
    "flat",
    "cell_tracking",
    "decathlon",
    "nnunet",
    "kaggle",
    "csv",
    "outlines",
    "volumes",
    "class_files",
    "bids",
]
Subset = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Case:
    """One image with its label."""

    id: str
    """Unique in its data set; names the prediction."""
    images: tuple[Path, ...]
    """One file, or several whose channels are concatenated."""
    labels: tuple[Path, ...] = ()
    """No file, one, or several that are joined as `Dataset.joined` says."""
    label_classes: tuple[str, ...] = ()
    """With `joined="classes"`: class of each file in `labels`."""
    class_values: tuple[tuple[str, int], ...] = ()
    """Labels that are outlines (`unetpp.annotations`): value of each named class."""
    label_key: str = ""
    """Labels that are outlines: name of the image in a file of many images."""
    group: str | None = None
    """Cases of one group (a patient) are never split between training and validation."""
    split: Subset | None = None
    """Subset that the data set assigns the case to; None: the folds decide."""
    plane: int | None = None
    """The case is this plane (first spatial axis) of its files, an image of its own; None: the whole files."""
    area: tuple[tuple[int, int], ...] | None = None
    """The case is this part of its files: (start, stop) along each spatial axis; None: the whole files."""
    neighbors: tuple[str, ...] = ()
    """Ids of parts of the same file that are too near to be trained on while this one validates."""

    @property
    def is_part(self) -> bool:
        """Whether the case is a part of its files, not all of them."""
        return self.plane is not None or self.area is not None

    @property
    def is_whole_files(self) -> bool:
        """Whether its images are files, neither folders nor parts of files."""
        return not self.is_part and not any(path.is_dir() for path in self.images)

    def absolute(self) -> Case:
        """Return it with absolute paths, for processes whose current folder is another."""
        images, labels = (tuple(path.absolute() for path in paths) for paths in (self.images, self.labels))
        return replace(self, images=images, labels=labels)

    def name_as_given(self, problem: Problem) -> Problem:
        """Name the files in a problem that another process found as they are named here."""
        where = problem.where
        for path in {*self.images, *self.labels}:
            where = where.replace(str(path.absolute()), str(path))
        return replace(problem, where=where)


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
    joined: Literal["objects", "union", "classes"] = "objects"
    """Meaning of several label files of one case: one object each, parts of one mask, or one class each."""
    ignored_value: int | None = None
    """Declared label value of voxels that nobody labeled; None: none is declared."""
    regions: tuple[Region, ...] | None = None
    """Declared regions, unions of classes that may overlap."""
    problems: tuple[Problem, ...] = ()
    """Problems with names and declarations; the cases concerned are left out."""
    notes: tuple[str, ...] = ()
    """Files and columns that were ignored."""
