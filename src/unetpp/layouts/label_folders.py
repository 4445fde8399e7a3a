"""Several folders with labels of the same images: classes, parts, observers, a field of view, or a contradiction."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from unetpp.layouts.names import SIDES, drop_other_forms, is_first_observer, is_observer, read_role, split_words

_FORMS = frozenset({
    "binary", "instance", "instances", "semantic", "color", "colors", "colour", "colored", "rgb", "gray", "grey",
    "png", "tif", "tiff", "jpg", "bmp", "gif", "npy", "mat", "raw", "edge", "edges", "boundary", "boundaries",
    "contour", "contours", "skeleton", "overlay", "vis", "visualization", "weight", "weights", "map", "maps",
})  # fmt: skip
"""Names of folders that hold the same labels in another form, not another class."""

Joined = Literal["objects", "union", "classes"]


@dataclass(frozen=True, order=True)
class LabelName:
    """Name of a folder with labels, or of a folder in it: `masks`, `masks/0`."""

    head: str
    tail: str = ""

    def __str__(self) -> str:
        return f"{self.head}/{self.tail}" if self.tail else self.head

    @property
    def words(self) -> set[str]:
        """The words of the name, in lower case."""
        return {word.lower() for word in split_words(str(self))}


@dataclass(frozen=True)
class Choice:
    """The folders whose labels are used."""

    used: tuple[LabelName, ...]
    joined: Joined = "objects"
    notes: tuple[str, ...] = ()
    is_clear: bool = True
    """False: the folders contradict each other."""


def drop_fields_of_view(names: Collection[LabelName]) -> tuple[list[LabelName], list[str]]:
    """Leave out fields of view: `mask/` beside `1st_manual/`. Returns the names that are left, and notes."""
    has_manual = any("manual" in name.words and not _is_mask(name) for name in names)
    fields = [name for name in names if read_role(str(name)) == "field of view" or (has_manual and _is_mask(name))]
    notes = [f"{name}/ is taken for the field of view, which is no label" for name in sorted(fields)]
    return [name for name in names if name not in fields], notes


def choose_label_folders(names: Sequence[LabelName]) -> Choice:
    """Choose among folders that all have labels of the same images."""
    if len(names) <= 1:
        return Choice(tuple(names))
    if all(is_observer(str(name)) for name in names):
        first = [name for name in names if is_first_observer(str(name))]
        if len(first) == 1:
            others = ", ".join(f"{name}/" for name in names if name not in first)
            return Choice((first[0],), notes=(f"labels of several observers: {first[0]}/ is used, {others} is not",))
        return Choice(tuple(names), is_clear=False)
    kept, notes = drop_other_forms({f"{name}/": name.words for name in names})
    if notes:
        choice = choose_label_folders([name for name in names if f"{name}/" in kept])
        return replace(choice, notes=(*notes, *choice.notes))
    if all(name.words & SIDES for name in names) and len({frozenset(name.words - SIDES) for name in names}) == 1:
        listed = ", ".join(f"{name}/" for name in names)
        return Choice(tuple(names), "union", (f"the masks of one image are united: {listed}",))
    voc = [name for name in names if name.head.lower() == "segmentationclass"]
    if len(voc) == 1 and all(name.head.lower().startswith("segmentation") for name in names):
        others = ", ".join(f"{name}/" for name in names if name not in voc)
        return Choice((voc[0],), notes=(f"{voc[0]}/ is used (classes), {others} is not (objects)",))
    heads, tails = {name.head for name in names}, [name.tail for name in names]
    if len(heads) > 1 or not all(tails) or any(_words(tail) & _FORMS or is_observer(tail) for tail in tails):
        return Choice(tuple(names), is_clear=False)
    head, listed = names[0].head, ", ".join(tails)
    return Choice(tuple(names), "classes", (f"{head}/ has a folder for each class: {listed}",))


def _is_mask(name: LabelName) -> bool:
    return bool(name.words & {"mask", "masks"})


def _words(text: str) -> set[str]:
    return {word.lower() for word in split_words(text)}
