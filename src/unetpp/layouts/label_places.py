"""The folders of images and those of labels that belong together, by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from unetpp.errors import Problem
from unetpp.layouts.label_folders import LabelName, drop_fields_of_view
from unetpp.layouts.names import name_rest
from unetpp.layouts.paired_files import pair_files
from unetpp.layouts.tree import Folder, Place
from unetpp.words import list_some

FITS = 0.5
"""Share of files that find a partner if two folders belong together."""
_DRIVE_FIELD = re.compile(r"\d\d_(training|test)_mask")

Attached = dict[Place, dict[LabelName, Folder]]
"""Place of images -> its folders of labels."""


def find_image_folders(folders: Iterable[Folder]) -> dict[Place, list[Folder]]:
    """Map places to the folders with their images: those that are named so, else those without a telling name."""
    named: dict[Place, list[Folder]] = {}
    unnamed: dict[Place, list[Folder]] = {}
    for folder in folders:
        if folder.images and folder.role == "image":
            named.setdefault(folder.place_without(folder.positions_of("image")[-1]), []).append(folder)
        elif folder.images and folder.role in (None, "label"):
            unnamed.setdefault(folder.place_without(), []).append(folder)
    return {**unnamed, **named}


def attach_labels(
    images: dict[Place, list[Folder]], labels: Sequence[Folder]
) -> tuple[Attached, list[Problem], list[str]]:
    """Find the place of each folder with labels; fields of view are left out.

    A place whose images have no telling name (`cells/` beside `masks/`) is moved to that of their labels.
    """
    attached: Attached = {}
    for folder in labels:
        candidates = _list_candidates(folder)
        fitting = [found for found in candidates if found[0] in images] or _find_twins(candidates[0], images)
        place, name = (fitting or candidates)[0]
        attached.setdefault(place, {})[name] = folder
    strange = [place for place in attached if place not in images]
    problems = [problem for place in strange for problem in _adopt_images(place, images, attached)]
    used, notes = drop_fields_of_view({name for place, names in attached.items() if place in images for name in names})
    kept = {
        place: {name: folder for name, folder in names.items() if name in used and _may_be_label(folder)}
        for place, names in attached.items()
        if place in images
    }
    unused = [folder.path.name for place in strange if place not in images for folder in attached[place].values()]
    if unused and not problems:
        notes.append(f"labels that belong to no images are not used: {list_some(f'{name}/' for name in unused)}")
    return {place: names for place, names in kept.items() if names}, problems, notes


def divide_places(
    images: Mapping[Place, list[Folder]], attached: Attached
) -> tuple[dict[Place, list[Folder]], Attached]:
    """Divide places whose folders of images and labels go together by name: `p1_images`, `p1_masks`, `p2_images`."""
    new_images: dict[Place, list[Folder]] = {}
    new_attached: Attached = {}
    for place, folders in images.items():
        labels = attached.get(place, {})
        rests = {name_rest(folder.parts[-1]): folder for folder in folders if folder.parts}
        label_rests = {name_rest(folder.parts[-1]): name for name, folder in labels.items() if folder.parts}
        if len(folders) > 1 and rests.keys() == label_rests.keys() and len(rests) == len(folders) == len(labels):
            for rest, folder in rests.items():
                own = Place(place.subset, (*place.above, rest))
                new_images[own] = [folder]
                new_attached[own] = {label_rests[rest]: labels[label_rests[rest]]}
        else:
            new_images[place] = folders
            new_attached |= {place: labels} if labels else {}
    return new_images, new_attached


def _may_be_label(folder: Folder) -> bool:
    """Tell whether a folder has more than documents, and is not the field of view of DRIVE without its labels."""
    return folder.is_filled and not (
        folder.path.name == "mask" and folder.images and all(map(_DRIVE_FIELD.fullmatch, folder.by_stem))
    )


def _list_candidates(folder: Folder) -> list[tuple[Place, LabelName]]:
    """List the places that a folder with labels may belong to, the likeliest first, with its name there."""
    labels = folder.positions_of("label")
    found = []
    for left_out in ([labels[-1]], labels, folder.positions_of("label", "image")):
        head, *tail = [folder.parts[index] for index in left_out if index in labels]
        found.append((folder.place_without(*left_out), LabelName(head, "/".join(tail))))
        last = len(folder.parts) - 1
        if last not in left_out:
            found.append(
                (folder.place_without(*left_out, last), LabelName(head, "/".join([*tail, folder.parts[last]])))
            )
    return found


def _find_twins(candidate: tuple[Place, LabelName], images: Iterable[Place]) -> list[tuple[Place, LabelName]]:
    """Find the only folder of images beside a folder of labels that has the same number: `Slide_01` and `GT_01`."""
    place, name = candidate
    numbers = re.findall(r"\d+", name.head)
    twins = [
        other
        for other in images
        if other.subset == place.subset
        and other.above[:-1] == place.above
        and other.above[-1:]
        and numbers
        and re.findall(r"\d+", other.above[-1]) == numbers
    ]
    return [(twins[0], name)] if len(twins) == 1 else []


def _adopt_images(place: Place, images: dict[Place, list[Folder]], attached: Attached) -> list[Problem]:
    """Move the only images that fit the labels of a place to it; several that fit are a problem."""
    labels = list(attached[place].values())
    fitting = [
        other
        for other, folders in images.items()
        if other not in attached
        and other.subset == place.subset
        and place.above in (other.above[:index] + other.above[index + 1 :] for index in range(len(other.above)))
        and len(folders) == 1
        and any(pair_files(folders[0].by_stem, folder.by_stem).fit > FITS for folder in labels)
    ]
    stems = [stem for other in fitting for stem in images[other][0].by_stem]
    if len(fitting) > 1 and len(stems) == len(set(stems)):  # images/ in several parts
        parts = [images.pop(other)[0] for other in fitting]
        files = tuple(path for part in parts for path in part.images)
        images[place] = [Folder(parts[0].path.parent, place.above, files, ())]
        return []
    if len(fitting) == 1:
        images[place] = images.pop(fitting[0])
    if len(fitting) < 2:
        return []
    names = [f"{images[other][0].path.name}/" for other in fitting]
    got = f"labels in {labels[0].path.name}/ that fit the images in {list_some(names)} alike"
    action = "Name the image files of each case in a CSV table (columns image, image_2, label)."
    return [Problem(str(labels[0].path), got, "labels of one folder of images", action)]
