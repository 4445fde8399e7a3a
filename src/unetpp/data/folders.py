"""Layouts that are told by the names of folders: images with masks, labels or instances; splits of these; Kaggle's nuclei."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import replace
from pathlib import Path

from unetpp.data.dataset import Case, Dataset, Subset
from unetpp.data.formats import is_image, stem_of
from unetpp.errors import DataError, Problem

LABEL_FOLDERS = ("masks", "labels", "instances")
SUBSETS: dict[str, Subset] = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test", "testing": "test"
}  # fmt: skip
_LABEL_ENDINGS = ("_mask", "_label", "_seg")
_SILENT_SUFFIXES = (".raw", ".zraw", ".db", ".ini")
"""Voxels of .mhd and .nhdr files, and what Windows leaves in folders."""


def is_folder_layout(root: Path) -> bool:
    return (root / "images").is_dir()


def read_folder(root: Path, name: str) -> Dataset:
    """`images/` and one of `masks/`, `labels/`, `instances/`, paired by stem; `a_mask.png` is a label of `a.png`, too."""
    label_folder = next((root / folder for folder in LABEL_FOLDERS if (root / folder).is_dir()), None)
    if label_folder is None:
        raise DataError(
            Problem(
                str(root),
                "a folder images without labels",
                "a folder masks, labels or instances beside it",
                "Add the masks, one for each image.",
            )
        )
    images, image_problems, image_notes = files_by_stem(root / "images")
    labels, label_problems, label_notes = files_by_stem(label_folder)
    labels = {image_stem(stem, images): path for stem, path in labels.items()}
    cases = [Case(stem, (images[stem],), (labels[stem],)) for stem in images if stem in labels]
    problems = [*image_problems, *label_problems, *_unpaired(images, labels, root / "images", label_folder)]
    instances = label_folder.name == "instances"
    return Dataset(
        name,
        root,
        "instances" if instances else "folder",
        tuple(cases),
        instances=instances,
        problems=tuple(problems),
        notes=tuple(image_notes + label_notes),
    )


def is_subset_layout(root: Path) -> bool:
    return any(is_folder_layout(folder) and folder.name.lower() in SUBSETS for folder in _folders(root))


def read_subset_folders(root: Path, name: str) -> Dataset:
    """`train/`, `val/` and `test/`, each with its own `images/` and labels."""
    parts = [
        (SUBSETS[folder.name.lower()], folder)
        for folder in _folders(root)
        if folder.name.lower() in SUBSETS and is_folder_layout(folder)
    ]
    labelled = [(split, folder) for split, folder in parts if any((folder / label).is_dir() for label in LABEL_FOLDERS)]
    if not labelled:
        return read_folder(parts[0][1], name)
    read = [(split, read_folder(folder, name)) for split, folder in labelled]
    first = read[0][1]
    return replace(
        first,
        root=root,
        cases=tuple(replace(case, split=split) for split, part in read for case in part.cases),
        problems=tuple(problem for _, part in read for problem in part.problems),
        notes=tuple(note for _, part in read for note in part.notes),
    )


def kaggle_root(root: Path) -> Path | None:
    """The folder that holds `ID/images/` and `ID/masks/`: `root` or its `stage1_train`."""
    return next(
        (
            folder
            for folder in (root / "stage1_train", root)
            if any((case / "images").is_dir() for case in _folders(folder))
        ),
        None,
    )


def read_kaggle(root: Path, name: str) -> Dataset:
    """`ID/images/ID.png` and `ID/masks/*.png`, one file for each object."""
    cases, problems = [], []
    for folder in _folders(root):
        images = image_files(folder / "images")
        masks = image_files(folder / "masks")
        if len(images) == 1 and masks:
            cases.append(Case(folder.name, (images[0],), tuple(masks)))
        elif len(images) != 1:
            problems.append(
                Problem(
                    str(folder / "images"),
                    f"{len(images)} images",
                    "one image",
                    "Leave one image in each folder, or remove the folder.",
                )
            )
        else:
            problems.append(
                Problem(
                    str(folder / "masks"),
                    "no masks",
                    "one mask file for each object",
                    "Add the masks, or remove the folder.",
                )
            )
    return Dataset(name, root, "kaggle", tuple(cases), instances=True, problems=tuple(problems))


def image_files(folder: Path) -> list[Path]:
    """The files of a folder that are named like images, in order; [] where there is no such folder."""
    return [path for path in _entries(folder) if is_image(path) and not path.is_dir()]


def files_by_stem(folder: Path) -> tuple[dict[str, Path], list[Problem], list[str]]:
    """The images of a folder by stem, a problem for each stem that is there twice, and a note on what was ignored."""
    found: dict[str, list[Path]] = {}
    for path in image_files(folder):
        found.setdefault(stem_of(path), []).append(path)
    twice = [same_stem(folder, stem, paths) for stem, paths in found.items() if len(paths) > 1]
    return {stem: paths[0] for stem, paths in found.items()}, twice, _ignored(folder)


def same_stem(where: Path, stem: str, paths: Iterable[Path]) -> Problem:
    names = ", ".join(str(path.relative_to(where) if path.is_relative_to(where) else path) for path in paths)
    return Problem(
        str(where),
        f"several images with the stem {stem} ({names})",
        "one file for each stem, which pairs images with labels",
        "Rename or remove all but one.",
    )


def missing(where: Path, what: str, owner: str) -> Problem:
    """The problem of a file that belongs to another and is not there."""
    return Problem(str(where), f"no {what} for {owner}", "one of the same stem", f"Add the {what}, or remove {owner}.")


def _unpaired(
    images: dict[str, Path], labels: dict[str, Path], image_folder: Path, label_folder: Path
) -> list[Problem]:
    without_label = [
        missing(label_folder, "mask", f"{image_folder.name}/{path.name}")
        for stem, path in images.items()
        if stem not in labels
    ]
    without_image = [
        missing(image_folder, "image", f"{label_folder.name}/{path.name}")
        for stem, path in labels.items()
        if stem not in images
    ]
    return without_label + without_image


def image_stem(stem: str, images: Container[str]) -> str:
    """`a_mask` becomes `a` where there is an image `a` and none `a_mask`."""
    shorter = next((stem.removesuffix(ending) for ending in _LABEL_ENDINGS if stem.endswith(ending)), stem)
    return shorter if stem not in images and shorter in images else stem


def _ignored(folder: Path) -> list[str]:
    names = [
        path.name
        for path in _entries(folder)
        if not (path.name.startswith(".") or is_image(path) or path.suffix.lower() in _SILENT_SUFFIXES)
    ]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return [f"{folder}: ignored {', '.join(names[:3])}{more} (neither an image nor named like one)"] if names else []


def _folders(root: Path) -> list[Path]:
    return [path for path in _entries(root) if path.is_dir() and not path.name.startswith((".", "__MACOSX"))]


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
