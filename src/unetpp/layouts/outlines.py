"""Layout of images with outlines: files of annotation programs beside them, or in a folder next to theirs."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from unetpp.annotations import SUFFIXES as ANNOTATION_SUFFIXES
from unetpp.annotations import Annotations, is_annotation, read_annotations, yolo
from unetpp.errors import DataError, Problem
from unetpp.formats import is_image, stem_of
from unetpp.layouts.dataset import Case, Dataset
from unetpp.layouts.folders import SUBSETS, list_entries
from unetpp.words import list_some

BACKGROUND = "background"
_DEPTH = 4
"""Number of folders, one in the other, that are searched."""
_FOLDERS = ("images", "image", "imgs", "img", "jpegimages", "labels", "label", "annotations", "annotation", "outlines")
"""Folders whose names say nothing about a case: images/train/a.jpg belongs to labels/train/a.txt."""


@dataclass(frozen=True)
class _Pair:
    image: Path
    annotation: Path
    key: str
    """Name of the image in the annotation; "" if it is its only one."""


def read_outlines(root: Path, name: str) -> Dataset | None:
    """Read images with outlines; None if there are none.

    Args:
        root: folder with images and annotations, in folders of any depth up to four.
        name: name of the data set.

    Returns:
        Cases whose labels are annotations, with the values of their classes.

    Raises:
        DataError: all annotations that cannot be read or have no image.
    """
    images, files = _list_files(root)
    if not images or not files:
        return None
    read, problems = _read_all(files)
    if not any(annotations.names for annotations in read.values()):
        return None
    known = _KnownImages(root, images)
    pairs = [pair for path, found in read.items() for pair in _pair(path, found, known, problems)]
    names = _name_classes(root, read)
    values = tuple((own, index) for index, own in enumerate(names, start=1))
    shown = list(dict.fromkeys(names.values()))
    numbers = tuple((own, 1 + shown.index(names[own])) for own, _ in values)
    cases = _make_cases(root, pairs, numbers)
    classes = {0: BACKGROUND, **{index: each for index, each in enumerate(shown, start=1)}}
    notes = _describe(read, images, pairs)
    return Dataset(name, root, "outlines", cases, classes=classes, problems=tuple(problems), notes=notes)


def _list_files(root: Path) -> tuple[list[Path], list[Path]]:
    """List images, and files that may hold outlines."""
    found: list[Path] = []
    folders = [root]
    for _ in range(_DEPTH):
        entries = [
            path for folder in folders for path in list_entries(folder) if not path.name.startswith(".")
        ]
        found += [path for path in entries if path.is_file()]
        folders = [path for path in entries if path.is_dir() and path.name != "__MACOSX"]
    maybe = [path for path in found if path.suffix.lower() in ANNOTATION_SUFFIXES]
    return [path for path in found if is_image(path)], maybe


def _read_all(files: Iterable[Path]) -> tuple[dict[Path, Annotations], list[Problem]]:
    read, problems = {}, []
    for path in files:
        if not is_annotation(path):
            continue
        try:
            read[path] = read_annotations(path)
        except DataError as error:
            problems += error.problems
    return read, problems


class _KnownImages:
    """The images of a data set, by what annotation files are paired with.

    Args:
        root: folder of the data set.
        images: its images, in order.
    """

    def __init__(self, root: Path, images: Iterable[Path]) -> None:
        self._root = root
        self._by_key: dict[str, list[Path]] = {}
        self.by_name: dict[str, list[Path]] = {}
        for image in images:
            self._by_key.setdefault(_key(root, image), []).append(image)
            self.by_name.setdefault(_fold(image.name), []).append(image)

    def find(self, path: Path) -> list[Path]:
        """Find the images that an annotation file of one image is named after: a.json or a.png.json for a.png."""
        name = _fold(path.name)
        stops = [index for index, sign in enumerate(name) if sign == "."]
        named = (image for stop in stops for image in self.by_name.get(name[:stop], []))
        return self._by_key.get(_key(self._root, path)) or sorted(named)


def _pair(path: Path, found: Annotations, images: _KnownImages, problems: list[Problem]) -> list[_Pair]:
    """Find the images of one annotation file."""
    if set(found.images) == {""}:
        matching = images.find(path)
        keyed = [(image, "") for image in matching]
        missing = [] if matching else [path.name]
    else:
        chosen = {key: _closest(path, key, images.by_name.get(_fold(Path(key).name), [])) for key in found.images}
        keyed = [(image, key) for key, image in chosen.items() if image is not None]
        missing = [key for key, image in chosen.items() if image is None]
    if missing:
        got = f"no image for {len(missing)} of its annotations ({list_some(missing)})" if keyed else "no image for it"
        problems.append(Problem(str(path), got, "the images that were annotated", "Add them, or remove the file."))
    return [_Pair(image, path, key) for image, key in keyed]


def _closest(path: Path, key: str, images: Sequence[Path]) -> Path | None:
    """Choose, of images of the same name, that whose folders agree with the key, then with the annotation's place."""

    def agreement(image: Path) -> tuple[int, int]:
        parts = [_fold(part) for part in Path(key).parts[::-1]]
        own = [_fold(part) for part in image.parts[::-1]]
        same = sum(1 for _ in islice((1 for a, b in zip(parts, own, strict=False) if a == b), len(parts)))
        subset = any(word in path.stem.lower() for word in SUBSETS if word in map(str.lower, image.parts))
        return same, subset + sum(a == b for a, b in zip(image.parts, path.parts, strict=False))

    return max(images, key=agreement, default=None)


