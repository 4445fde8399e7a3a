"""Layouts by folder names: images with masks, labels or instances; train, val and test of these; Kaggle nuclei."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import replace
from pathlib import Path

from unetpp.errors import DataError, Problem
from unetpp.formats import is_companion, is_image, stem_of
from unetpp.layouts.dataset import Case, Dataset, Subset
from unetpp.words import list_some

LABEL_FOLDERS = ("masks", "labels", "instances")
SUBSETS: dict[str, Subset] = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
"""Subset by the name of its folder, and by the entry in the column `split` of a table."""
_LABEL_ENDINGS = ("_mask", "_label", "_seg")
_SILENT_SUFFIXES = (".raw", ".zraw", ".db", ".ini")
"""Suffixes that are ignored without a note: voxels of .mhd and .nhdr files, system files of Windows."""


def is_folder_layout(root: Path) -> bool:
    """Tell whether a folder has a folder `images`."""
    return (root / "images").is_dir()


def read_folder(root: Path, name: str) -> Dataset:
    """Pair `images/` by stem with one of `masks/`, `labels/`, `instances/`; `a_mask.png` is a label of `a.png`, too.

    Raises:
        DataError: no folder of labels.
    """
    label_folder = next((root / folder for folder in LABEL_FOLDERS if (root / folder).is_dir()), None)
    if label_folder is None:
        got, expected = "a folder images without labels", "a folder masks, labels or instances next to it"
        raise DataError(Problem(str(root), got, expected, "Add the masks, one for each image."))
    images, image_problems, image_notes = _group_by_stem(root / "images")
    labels, label_problems, label_notes = _group_by_stem(label_folder)
    labels = {image_stem(stem, images): path for stem, path in labels.items()}
    instances = label_folder.name == "instances"
    return Dataset(
        name,
        root,
        "instances" if instances else "folder",
        tuple(Case(stem, (images[stem],), (labels[stem],)) for stem in images if stem in labels),
        instances=instances,
        problems=(*image_problems, *label_problems, *_find_unpaired(images, labels, root / "images", label_folder)),
        notes=(*image_notes, *label_notes),
    )


def list_subset_folders(root: Path) -> list[Path]:
    """List `train/`, `val/` and `test/`, as far as they have a folder `images`."""
    return [path for path in _list_folders(root) if path.name.lower() in SUBSETS and is_folder_layout(path)]


def read_subset_folders(root: Path, name: str) -> Dataset:
    """Read `train/`, `val/` and `test/`, each with `images/` and labels. Raises as `read_folder`."""
    folders = list_subset_folders(root)
    labeled = [path for path in folders if any((path / label).is_dir() for label in LABEL_FOLDERS)]
    if not labeled:
        return read_folder(folders[0], name)
    datasets = [read_folder(path, name) for path in labeled]
    return replace(
        datasets[0],
        root=root,
        cases=tuple(
            replace(case, split=SUBSETS[path.name.lower()])
            for path, dataset in zip(labeled, datasets, strict=True)
            for case in dataset.cases
        ),
        problems=tuple(problem for dataset in datasets for problem in dataset.problems),
        notes=tuple(note for dataset in datasets for note in dataset.notes),
    )


def find_kaggle_root(root: Path) -> Path | None:
    """Find the folder that holds `ID/images/` and `ID/masks/`: `root` or its `stage1_train`."""
    for folder in (root / "stage1_train", root):
        if any(is_folder_layout(case) for case in _list_folders(folder)):
            return folder
    return None


def read_kaggle(root: Path, name: str) -> Dataset:
    """Read `ID/images/ID.png` and `ID/masks/*.png`, one file for each object."""
    cases, problems = [], []
    for folder in _list_folders(root):
        images, masks = list_images(folder / "images"), list_images(folder / "masks")
        if len(images) != 1:
            where, action = str(folder / "images"), "Leave one image in each folder, or remove the folder."
            problems.append(Problem(where, f"{len(images)} images", "one image", action))
        elif not masks:
            where, action = str(folder / "masks"), "Add the masks, or remove the folder."
            problems.append(Problem(where, "no masks", "one mask file for each object", action))
        else:
            cases.append(Case(folder.name, (images[0],), tuple(masks)))
    return Dataset(name, root, "kaggle", tuple(cases), instances=True, problems=tuple(problems))


def list_images(folder: Path) -> list[Path]:
    """List the files of a folder with the suffix of an image, in order; [] if there is no such folder."""
    return [path for path in _list_entries(folder) if is_image(path) and not path.is_dir()]


def describe_same_stem(where: Path, stem: str, paths: Iterable[Path]) -> Problem:
    """Describe the problem of several images with the same stem.

    Args:
        where: their folder, or the root of the data set.
        stem: the name that they share.
        paths: the images.

    Returns:
        The problem.
    """
    names = ", ".join(str(path.relative_to(where) if path.is_relative_to(where) else path) for path in paths)
    got, expected = f"several images with the stem {stem} ({names})", "one file for each stem: it pairs image and label"
    return Problem(str(where), got, expected, "Rename or remove all but one.")


def describe_missing(where: Path, what: str, owner: str) -> Problem:
    """Describe the problem of an absent file.

    Args:
        where: the absent file, or its folder.
        what: `image`, `label` or `mask`.
        owner: name of the file that it belongs to.

    Returns:
        The problem.
    """
    return Problem(str(where), f"no {what} for {owner}", "one of the same stem", f"Add the {what}, or remove {owner}.")


def image_stem(stem: str, images: Container[str]) -> str:
    """Return `a` for the label `a_mask`, if there is an image `a` and none `a_mask`."""
    shorter = next((stem.removesuffix(ending) for ending in _LABEL_ENDINGS if stem.endswith(ending)), stem)
    return shorter if stem not in images and shorter in images else stem


def _group_by_stem(folder: Path) -> tuple[dict[str, Path], list[Problem], list[str]]:
    """Map stems to images; report repeated stems as problems and ignored files as notes."""
    found: dict[str, list[Path]] = {}
    for path in list_images(folder):
        found.setdefault(stem_of(path), []).append(path)
    repeated = [describe_same_stem(folder, stem, paths) for stem, paths in found.items() if len(paths) > 1]
    return {stem: paths[0] for stem, paths in found.items()}, repeated, _note_ignored(folder)


def _find_unpaired(
    images: dict[str, Path], labels: dict[str, Path], image_folder: Path, label_folder: Path
) -> list[Problem]:
    unlabeled = [path.name for stem, path in images.items() if stem not in labels]
    orphaned = [path.name for stem, path in labels.items() if stem not in images]
    return [
        *(describe_missing(label_folder, "mask", f"{image_folder.name}/{name}") for name in unlabeled),
        *(describe_missing(image_folder, "image", f"{label_folder.name}/{name}") for name in orphaned),
    ]


def _note_ignored(folder: Path) -> list[str]:
    names = [
        path.name
        for path in _list_entries(folder)
        if not (path.name.startswith(".") or is_image(path) or path.suffix.lower() in _SILENT_SUFFIXES)
        and not is_companion(path)
    ]
    return [f"{folder}: ignored {list_some(names)} (neither an image nor named like one)"] if names else []


def _list_folders(root: Path) -> list[Path]:
    return [path for path in _list_entries(root) if path.is_dir() and not path.name.startswith((".", "__MACOSX"))]


def _list_entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
