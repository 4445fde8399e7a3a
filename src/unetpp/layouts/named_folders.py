"""Images and labels found by the names of folders and files: beside each other, in one folder, by subset or patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unetpp.errors import Problem
from unetpp.formats import format_names
from unetpp.layouts.case_groups import assign_subsets_by_prefix, group_by_folder, make_ids_unique, name_case
from unetpp.layouts.dataset import Case, Dataset, Layout
from unetpp.layouts.folders import note_unlabeled
from unetpp.layouts.label_folders import Joined, LabelName, choose_label_folders
from unetpp.layouts.label_places import FITS, attach_labels, divide_places, find_image_folders
from unetpp.layouts.names import OBJECT_WORDS, holds_copies, split_marker, split_words
from unetpp.layouts.paired_files import CHOOSE, Files, PairedFiles, pair_files, split_mixed_folder
from unetpp.layouts.pairing import describe_name
from unetpp.layouts.split_lists import assign_listed_subsets
from unetpp.layouts.tree import Folder, Place, count_types, drop_repeated, note_ignored, scan_folders
from unetpp.words import count_noun, list_some

_OBJECT_MARKERS = ("cpmasks", "anno")
"""Endings of labels beside their images that number objects: Cellpose, gland segmentation."""
_FORMATS = frozenset({"png", "tif", "tiff", "jpg", "jpeg", "bmp"})


@dataclass
class LabeledPlace:
    """The images of one place with their labels."""

    place: Place
    images: Folder
    files: PairedFiles
    joined: Joined = "objects"
    """How several label files of one image are joined."""
    has_objects: bool = False
    is_mixed: bool = False
    """Images and labels lie in one folder."""


def read_named_folders(root: Path, name: str) -> Dataset | None:
    """Read a data set whose folders or files say by their names what they hold; None if they do not.

    Raises:
        DataError: too many folders.
    """
    folders, repeated = drop_repeated(scan_folders(root))
    is_label = {f.path: f.role == "label" and not split_mixed_folder(f.by_stem) for f in folders}
    labels = [folder for folder in folders if is_label[folder.path] and folder.is_filled]
    images = find_image_folders([folder for folder in folders if not is_label[folder.path]])
    attached, problems, notes = attach_labels(images, labels)
    notes = [*repeated, *notes]
    images, attached = divide_places(images, attached)
    found: list[LabeledPlace] = []
    unlabeled: list[Folder] = []
    for place, own in images.items():
        if place in attached:
            found.append(_pair_place(place, own, attached[place]))
        elif len(own) == 1 and (parts := split_mixed_folder(own[0].by_stem)):
            found.append(_pair_mixed(place, own[0], *parts))
        else:
            unlabeled += own
    if not found and not problems:
        return None
    found, copies = _drop_copies(found)
    notes += copies
    labels = [folder for names in attached.values() for folder in names.values()]
    notes += note_ignored({folder.path: folder for folder in (*(place.images for place in found), *labels)}.values())
    dataset = _make_dataset(root, name, found, unlabeled, notes)
    return replace(dataset, problems=(*problems, *dataset.problems))


def _drop_copies(found: list[LabeledPlace]) -> tuple[list[LabeledPlace], list[str]]:
    """Leave out augmented copies of images, which would train on what they validate with."""
    copies = [labeled for labeled in found if any(map(holds_copies, labeled.place.above))]
    if not copies or len(copies) == len(found):
        return found, []
    names = sorted({labeled.images.path.name for labeled in copies})
    notes = [f"augmented copies are left out: {list_some(f'{name}/' for name in names)}"]
    return [labeled for labeled in found if labeled not in copies], notes


def _pair_place(place: Place, images: Sequence[Folder], labels: Mapping[LabelName, Folder]) -> LabeledPlace:
    """Pair the images of a place with its labels, of one folder or of several that belong together."""
    tried = {
        (image.path, name): pair_files(image.by_stem, folder.by_stem)
        for image in images
        for name, folder in labels.items()
    }
    best = max(images, key=lambda image: max(tried[image.path, name].fit for name in labels))
    fitting = sorted(name for name in labels if tried[best.path, name].fit >= FITS)
    for is_plain in (lambda files: files.pairs, lambda files: not files.classes):
        fitting = [name for name in fitting if is_plain(tried[best.path, name])] or fitting
    choice = choose_label_folders(fitting or sorted(labels)[:1])
    rivals = [image for image in images if image != best and any(tried[image.path, n].fit >= FITS for n in fitting)]
    has_objects = all(name.words & OBJECT_WORDS for name in choice.used)
    if rivals or not choice.is_clear:
        folders = [f"{image.path.name}/" for image in [best, *rivals]] if rivals else [f"{name}/" for name in fitting]
        what = "images with the same names" if rivals else "labels of the same images"
        expected = f"one folder of {'images' if rivals else 'labels'}"
        problem = Problem(str(best.path.parent), f"{what} in {' and '.join(folders)}", expected, CHOOSE)
        return LabeledPlace(place, best, PairedFiles(problems=[problem]))
    files = _join_label_folders({name: tried[best.path, name] for name in choice.used}, choice.joined)
    if not files.pairs and not labels[choice.used[0]].images:
        files = PairedFiles(problems=[_describe_unreadable(labels[choice.used[0]])])
    own = place.above[-1] if place.above else ""
    others = [describe_name(str(name), own) for name in labels if name not in choice.used]
    unused = [f"{other}/ is not used: it has not one label for each image" for other in others]
    unused += [f"{image.path.name}/ is not used: its images have no labels" for image in images if image != best]
    files.notes = [*choice.notes, *files.notes, *(note for note in unused if not choice.notes)]
    return LabeledPlace(place, best, files, "classes" if files.classes else choice.joined, has_objects)


def _join_label_folders(tried: Mapping[LabelName, PairedFiles], joined: Joined) -> PairedFiles:
    """Join the labels that each image has in several folders."""
    if len(tried) == 1:
        return next(iter(tried.values()))
    files = PairedFiles()
    for name, own in tried.items():
        for stem, (images, labels) in own.pairs.items():
            files.pairs[stem] = (images, (*files.pairs.get(stem, (images, ()))[1], *labels))
            if joined == "classes":
                files.classes[stem] = (*files.classes.get(stem, ()), *[name.tail] * len(labels))
        files.orphaned += own.orphaned
        files.problems += [problem for problem in own.problems if problem not in files.problems]
        files.notes += [note for note in own.notes if note not in files.notes]
    labeled = {images[0] for images, _ in files.pairs.values()}
    files.unlabeled = [path for path in next(iter(tried.values())).unlabeled if path not in labeled]
    if incomplete := sum(len(labels) < len(tried) for _, labels in files.pairs.values()):
        what = "class" if joined == "classes" else "part"
        files.notes.append(f"a {what} that has no file for an image is absent there: {count_noun(incomplete, 'image')}")
    return files


def _pair_mixed(place: Place, folder: Folder, images: Files, labels: Files) -> LabeledPlace:
    """Pair images and labels in one folder."""
    files = pair_files(images, labels)
    if images.keys() == labels.keys():
        files.notes.append("of two files with one name, the JPEG is taken for the image, the other for its label")
    has_objects = _number_objects(folder, images, labels)
    if has_objects:
        files.notes.append("labels with these names number objects, as cell and gland segmentation programs write them")
    joined: Joined = "classes" if files.classes else "objects"
    return LabeledPlace(place, folder, files, joined, has_objects, is_mixed=True)


def _number_objects(folder: Folder, images: Files, labels: Files) -> bool:
    """Tell whether names are those of programs whose labels number objects: `a_img` and `a_masks`, `a_anno`."""
    markers = {split_marker(stem).marker for stem in labels}
    is_cellpose = all(split_words(stem)[-1:] == ["img"] for stem in images) or any(
        "_flows" in s for s in folder.by_stem
    )
    return markers <= set(_OBJECT_MARKERS) or (markers == {"masks"} and is_cellpose)


def _describe_unreadable(folder: Folder) -> Problem:
    return Problem(
        str(folder.path), count_types(list(folder.others)), f"label images: {format_names()}", "Convert the files."
    )


def _make_dataset(
    root: Path, name: str, found: Sequence[LabeledPlace], unlabeled: Sequence[Folder], notes: Sequence[str]
) -> Dataset:
    groups, group_notes = group_by_folder([labeled.place for labeled in found if labeled.files.pairs])
    joined: Joined = next((labeled.joined for labeled in found if labeled.joined != "objects"), "objects")
    if joined == "objects" and any(len(own) > 1 for labeled in found for _, own in labeled.files.pairs.values()):
        joined = "union"
    cases = [
        (labeled.place, _make_case(labeled, stem, groups.get(labeled.place)))
        for labeled in found
        for stem in labeled.files.pairs
    ]
    unpaired, left_out = _find_unpaired(found)
    problems = [problem for labeled in found for problem in labeled.files.problems]
    remarks = [*notes, *group_notes, *(note for labeled in found for note in labeled.files.notes)]
    remarks += [*_note_unlabeled(root, left_out, len(cases)), *_note_unused(root, unlabeled)]
    instances = bool(cases) and all(labeled.has_objects for labeled in found if labeled.files.pairs)
    unique, split_notes = assign_listed_subsets(root, assign_subsets_by_prefix(make_ids_unique(cases)))
    layout = _name_layout(found, joined, instances)
    return Dataset(
        name,
        root,
        layout,
        tuple(unique),
        instances=instances,
        joined=joined,
        problems=(*_find_copies(root, found), *problems, *unpaired),
        notes=tuple(dict.fromkeys([*remarks, *split_notes])),
    )


def _name_layout(found: Sequence[LabeledPlace], joined: Joined, instances: bool) -> Layout:
    if any(labeled.is_mixed for labeled in found):
        return "flat"
    return "classes" if joined == "classes" else "instances" if instances else "folder"


def _make_case(labeled: LabeledPlace, stem: str, group: str | None) -> Case:
    images, labels = labeled.files.pairs[stem]
    classes = labeled.files.classes.get(stem, ())
    return Case(name_case(stem, labeled.place), images, labels, classes, group=group, split=labeled.place.subset)


def _find_unpaired(found: Sequence[LabeledPlace]) -> tuple[list[Problem], list[Path]]:
    """Report files without a partner; images without a label are only left out where every label has an image."""
    problems, left_out = [], []
    for labeled in found:
        files = labeled.files
        if not files.orphaned:
            left_out += files.unlabeled
            continue
        folder = files.orphaned[0].parent.name
        got, expected = f"an image without a label in {folder}/", "a label with its name, or with one pattern for all"
        problems += [Problem(str(path), got, expected, "Add the label, or remove it.") for path in files.unlabeled]
        got, expected = (
            f"a label without an image in {labeled.images.path.name}/",
            expected.replace("a label", "an image"),
        )
        problems += [Problem(str(path), got, expected, "Add the image, or remove it.") for path in files.orphaned]
    return problems, left_out


def _note_unlabeled(root: Path, paths: Sequence[Path], labeled: int) -> list[str]:
    if not paths or not labeled:
        return []
    names = [path.name for path in paths]
    if len({path.parent for path in paths}) > 1:
        names = [str(_shorten(root, path)) for path in paths]
    return [note_unlabeled(names, labeled + len(paths))]


def _note_unused(root: Path, folders: Sequence[Folder]) -> list[str]:
    """Note folders of images that have no labels at all."""
    counts = [f"{_shorten(root, folder.path)}/ ({count_noun(len(folder.images), 'image')})" for folder in folders]
    return [f"folders without labels are left out: {list_some(counts)}"] if counts else []


def _shorten(root: Path, path: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path


def _find_copies(root: Path, found: Sequence[LabeledPlace]) -> list[Problem]:
    """Refuse the same images in two file formats (`PNG/`, `TIF/`), which would train on what they validate with."""
    folders = [labeled.place.above[-1] for labeled in found if labeled.place.above]
    if len(folders) < 2 or not all(folder.lower() in _FORMATS for folder in folders):
        return []
    got, action = f"the folders {', '.join(folders)}, one for each file format", "Name one of them instead."
    return [Problem(str(root), got, "each image once", action)]
