"""The layout of the Cell Tracking Challenge: sequences `01/t000.tif` with objects in `01_GT/SEG/man_seg000.tif`."""

from __future__ import annotations

import re
from pathlib import Path

from unetpp.errors import Problem
from unetpp.formats import stem_of
from unetpp.layouts.dataset import Case, Dataset
from unetpp.layouts.folders import list_folders, list_images
from unetpp.words import count_noun

_FRAME = re.compile(r"t(\d{3,4})")
_LABEL = re.compile(r"man_seg(\d{3,4})")
_PLANE = re.compile(r"man_seg_(\d{3,4})_\d+")
_SOURCES = ("GT", "ST")
"""Gold truth, drawn by persons, and silver truth, computed from the entries of the challenge."""


def is_cell_tracking(root: Path) -> bool:
    """Tell whether a folder has a sequence with segmentations: `01/` and `01_GT/SEG/` or `01_ST/SEG/`."""
    return bool(_list_sequences(root))


def read_cell_tracking(root: Path, name: str) -> Dataset:
    """Read the frames that have a segmentation; frames of one sequence are one group.

    Gold truth is used where any sequence has it, silver truth otherwise.
    """
    sequences = _list_sequences(root)
    source = next(source for source in _SOURCES if any(_seg_folder(path, source).is_dir() for path in sequences))
    cases, notes, problems, unlabeled = [], [], [], 0
    for path in sequences:
        frames = {match[1]: file for file in list_images(path) if (match := _FRAME.fullmatch(stem_of(file)))}
        labels, planes = _read_labels(_seg_folder(path, source))
        unlabeled += len(frames.keys() - labels.keys())
        problems += [
            Problem(str(file), f"a label without a frame in {path.name}/", "an image of its number", "Add the image.")
            for number, file in labels.items()
            if number not in frames
        ]
        cases += [
            Case(f"{path.name}_{stem_of(frames[number])}", (frames[number],), (label,), group=path.name)
            for number, label in labels.items()
            if number in frames
        ]
        if planes:
            notes.append(f"{count_noun(planes, 'label')} of single planes of a volume left out")
    if unlabeled:
        notes.append(f"{count_noun(unlabeled, 'frame')} without a segmentation left out")
    if source == "GT" and any(_seg_folder(path, "ST").is_dir() for path in sequences):
        notes.append("the gold truth (_GT) is used, the silver truth (_ST) is not")
    return Dataset(
        name, root, "cell_tracking", tuple(cases), instances=True, problems=tuple(problems), notes=tuple(notes)
    )


def _list_sequences(root: Path) -> list[Path]:
    return [
        path
        for path in list_folders(root)
        if path.name.isdecimal() and any(_seg_folder(path, source).is_dir() for source in _SOURCES)
    ]


def _seg_folder(sequence: Path, source: str) -> Path:
    return sequence.parent / f"{sequence.name}_{source}" / "SEG"


def _read_labels(folder: Path) -> tuple[dict[str, Path], int]:
    """Map numbers of frames to labels; count labels of single planes, which are no labels of whole frames."""
    files = list_images(folder)
    labels = {match[1]: file for file in files if (match := _LABEL.fullmatch(stem_of(file)))}
    return labels, sum(_PLANE.fullmatch(stem_of(file)) is not None for file in files)
