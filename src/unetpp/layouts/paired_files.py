"""Image files of a folder with their label files, in another folder or in the same one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from unetpp.errors import Problem
from unetpp.formats import suffix_of
from unetpp.layouts.channel_files import split_channel
from unetpp.layouts.folders import describe_same_stem
from unetpp.layouts.names import find_origin, is_bare_label, split_marker
from unetpp.layouts.pairing import Pairs, describe_name, pair_names

Files = Mapping[str, list[Path]]
"""Files by stem."""

_MOST = 0.5
_JPEG = (".jpg", ".jpeg", ".jfif")
CHOOSE = "Move what is not meant out of the data set, or list the pairs in a CSV table (columns image, label)."


@dataclass
class PairedFiles:
    """Images with their labels, and what is wrong with the others."""

    pairs: dict[str, tuple[tuple[Path, ...], tuple[Path, ...]]] = field(default_factory=dict)
    """Name of the image -> its files (one for each channel), and its label files."""
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Name of the image -> class of each label file, where there is one for each class."""
    unlabeled: list[Path] = field(default_factory=list)
    orphaned: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    fit: float = 0.0
    """Share of the images, or of the labels, that found a partner or several: the larger of the two."""


def pair_files(images: Files, labels: Files) -> PairedFiles:
    """Pair images with labels by their stems."""
    kept = {stem: paths for stem, paths in images.items() if find_origin(stem) not in images}
    grouped = _group_channels(kept, labels)
    chosen = {stem: paths[0] for stem, paths in labels.items()}
    names = pair_names(grouped, chosen)
    if len(grouped) == len(chosen) == 1 and not names.labels and is_bare_label(*chosen):
        names = Pairs({image: tuple(chosen) for image in grouped})
    found = PairedFiles(notes=list(names.notes), classes=names.classes)
    if len(kept) < len(images):
        derived = next(stem for stem in images if stem not in kept)
        found.notes.append(
            f"pictures made from images are left out: {describe_name(derived, find_origin(derived) or '')}"
        )
    found.problems = [
        *describe_same_stems(images),
        *describe_same_stems(labels),
        *_describe_unclear(names, grouped, chosen),
    ]
    found.pairs = {
        stem: (tuple(grouped[stem]), tuple(chosen[label] for label in own)) for stem, own in names.labels.items()
    }
    found.unlabeled = [grouped[stem][0] for stem in names.unlabeled if stem not in _unclear_images(names)]
    found.orphaned = [chosen[stem] for stem in names.orphaned]
    paired = len(names.labels) + len(names.rival)
    found.fit = max(paired / max(1, len(grouped)), paired / max(1, paired + len(names.orphaned)))
    return found


def split_mixed_folder(files: Files) -> tuple[Files, Files] | None:
    """Divide the files of one folder into images and labels, by names or as JPEG and PNG; None if it has no labels."""
    jpeg = {stem: [path for path in paths if suffix_of(path) in _JPEG] for stem, paths in files.items()}
    if all(len(paths) == 2 and len(jpeg[stem]) == 1 for stem, paths in files.items()) and len(files) > 1:
        return jpeg, {stem: [path for path in paths if path not in jpeg[stem]] for stem, paths in files.items()}
    labels = {stem: paths for stem, paths in files.items() if split_marker(stem).marker}
    if any("_cp_masks" in stem for stem in labels):  # of Cellpose, which saves its own arrays beside
        files = {stem: paths for stem, paths in files.items() if not stem.endswith("_seg")}
        labels = {stem: paths for stem, paths in labels.items() if stem in files}
    images = {stem: paths for stem, paths in files.items() if stem not in labels and find_origin(stem) not in files}
    if not images or (len(images) == 1 and not labels):
        return None
    names = pair_names(images, labels)
    found = len(labels) - len(names.orphaned)
    return (images, labels) if labels and found >= _MOST * len(labels) else _split_bare_names(files)


def describe_same_stems(files: Files) -> list[Problem]:
    """Describe all stems that several files have."""
    return [
        describe_same_stem(paths[0].parent, stem, paths)
        for stem, paths in files.items()
        if len(paths) > 1 and len({path.parent for path in paths}) == 1
    ]


def _split_bare_names(files: Files) -> tuple[Files, Files] | None:
    """Divide a folder of one image, named in words alone: `image.png`, `mask.png`."""
    labels = {stem: paths for stem, paths in files.items() if is_bare_label(stem)}
    images = {stem: paths for stem, paths in files.items() if stem not in labels}
    return (images, labels) if len(images) == len(labels) == 1 else None


def _group_channels(images: Files, labels: Files) -> dict[str, list[Path]]:
    """Join the channels NAME_0000, NAME_0001, ... of one image where labels are named NAME; else one file each."""
    groups: dict[str, list[Path]] = {}
    for paths in images.values():
        groups.setdefault(split_channel(paths[0])[0], []).append(paths[0])
    if len(groups.keys() & labels.keys()) > len(images.keys() & labels.keys()):
        return groups
    return {stem: paths[:1] for stem, paths in images.items()}


def _unclear_images(names: Pairs) -> set[str]:
    return {image for images in names.unclear.values() for image in images}


def _describe_unclear(names: Pairs, images: Files, labels: Mapping[str, Path]) -> list[Problem]:
    rivals = [
        Problem(
            str(images[image][0]),
            f"several labels for one image ({', '.join(describe_name(label, image) for label in own)})",
            "one label",
            CHOOSE,
            topic="pairs",
        )
        for image, own in names.rival.items()
    ]
    return rivals + [
        Problem(
            str(labels[label]),
            f"a label that fits {' and '.join(own)} alike",
            "a label of one image",
            CHOOSE,
            topic="pairs",
        )
        for label, own in names.unclear.items()
    ]
