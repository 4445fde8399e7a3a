"""Volumes as folders of slices, one file for each slice: they are named, with how to join them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from unetpp.errors import Problem
from unetpp.formats import is_medical, stem_of, suffix_of
from unetpp.layouts.contents import list_content
from unetpp.layouts.dataset import Case
from unetpp.words import list_some

_FEWEST = 5
"""Numbered files that are taken for slices."""
_NUMBERED = re.compile(r"(.*?)(\d+)$")


def find_slices(root: Path) -> list[Problem]:
    """Describe the folders of a data set whose files are the numbered slices of one volume each."""
    folders = [folder for folder, files in list_content(root).images.items() if is_series(files)]
    folders = [folder for folder in folders if root in folder.parents[1:]]  # images/p0, but not a set's images
    if len(folders) < 2:
        return []
    some = list_some(str(folder.relative_to(root)) for folder in folders)
    got = f"folders of numbered slices ({some}), which are not read as volumes"
    action = (
        "Join the slices of each volume: tifffile.imwrite('p0.tif', numpy.stack([tifffile.imread(path) for path in "
        "sorted(pathlib.Path('p0').glob('*'))])), or with Fiji: File > Import > Image Sequence."
    )
    return [Problem(str(root), got, "one file for each volume, such as images/p0.tif with labels/p0.tif", action)]


def note_slices(cases: Sequence[Case]) -> list[str]:
    """Note that the images of each group may be the slices of one volume: they are read as images of their own."""
    folders: dict[Path, list[Path]] = {}
    for case in cases:
        if case.group is not None and len(case.images) == 1:
            folders.setdefault(case.images[0].parent, []).append(case.images[0])
    series = [folder for folder, files in folders.items() if is_series(files)]
    if len(series) < 2 or len(series) < len(folders):
        return []
    files = folders[series[0]]
    some = f"{series[0].name}/{files[0].name} to {files[-1].name}"
    return [f"slices of volumes ({some})? Each is an image of its own here; for volumes, join those of each folder"]


def is_series(files: Sequence[Path]) -> bool:
    """Tell whether the files of a folder are named alike with consecutive numbers, such as slice_005, slice_006."""
    matches = [_NUMBERED.match(stem_of(path)) for path in files]
    found = [match for match in matches if match]
    numbers = sorted(int(match[2]) for match in found)
    return (
        len(found) == len(files) >= _FEWEST
        and not is_medical(files[0])
        and len({match[1] for match in found}) == 1
        and len({suffix_of(path) for path in files}) == 1
        and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    )
