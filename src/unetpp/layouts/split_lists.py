"""Lists of names that divide a data set: `ImageSets/Segmentation/train.txt`, `val.txt`, one name a line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from unetpp.formats import stem_of
from unetpp.layouts.dataset import Case, Subset
from unetpp.layouts.folders import SUBSETS, list_entries, list_folders

_FOLDERS = ("ImageSets/Segmentation", "ImageSets", "metadata", "splits", "split", "")
_LARGEST = 20_000_000
"""Bytes; a longer file is no list of names."""


def assign_listed_subsets(root: Path, cases: Sequence[Case]) -> tuple[list[Case], list[str]]:
    """Assign the subsets that lists of names declare, if they name training cases and none has a subset yet.

    Returns:
        The cases, and a note that names the lists.
    """
    if any(case.split for case in cases):
        return list(cases), []
    stems = {stem_of(path): case.id for case in cases for path in case.images}
    for folder in _list_places(root):
        subsets: dict[str, Subset] = {}
        used = []
        for path, subset in _find_lists(folder):
            named = {stems[stem] for stem in _read_stems(path) if stem in stems}
            subsets |= dict.fromkeys(named, subset)
            used += [path.name] if named else []
        if "train" in subsets.values() and len(set(subsets.values())) > 1:
            assigned = [replace(case, split=subsets.get(case.id)) for case in cases]
            return assigned, [f"training, validation and test cases as in {folder}: {', '.join(used)}"]
    return list(cases), []


def _list_places(root: Path) -> Iterator[Path]:
    """List the folders that may have lists; archives often have a folder or two above their data."""
    roots = [root]
    for _ in range(2):
        folders = list_folders(roots[-1])
        if len(folders) == 1:
            roots.append(folders[0])
    for above in roots:
        yield from (above / folder for folder in _FOLDERS if (above / folder).is_dir())


def _find_lists(folder: Path) -> list[tuple[Path, Subset]]:
    return [
        (path, SUBSETS[path.stem.lower()])
        for path in list_entries(folder)
        if path.suffix.lower() == ".txt" and path.stem.lower() in SUBSETS and path.is_file()
    ]


def _read_stems(path: Path) -> list[str]:
    """Read the first word of each line without folders and suffix; [] if it is no text."""
    if path.stat().st_size > _LARGEST:
        return []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    stems = []
    for line in filter(None, map(str.strip, lines)):
        names = [Path(line).name, Path(line.split()[0]).name]
        stems += [name for own in names for name in (own, stem_of(Path(own)))]
    return stems
