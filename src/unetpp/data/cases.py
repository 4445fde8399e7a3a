"""From a path to cases: which layout it is, and what is missing in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from unetpp.data.dataset import Case, Dataset
from unetpp.data.dataset_json import NAME as DATASET_JSON
from unetpp.data.dataset_json import channel_files, read_dataset_json
from unetpp.data.folders import (
    SUBSETS,
    image_files,
    is_folder_layout,
    is_subset_layout,
    kaggle_root,
    read_folder,
    read_kaggle,
    read_subset_folders,
    same_stem,
)
from unetpp.data.formats import format_names, is_image, stem_of
from unetpp.data.manifest import read_manifest
from unetpp.errors import DataError, Problem

__all__ = ["Case", "Dataset", "find_cases", "find_images", "refuse_unreadable"]

_LAYOUTS = (
    "images/ with masks/, labels/ or instances/ beside it; a dataset.json with imagesTr/ and labelsTr/ (Medical Segmentation Decathlon, nnU-Net); "
    "ID/images/ and ID/masks/ (Kaggle nuclei); or a CSV table with the columns image, label, group, split"
)
_NNUNET_FOLDERS = ("imagesTr", "imagesTs", "imagesVal")


def find_cases(path: str | Path, *, tolerant: bool = False) -> Dataset:
    """Find the cases of a data set in any layout. No image is opened.

    Args:
        path: a folder, a dataset.json or a CSV table.
        tolerant: leave the problems in `Dataset.problems`, so that `inspect_dataset` reports them with those of the files.

    Raises:
        DataError: nothing that is a data set; or, unless `tolerant`, every missing file, double stem and wrong declaration.
    """
    with refuse_unreadable(path):
        dataset = _read(Path(path))
    dataset = replace(
        dataset, problems=(*dataset.problems, *_same_ids(dataset.root, dataset.cases), *_unwritable_names(dataset))
    )
    if not dataset.cases and not dataset.problems:
        raise DataError(
            Problem(
                str(path), "no images", "at least two images with masks", "Check the path and the names of the files."
            )
        )
    if dataset.problems and not tolerant:
        raise DataError(dataset.problems)
    return dataset


def find_images(inputs: Sequence[str | Path], channels: int = 1) -> list[Case]:
    """Images to predict: files, or folders of images; of a data set, its images.

    Files that do not exist or are no images are kept: the reader tells what is wrong with them.

    Args:
        inputs: files and folders.
        channels: input channels of the network. With more than 1, files `NAME_0000`, `NAME_0001`, ... (nnU-Net) are one case where there is one for each channel.

    Raises:
        DataError: a folder without images, or two different images that have the same stem.
    """
    cases: list[Case] = []
    problems: list[Problem] = []
    for path in map(Path, inputs):
        with refuse_unreadable(path):
            found = _images_of(path, channels)
            cases += found
            if not found:
                got, action = f"a folder with {_content(path)}", "Check the path, or convert the files."
                problems.append(Problem(str(path), got, f"images: {format_names()}", action))
    cases = list({tuple(image.absolute() for image in case.images): case for case in cases}.values())
    problems += _same_ids(Path(), cases)
    if problems:
        raise DataError(problems)
    return cases


@contextmanager
def refuse_unreadable(path: str | Path) -> Iterator[None]:
    """Name the folder whose content may not be seen."""
    try:
        yield
    except OSError as error:
        where, reason = error.filename or path, error.strerror or error
        raise DataError(
            Problem(
                str(where),
                f"a path that cannot be read ({reason})",
                "a readable folder",
                f"Check its permissions: chmod u+rx '{where}'",
            )
        ) from None


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
    if is_folder_layout(path):
        return read_folder(path, name)
    if is_subset_layout(path):
        return read_subset_folders(path, name)
    if (cases := kaggle_root(path)) is not None:
        return read_kaggle(cases, name)
    tables = sorted(path.glob("*.csv"))
    if len(tables) == 1:
        return read_manifest(tables[0], name)
    raise DataError(
        Problem(
            str(path),
            f"a folder with {_content(path)}",
            _LAYOUTS,
            "Arrange or name the files so, or write the CSV table.",
        )
    )


def _content(folder: Path) -> str:
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir() if not path.name.startswith("."))
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "nothing in it"


def _images_of(path: Path, channels: int) -> list[Case]:
    if path.is_file() and (path.suffix.lower() == ".csv" or path.name == DATASET_JSON):
        dataset = find_cases(path, tolerant=True)
        if dataset.problems:
            raise DataError(dataset.problems)
        return [replace(case, labels=()) for case in dataset.cases]
    return _images_in(path, channels) if path.is_dir() else [Case(stem_of(path), (path,))]


def _images_in(folder: Path, channels: int) -> list[Case]:
    files = image_files(folder)
    if folder.name in _NNUNET_FOLDERS:
        return _grouped(folder, files, channels, fewest=1)
    if files:
        return _grouped(folder, files, channels)
    inner = next((folder / name for name in ("images", "imagesTs", "imagesTr") if image_files(folder / name)), None)
    if inner is not None:
        return _images_in(inner, channels)
    if is_subset_layout(folder):
        return [
            case
            for part in sorted(folder.iterdir())
            if part.name.lower() in SUBSETS and is_folder_layout(part)
            for case in _images_in(part, channels)
        ]
    return [
        case for part in sorted((kaggle_root(folder) or folder).iterdir()) for case in _kaggle_images(part, channels)
    ]


def _kaggle_images(folder: Path, channels: int) -> list[Case]:
    """The image of `ID/images/`, named ID as in training; several, each by its own name."""
    files = image_files(folder / "images")
    return [Case(folder.name, (files[0],))] if len(files) == 1 else _grouped(folder / "images", files, channels)


def _grouped(folder: Path, files: list[Path], channels: int, fewest: int = 2) -> list[Case]:
    """Files NAME_0000, NAME_0001, ... are one case where there are as many as the network has channels, and at least `fewest`."""
    complete = {stem: paths for stem, paths in channel_files(folder).items() if len(paths) == channels >= fewest}
    grouped = {path for paths in complete.values() for path in paths}
    singles = [Case(stem_of(path), (path,)) for path in files if path not in grouped and is_image(path)]
    return sorted([*singles, *(Case(stem, tuple(paths)) for stem, paths in complete.items())], key=lambda case: case.id)


def _unwritable_names(dataset: Dataset) -> list[Problem]:
    """Names in another encoding, as old archives have them, can neither be shown nor written into a table."""
    odd = [
        case.id
        for case in dataset.cases
        if not case.id.isascii() and case.id.encode(errors="ignore").decode() != case.id
    ]
    action = "Rename the file, for example with convmv."
    return [
        Problem(str(dataset.root), f"the file name {name!a}, which is not UTF-8", "a name in UTF-8", action)
        for name in odd
    ]


def _same_ids(where: Path, cases: Sequence[Case]) -> list[Problem]:
    by_id: dict[str, list[Path]] = {}
    for case in cases:
        by_id.setdefault(case.id, []).append(case.images[0])
    return [same_stem(where, id, paths) for id, paths in by_id.items() if len(paths) > 1]
