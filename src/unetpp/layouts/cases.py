"""Cases of a data set: recognize the layout of a path, list the cases, report what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from os.path import realpath
from pathlib import Path

from unetpp.errors import DataError, Problem
from unetpp.formats import format_names, is_store, stem_of
from unetpp.layouts.cell_tracking import is_cell_tracking, read_cell_tracking
from unetpp.layouts.channel_files import read_channel_folders
from unetpp.layouts.contents import list_content
from unetpp.layouts.dataset import Case, Dataset
from unetpp.layouts.dataset_json import NAME as DATASET_JSON
from unetpp.layouts.dataset_json import find_raw_data_sets, read_dataset_json
from unetpp.layouts.folders import (
    describe_same_stem,
    find_kaggle_root,
    is_folder_layout,
    is_kaggle,
    list_entries,
    read_kaggle,
)
from unetpp.layouts.manifest import is_manifest, read_manifest
from unetpp.layouts.named_folders import read_named_folders
from unetpp.layouts.names import find_subset, read_role
from unetpp.layouts.outlines import read_outlines
from unetpp.layouts.patients import group_by_name
from unetpp.layouts.slices import find_slices, note_slices
from unetpp.layouts.tree import count_types, scan_folders
from unetpp.layouts.volumes import read_volumes
from unetpp.words import count_noun, list_some

__all__ = ["Case", "Dataset", "find_cases", "refuse_unreadable"]

_LAYOUTS = (
    "images/ with masks/, labels/ or instances/ next to it, also by train/ and val/, patient or class; images and "
    "labels in one folder (a.png, a_mask.png); a dataset.json with imagesTr/ and labelsTr/ (Medical Segmentation "
    "Decathlon, nnU-Net); ID/images/ and ID/masks/ (Kaggle nuclei); or a CSV table with the columns image, label, "
    "group, split"
)


def find_cases(path: str | Path, *, tolerant: bool = False) -> Dataset:
    """Find the cases of a data set in any layout, without opening an image.

    Args:
        path: a folder, a dataset.json or a CSV table.
        tolerant: leave problems in `Dataset.problems`, for `inspect_dataset` to report with those of the files.

    Returns:
        The data set, its cases in the order of their files.

    Raises:
        DataError: no data set; or, unless `tolerant`, all missing files, repeated stems and wrong declarations.
    """
    with refuse_unreadable(path):
        dataset = _read(Path(path))
    problems = *dataset.problems, *_find_same_ids(dataset.root, dataset.cases), *_find_undecodable_names(dataset)
    if (problems or not dataset.cases) and Path(path).is_dir():  # files that are not read may be those that are missing
        problems = *list_content(Path(path)).unread, *problems
    if not dataset.cases and not problems:
        raise DataError(find_slices(Path(path)) or _describe_no_images(path))
    if problems and not tolerant:
        raise DataError(problems)
    cases, grouped = group_by_name(dataset.cases)
    notes = (*dataset.notes, *note_slices(dataset.cases), *grouped)
    return replace(dataset, cases=cases, problems=problems, notes=notes)


_READERS = (read_channel_folders, read_volumes, read_named_folders)


@contextmanager
def refuse_unreadable(path: str | Path) -> Iterator[None]:
    """Turn the OSError of a folder that cannot be listed into a problem that names it.

    Raises:
        DataError: instead of an OSError.
    """
    try:
        yield
    except OSError as error:
        where, reason = error.filename or path, error.strerror or error
        got = f"a path that cannot be read ({reason})"
        raise DataError(Problem(str(where), got, "a readable folder", "Check its permissions.")) from None


def _read(path: Path) -> Dataset:
    if path.name == DATASET_JSON and path.is_file():
        path = path.parent
    name = stem_of(Path(realpath(path)))
    if path.is_file() and path.suffix.lower() == ".csv":
        return read_manifest(path, name)
    if not path.is_dir():
        got = "a file that is no data set" if path.exists() else "no such file or folder"
        raise DataError(Problem(str(path), got, f"a folder with {_LAYOUTS}", "Check the path."))
    path = _enter_single_folder(path)
    if (path / DATASET_JSON).is_file():
        return read_dataset_json(path, name)
    if (cases := find_kaggle_root(path)) is not None and is_kaggle(cases):
        return read_kaggle(cases, name)
    if is_cell_tracking(path):
        return read_cell_tracking(path, name)
    tables = [table for table in sorted(path.glob("*.csv")) if is_manifest(table)]
    found = _read_first((read_named_folders,) if tables else _READERS, path, name)
    if len(tables) == 1 and (found is None or found.problems):
        return read_manifest(tables[0], name)  # a table says more than names do
    if (found is None or not found.cases) and (outlines := read_outlines(path, name)) is not None:
        return outlines
    if found is None:
        raise DataError(list_content(path).unread or find_slices(path) or _describe_unknown(path))
    return found


def _read_first(readers: Iterable[Callable[[Path, str], Dataset | None]], path: Path, name: str) -> Dataset | None:
    """Read by the first reader that finds cases; else return the problems of the first that finds any."""
    refused = None
    for read in readers:
        found = read(path, name)
        if found is not None and found.cases:
            return found
        refused = refused or found
    return refused


def _describe_no_images(path: str | Path) -> Problem:
    action = "Check the path and the names of the files."
    return Problem(str(path), "no images", "at least two images with masks", action)


def _describe_unknown(path: Path) -> Problem:
    """Say what was seen in a folder that has no known layout."""
    if sets := find_raw_data_sets(path):
        got, expected = f"a folder of {count_noun(len(sets), 'data set')}", "the folder of one data set"
        return Problem(str(path), got, expected, f"Name one of them: {list_some((each.name for each in sets), 5)}.")
    folders = scan_folders(path)
    others = [file for folder in folders for file in folder.others]
    if others and not any(folder.images for folder in folders):
        got, action = f"no images, but {count_types(others)}", "Check the path, or convert the files."
        return Problem(str(path), got, f"images: {format_names()}", action)
    some = [file.relative_to(path) for folder in folders for file in folder.images[:2] if folder.path != path]
    got, action = f"a folder with {_describe_content(path)}", "Arrange or name the files so, or write the CSV table."
    named = [folder.path for folder in folders if folder.images and _is_called_images(path, folder.path)]
    if named:
        got = f"images without labels in {list_some(f'{folder.relative_to(path)}/' for folder in named)}"
        beside = [folder.path for folder in folders if folder.path not in (path, *named)]
        got += f" beside {list_some(f'{folder.relative_to(path)}/' for folder in beside)}" if beside else ""
        action = "Add the labels, one for each image."
    elif some:
        got += f" and images such as {list_some(some, 6)}"
    return Problem(str(path), got, _LAYOUTS, action)


def _is_called_images(root: Path, folder: Path) -> bool:
    return any(read_role(part) == "image" for part in folder.relative_to(root).parts)


def _enter_single_folder(path: Path) -> Path:
    """Enter the folder that archives have above their data, as long as its name says nothing."""
    inside = [entry for entry in list_entries(path) if not entry.name.startswith((".", "__MACOSX"))]
    if len(inside) != 1 or not inside[0].is_dir() or is_store(inside[0]) or is_folder_layout(inside[0]):
        return path
    says_nothing = not (read_role(inside[0].name) or find_subset(inside[0].name))
    return _enter_single_folder(inside[0]) if says_nothing else path


def _describe_content(folder: Path) -> str:
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir() if not path.name.startswith("."))
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "nothing in it"


def _find_undecodable_names(dataset: Dataset) -> list[Problem]:
    """Report names in another encoding (old archives), which can neither be shown nor written into a table."""
    where, action = str(dataset.root), "Rename the file, for example with convmv."
    return [
        Problem(where, f"the file name {case.id!a}, which is not UTF-8", "a name in UTF-8", action)
        for case in dataset.cases
        if case.id.encode(errors="ignore").decode() != case.id
    ]


def _find_same_ids(where: Path, cases: Sequence[Case]) -> list[Problem]:
    by_id: dict[str, list[Path]] = {}
    for case in cases:
        by_id.setdefault(case.id, []).append(case.images[0])
    return [describe_same_stem(where, id, paths) for id, paths in by_id.items() if len(paths) > 1]
