"""The folders of a data set: which files they hold, and what the names above them say about their place in it."""

from __future__ import annotations

import filecmp
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from unetpp.annotations import SUFFIXES as ANNOTATION_SUFFIXES
from unetpp.errors import DataError, Problem
from unetpp.formats import is_image, is_store, stem_of, suffix_of
from unetpp.layouts.contents import advise_conversion, is_silent
from unetpp.layouts.dataset import Subset
from unetpp.layouts.folders import list_entries, list_folders
from unetpp.layouts.names import find_subset, is_subset, read_role
from unetpp.words import count_noun, list_some

_FEW = 3
MAX_DEPTH = 6
MAX_FOLDERS = 20_000
_DOCUMENT_SUFFIXES = (
    "",
    ".csv",
    ".db",
    ".html",
    ".ini",
    ".json",
    ".md",
    ".pdf",
    ".txt",
    ".xml",
    ".xls",
    ".xlsx",
    ".zip",
)


@dataclass(frozen=True)
class Place:
    """Where in a data set images belong: images and labels in the same place are paired."""

    subset: Subset | None = None
    above: tuple[str, ...] = ()
    """Other folders, such as that of a patient."""


@dataclass(frozen=True)
class Folder:
    """A folder with files."""

    path: Path
    parts: tuple[str, ...]
    """Names of the folders from the data set down to this one."""
    images: tuple[Path, ...]
    """Files with the suffix of an image, in order."""
    others: tuple[Path, ...]
    """Other files."""

    @cached_property
    def by_stem(self) -> dict[str, list[Path]]:
        """The images by stem: several if only their suffixes differ."""
        found: dict[str, list[Path]] = {}
        for path in self.images:
            found.setdefault(stem_of(path), []).append(path)
        return found

    @property
    def is_filled(self) -> bool:
        """Whether it holds more than documents and outlines."""
        known = (*_DOCUMENT_SUFFIXES, *ANNOTATION_SUFFIXES)
        return bool(self.images) or any(path.suffix.lower() not in known for path in self.others)

    @property
    def role(self) -> str | None:
        """What the folder holds, by the last name that says so."""
        return next((role for part in reversed(self.parts) if (role := read_role(part))), None)

    def place_without(self, *left_out: int) -> Place:
        """Return the place of the folder if the names at these positions say only what it holds."""
        subsets = [subset for part in self.parts if (subset := find_subset(part))]
        kept = [part for index, part in enumerate(self.parts) if index not in left_out and not is_subset(part)]
        return Place(subsets[-1] if subsets else None, tuple(kept))

    def positions_of(self, *roles: str) -> list[int]:
        """List the positions of the names with one of these roles."""
        return [index for index, part in enumerate(self.parts) if read_role(part) in roles]


def scan_folders(root: Path) -> list[Folder]:
    """List the folders of a data set that hold files; folders above all of them are left out of `parts`.

    Folders deeper than `MAX_DEPTH` are not looked at.

    Raises:
        DataError: more than `MAX_FOLDERS`.
    """
    found: list[Folder] = []
    _scan(root, (), found)
    shared, filled = 0, [folder for folder in found if folder.is_filled]
    while len({folder.parts[: shared + 1] for folder in filled}) == 1 and len(filled[0].parts) > shared:
        shared += 1  # a folder that holds nothing but one other says nothing about what is in it
    return [Folder(folder.path, folder.parts[shared:], folder.images, folder.others) for folder in found]


def drop_repeated(folders: Sequence[Folder]) -> tuple[list[Folder], list[str]]:
    """Leave out folders that repeat others one level deeper: `lgg/p1/` beside `p1/`, with the same files."""
    by_parts = {folder.parts: folder for folder in folders}
    kept, above = [], set()
    for folder in folders:
        shorter = (by_parts.get(folder.parts[start:]) for start in range(1, len(folder.parts)))
        if any(other is not None and _have_same_files(folder, other) for other in shorter):
            above.add(folder.parts[0])
        else:
            kept.append(folder)
    return kept, [f"{name}/ repeats the other folders and is left out" for name in sorted(above)]


def _have_same_files(one: Folder, other: Folder) -> bool:
    if not one.images or [path.name for path in one.images] != [path.name for path in other.images]:
        return False
    if any(a.stat().st_size != b.stat().st_size for a, b in zip(one.images, other.images, strict=True)):
        return False
    some = {0, len(one.images) // 2, len(one.images) - 1}
    return all(filecmp.cmp(one.images[index], other.images[index], shallow=False) for index in some)


def note_ignored(folders: Iterable[Folder]) -> list[str]:
    """Note files that are no images: a few by name, many by type, and those of many folders in one note."""
    found = {
        folder.path: others for folder in folders if (others := [path for path in folder.others if not is_silent(path)])
    }
    if len(found) > _FEW:
        everything = [path for others in found.values() for path in others]
        return [f"ignored in {len(found)} folders: {count_types(everything)} {_say_why(everything)}"]
    return [
        f"{folder}: ignored {list_some(path.name for path in others) if len(others) <= _FEW else count_types(others)} "
        f"{_say_why(others)}"
        for folder, others in found.items()
    ]


def _say_why(others: Iterable[Path]) -> str:
    """Say why files are ignored, and what to do with images that are not read."""
    advice = {suffix_of(path): action for path in others if (action := advise_conversion(path))}
    if not advice:
        return "(neither an image nor named like one)"
    return f"({', '.join(sorted(advice))}: not read. {' '.join(dict.fromkeys(advice.values()))})"


def count_types(paths: list[Path]) -> str:
    """Count files by suffix: "20 .gif files, 1 .txt file"."""
    counts = Counter(path.suffix.lower() for path in paths)
    return list_some(count_noun(number, f"{suffix or 'other'} file") for suffix, number in counts.most_common())


def _scan(path: Path, parts: tuple[str, ...], found: list[Folder]) -> None:
    if len(found) >= MAX_FOLDERS:
        got, action = (
            f"more than {MAX_FOLDERS:,} folders with files",
            "Name the folder of the data set, or write a CSV table.",
        )
        raise DataError(Problem(str(found[0].path), got, "a data set", action))
    entries = list_entries(path)
    files = [entry for entry in entries if not entry.name.startswith(".") and (is_store(entry) or not entry.is_dir())]
    images = tuple(file for file in files if is_image(file))
    if files:
        found.append(Folder(path, parts, images, tuple(file for file in files if not is_image(file))))
    if len(parts) < MAX_DEPTH:
        for folder in list_folders(path):
            _scan(folder, (*parts, folder.name), found)