def _key(root: Path, path: Path) -> str:
    """Return what an image and its annotation have in common: folders but those of `_FOLDERS`, and the stem."""
    folders = [_fold(part) for part in path.relative_to(root).parts[:-1]]
    stem = stem_of(path) if is_image(path) else path.name[: len(path.name) - len(path.suffix)]
    stem = stem.removesuffix("_RoiSet").removesuffix("RoiSet_").removeprefix("RoiSet_")
    return "/".join([*(part for part in folders if part not in _FOLDERS), _fold(stem)])


def _fold(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _name_classes(root: Path, read: Mapping[Path, Annotations]) -> dict[str, str]:
    """Map the names in the files to those that are shown: numbers of YOLO to the names in its own file."""
    own = dict.fromkeys(name for annotations in read.values() for name in annotations.names)
    if any(annotations.kind != "YOLO" for annotations in read.values()):
        return {name: name for name in sorted(own)}
    ordered = sorted(own, key=int)
    tables = [path for name in yolo.NAMES for path in sorted((*root.glob(name), *root.glob(f"*/{name}")))]
    listed = next((names for path in tables if (names := yolo.read_names(path))), [])
    return {name: listed[int(name)] if int(name) < len(listed) else f"class_{name}" for name in ordered}


def _make_cases(root: Path, pairs: Sequence[_Pair], values: tuple[tuple[str, int], ...]) -> tuple[Case, ...]:
    stems = [stem_of(pair.image) for pair in pairs]
    counts = Counter(stems)
    cases = []
    for pair, stem in zip(pairs, stems, strict=True):
        folders = pair.image.relative_to(root).parts[:-1]
        split = next((SUBSETS[part.lower()] for part in folders if part.lower() in SUBSETS), None)
        split = split or next(
            (SUBSETS[word] for word in SUBSETS if word in pair.annotation.stem.lower().split("_")), None
        )
        id = stem if counts[stem] == 1 else "_".join((*folders, stem))
        cases.append(Case(id, (pair.image,), (pair.annotation,), class_values=values, split=split, label_key=pair.key))
    return tuple(sorted(cases, key=lambda case: case.id))


def _describe(read: Mapping[Path, Annotations], images: Sequence[Path], pairs: Sequence[_Pair]) -> tuple[str, ...]:
    kinds = sorted({annotations.kind for annotations in read.values()})
    left_out = sorted({kind for annotations in read.values() for kind in annotations.left_out})
    without = sorted({*images} - {pair.image for pair in pairs})
    notes = [f"labels are drawn from outlines of {' and '.join(kinds)}"]
    notes += [f"{', '.join(left_out)} have no area and are left out"] if left_out else []
    notes += [f"images without annotations are left out: {list_some(path.name for path in without)}"] if without else []
    return tuple(notes)
