"""Cases of a data set: recognize the layout of a path, list the cases, report what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from unetpp.errors import DataError, Problem
from unetpp.formats import format_names, is_image, stem_of
from unetpp.layouts.dataset import Case, Dataset
from unetpp.layouts.dataset_json import NAME as DATASET_JSON
from unetpp.layouts.dataset_json import group_channel_files, read_dataset_json
from unetpp.layouts.folders import (
    LABEL_FOLDERS,
    describe_same_stem,
    find_kaggle_root,
    is_folder_layout,
    list_images,
    list_subset_folders,
    read_folder,
    read_kaggle,
    read_subset_folders,
)
from unetpp.layouts.manifest import read_manifest
from unetpp.layouts.outlines import read_outlines

__all__ = ["Case", "Dataset", "find_cases", "find_images", "refuse_unreadable"]

_LAYOUTS = (
    "images/ with masks/, labels/ or instances/ next to it; a dataset.json with imagesTr/ and labelsTr/ "
    "(Medical Segmentation Decathlon, nnU-Net); ID/images/ and ID/masks/ (Kaggle nuclei); or a CSV table with the "
    "columns image, label, group, split"
)
_NNUNET_FOLDERS = ("imagesTr", "imagesTs", "imagesVal")


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
    if not dataset.cases and not problems:
        action = "Check the path and the names of the files."
        raise DataError(Problem(str(path), "no images", "at least two images with masks", action))
    if problems and not tolerant:
        raise DataError(problems)
    return replace(dataset, problems=problems)


def find_images(inputs: Sequence[str | Path], channels: int = 1) -> list[Case]:
    """Find the images to predict in files, folders and data sets.

    Files that do not exist or are not images are included: reading them reports what is wrong.

    Args:
        inputs: files and folders.
        channels: input channels of the network. If more than 1, files `NAME_0000`, `NAME_0001`, ... (nnU-Net) form one
            case where there is one for each channel.

    Returns:
        Cases without labels.

    Raises:
        DataError: folders without images, and different images with the same stem.
    """
    cases: list[Case] = []
    problems: list[Problem] = []
    for path in map(Path, inputs):
        with refuse_unreadable(path):
            found = _find_images_in(path, channels)
            cases += found
            if not found:
                got, action = f"a folder with {_describe_content(path)}", "Check the path, or convert the files."
                problems.append(Problem(str(path), got, f"images: {format_names()}", action))
    cases = list({tuple(image.absolute() for image in case.images): case for case in cases}.values())
    problems += _find_same_ids(Path(), cases)
    if problems:
        raise DataError(problems)
    return cases


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
        got, action = f"a path that cannot be read ({reason})", f"Check its permissions: chmod u+rx '{where}'"
        raise DataError(Problem(str(where), got, "a readable folder", action)) from None


def _read(path: Path) -> Dataset:
    if path.name == DATASET_JSON and path.is_file():
        path = path.parent
    name = stem_of(path.resolve())
    if path.is_file() and path.suffix.lower() == ".csv":
        return read_manifest(path, name)
    if not path.is_dir():
        got = "a file that is no data set" if path.exists() else "no such file or folder"
        raise DataError(Problem(str(path), got, f"a folder with {_LAYOUTS}", "Check the path."))
    if (path / DATASET_JSON).is_file():
        return read_dataset_json(path, name)
    has_masks = any(list_images(path / folder) for folder in LABEL_FOLDERS)
    if not has_masks and (outlines := read_outlines(path, name)) is not None:
        return outlines
    if is_folder_layout(path):
        return read_folder(path, name)
    if list_subset_folders(path):
        return read_subset_folders(path, name)
    if (cases := find_kaggle_root(path)) is not None:
        return read_kaggle(cases, name)
    tables = sorted(path.glob("*.csv"))
    if len(tables) == 1:
        return read_manifest(tables[0], name)
    got, action = f"a folder with {_describe_content(path)}", "Arrange or name the files so, or write the CSV table."
    raise DataError(Problem(str(path), got, _LAYOUTS, action))


def _describe_content(folder: Path) -> str:
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir() if not path.name.startswith("."))
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "nothing in it"


def _find_images_in(path: Path, channels: int) -> list[Case]:
    if path.is_file() and (path.suffix.lower() == ".csv" or path.name == DATASET_JSON):
        return [replace(case, labels=()) for case in find_cases(path).cases]
    return _find_images_in_folder(path, channels) if path.is_dir() else [Case(stem_of(path), (path,))]


def _find_images_in_folder(folder: Path, channels: int) -> list[Case]:
    files = list_images(folder)
    if files or folder.name in _NNUNET_FOLDERS:
        return _group_channels(folder, files, channels)
    inner = next((folder / name for name in ("images", "imagesTs", "imagesTr") if list_images(folder / name)), None)
    if inner is not None:
        return _find_images_in_folder(inner, channels)
    if subsets := list_subset_folders(folder):
        return [case for path in subsets for case in _find_images_in_folder(path, channels)]
    root = find_kaggle_root(folder) or folder
    return [case for path in sorted(root.iterdir()) for case in _find_kaggle_images(path, channels)]


def _find_kaggle_images(folder: Path, channels: int) -> list[Case]:
    """Find the image of `ID/images/`, named ID as in training; several images keep their own names."""
    files = list_images(folder / "images")
    if len(files) == 1:
        return [Case(folder.name, (files[0],))]
    return _group_channels(folder / "images", files, channels)


def _group_channels(folder: Path, files: list[Path], channels: int) -> list[Case]:
    """Join files NAME_0000, NAME_0001, ... to one case, if there are as many as the network has channels.

    A single channel has such a number only in folders of nnU-Net.
    """
    fewest = 1 if folder.name in _NNUNET_FOLDERS else 2
    complete = {stem: paths for stem, paths in group_channel_files(folder).items() if len(paths) == channels >= fewest}
    grouped = {path for paths in complete.values() for path in paths}
    singles = [Case(stem_of(path), (path,)) for path in files if path not in grouped and is_image(path)]
    return sorted([*singles, *(Case(stem, tuple(paths)) for stem, paths in complete.items())], key=lambda case: case.id)


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
