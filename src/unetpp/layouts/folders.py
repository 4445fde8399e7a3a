"""Contents of folders, what is missing in them, and the layout of the Kaggle nuclei."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from unetpp.errors import Problem
from unetpp.formats import is_image, is_store, stem_of
from unetpp.layouts.dataset import Case, Dataset, Subset
from unetpp.words import list_some

SUBSETS: dict[str, Subset] = {
    "train": "train", "training": "train", "val": "validation", "valid": "validation", "validation": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
"""Subset by the name of its folder, and by the entry in the column `split` of a table."""
_JUNK_FOLDERS = (".", "__MACOSX", "@eaDir")


def is_folder_layout(root: Path) -> bool:
    """Tell whether a folder has a folder `images`."""
    return (root / "images").is_dir()


def find_kaggle_root(root: Path) -> Path | None:
    """Find the folder that holds `ID/images/` and `ID/masks/`: `root`, or its `stage1_train` or `train`."""
    for folder in (root / "stage1_train", root, root / "train"):
        if any(is_folder_layout(case) for case in list_folders(folder)):
            return folder
    return None


def is_kaggle(root: Path) -> bool:
    """Tell whether most folders have one image each, and one has masks that are not named after it."""
    folders = [path for path in list_folders(root) if is_folder_layout(path)]
    images = {path: list_images(path / "images") for path in folders}
    if any(path.name.lower() in SUBSETS for path in folders) or sum(map(len, images.values())) > 1.5 * len(folders):
        return False
    names = ((images[path], [stem_of(mask) for mask in list_images(path / "masks")]) for path in folders)
    return any(len(masks) > 1 or [stem_of(path) for path in own] != masks for own, masks in names)


def read_kaggle(root: Path, name: str) -> Dataset:
    """Read `ID/images/ID.png` and `ID/masks/*.png`, one file for each object."""
    cases, problems, unlabeled = [], [], []
    for folder in list_folders(root):
        images, masks = list_images(folder / "images"), list_images(folder / "masks")
        if len(images) != 1:
            where, action = str(folder / "images"), "Leave one image in each folder, or remove the folder."
            problems.append(Problem(where, f"{len(images)} images", "one image", action))
        elif not masks:
            unlabeled.append(folder)
        else:
            cases.append(Case(folder.name, (images[0],), tuple(masks)))
    notes = (note_unlabeled([folder.name for folder in unlabeled], len(cases) + len(unlabeled)),) if unlabeled else ()
    if not cases:
        got, action = "no masks", "Add the masks, or remove the folder."
        problems += [
            Problem(str(folder / "masks"), got, "one mask file for each object", action) for folder in unlabeled
        ]
        notes = ()
    return Dataset(name, root, "kaggle", tuple(cases), instances=True, problems=tuple(problems), notes=notes)


def list_images(folder: Path) -> list[Path]:
    """List the files of a folder with the suffix of an image, in order; [] if there is no such folder."""
    return [path for path in list_entries(folder) if is_image(path) and (is_store(path) or not path.is_dir())]


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
    return Problem(str(where), got, expected, "Rename or remove all but one.", topic="pairs")


def describe_missing(where: Path, what: str, owner: str) -> Problem:
    """Describe the problem of an absent file.

    Args:
        where: the absent file, or its folder.
        what: `image`, `label` or `mask`.
        owner: name of the file that it belongs to.

    Returns:
        The problem.
    """
    return Problem(
        str(where),
        f"no {what} for {owner}",
        "one of the same stem",
        f"Add the {what}, or remove {owner}.",
        topic="pairs",
    )


def note_unlabeled(names: Sequence[str], total: int) -> str:
    """Note that images have no label, and that training leaves them out."""
    verb = "has no label and is" if len(names) == 1 else "have no label and are"
    advice = "to train on them, add labels of their names"
    return f"{len(names)} of {total} images {verb} left out: {list_some(names)}; {advice}"


def list_folders(root: Path) -> list[Path]:
    """List the folders in a folder, in order, without hidden ones, archives' and stores; [] if there is none."""
    folders = [path for path in list_entries(root) if path.is_dir() and not path.name.startswith(_JUNK_FOLDERS)]
    return [path for path in folders if not is_store(path)]


def list_entries(folder: Path) -> list[Path]:
    """List what is in a folder, in order; [] if there is no such folder."""
    return sorted(folder.iterdir(), key=lambda path: path.name) if folder.is_dir() else []
