"""The folders of a data set: which files they hold, and what the names above them say about their place in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from unetpp.errors import DataError, Problem
from unetpp.formats import is_image, stem_of
from unetpp.layouts.dataset import Subset
from unetpp.layouts.names import find_subset, read_role
from unetpp.words import count_noun, list_some

MAX_DEPTH = 6
MAX_FOLDERS = 20_000
_JUNK_FOLDERS = ("__MACOSX", "@eaDir")
_SILENT_SUFFIXES = (".raw", ".zraw", ".db", ".ini")
"""Suffixes that are ignored without a note: voxels of .mhd and .nhdr files, system files of Windows."""


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
    def role(self) -> str | None:
        """What the folder holds, by the last name that says so."""
        return next((role for part in reversed(self.parts) if (role := read_role(part))), None)

    def place_without(self, *left_out: int) -> Place:
        """Return the place of the folder if the names at these positions say only what it holds."""
        subsets = [subset for part in self.parts if (subset := find_subset(part))]
        kept = [part for index, part in enumerate(self.parts) if index not in left_out and not find_subset(part)]
        return Place(subsets[-1] if subsets else None, tuple(kept))

    def positions_of(self, *roles: str) -> list[int]:
        """List the positions of the names with one of these roles."""
        return [index for index, part in enumerate(self.parts) if read_role(part) in roles]


def scan_folders(root: Path) -> list[Folder]:
    """List the folders of a data set that hold files; folders above all of them are left out of `parts`.

    Raises:
        DataError: more than `MAX_FOLDERS`.
    """
    found: list[Folder] = []
    _scan(root, (), found)
    filled = [folder for folder in found if folder.images or len(folder.others) > 1]
    shared = 0
    while filled and len({folder.parts[: shared + 1] for folder in filled}) == 1 and len(filled[0].parts) > shared:
        if read_role(filled[0].parts[shared]) and all(len(folder.parts) == shared + 1 for folder in filled):
            break
        shared += 1
    return [
        Folder(folder.path, folder.parts[shared:], folder.images, folder.others)
        for folder in found
        if folder in filled or len(folder.parts) >= shared
    ]


def list_folders(root: Path) -> list[Path]:
    """List the folders in a folder, in order, without hidden ones and those of archives; [] if there is none."""
    return [path for path in list_entries(root) if path.is_dir() and not path.name.startswith((".", *_JUNK_FOLDERS))]


def list_images(folder: Path) -> list[Path]:
    """List the files of a folder with the suffix of an image, in order; [] if there is no such folder."""
    return [path for path in list_entries(folder) if is_image(path) and not path.is_dir()]


def list_entries(folder: Path) -> list[Path]:
    """List what is in a folder, in order; [] if there is no such folder."""
    return sorted(folder.iterdir()) if folder.is_dir() else []


def note_ignored(folder: Folder) -> list[str]:
    """Note files that are no images, a few by name and many by type."""
    others = [path for path in folder.others if path.suffix.lower() not in _SILENT_SUFFIXES]
    if not others:
        return []
    names = count_types(others) if len(others) > 3 else list_some(path.name for path in others)
    return [f"{folder.path}: ignored {names} (neither an image nor named like one)"]


def count_types(paths: list[Path]) -> str:
    """Count files by suffix: "20 .gif files, 1 .txt file"."""
    counts = Counter(path.suffix.lower() for path in paths)
    return list_some(count_noun(number, f"{suffix or 'other'} file") for suffix, number in counts.most_common())


def describe_content(folder: Path) -> str:
    """Describe what is in a folder for a message: the first names, folders with a slash."""
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir() if not path.name.startswith("."))
    return list_some(names, 5) or "nothing in it"


def _scan(path: Path, parts: tuple[str, ...], found: list[Folder]) -> None:
    if len(found) >= MAX_FOLDERS:
        got, action = f"more than {MAX_FOLDERS:,} folders", "Name the folder of the data set, or write a CSV table."
        raise DataError(Problem(str(found[0].path), got, "a data set", action))
    entries = list_entries(path)
    files = [entry for entry in entries if not (entry.name.startswith(".") or entry.is_dir())]
    images = tuple(file for file in files if is_image(file))
    found.append(Folder(path, parts, images, tuple(file for file in files if not is_image(file))))
    if len(parts) < MAX_DEPTH:
        for folder in entries:
            if folder.is_dir() and not folder.name.startswith((".", *_JUNK_FOLDERS)):
                _scan(folder, (*parts, folder.name), found)
