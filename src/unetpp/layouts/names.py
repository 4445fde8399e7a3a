"""Words in the names of files and folders: what says label, image, observer, field of view or subset."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from unetpp.formats import is_image, stem_of
from unetpp.layouts.dataset import Subset
from unetpp.layouts.folders import SUBSETS

Role = Literal["image", "label", "field of view"]

_SUBSET_WORDS: dict[str, Subset] = {**SUBSETS, "dev": "validation"}
_ABBREVIATED = re.compile(r"(?:images|labels)(Tr|Ts|Va)|[A-Z][\w-]*[-_](TR|TE|TS)")
_SUBSETS_OF_INITIALS: dict[str, Subset] = {"tr": "train", "va": "validation", "ts": "test", "te": "test"}
_IMAGE_FOLDER_WORDS = frozenset({
    "image", "images", "img", "imgs", "original", "originals", "input", "inputs", "cxr", "pictures", "photos",
})  # fmt: skip
_LABEL_FOLDER_WORDS = frozenset({
    "mask", "masks", "label", "labels", "labeled", "labelled", "annotation", "annotations", "annotated",
    "groundtruth", "segmentation", "segmentations", "manual", "instance", "instances", "target", "targets", "truth",
})  # fmt: skip
_LABEL_FOLDER_SYLLABLES = frozenset(
    ["gt", "gts", "gtfine", "seg", "segs", "ann", "anns", "anno", "annos", "annot", "roi", "rois", "msk", "lbl"]
)
"""Words that mean a label only when they stand alone: not in MoNuSeg."""
SIDES = frozenset({"left", "right"})
"""Words of masks that are two parts of one label."""
_PICTURE_WORDS = frozenset({
    "color", "colors", "colour", "colours", "colored", "rgb", "overlay", "overlays", "vis", "visualization",
    "watershed", "human", "edge", "edges", "boundary", "boundaries", "contour", "contours", "skeleton",
})  # fmt: skip
"""Words of labels that were made from other labels, to look at or to weigh a loss."""
OBJECT_WORDS = frozenset({"instance", "instances", "inst", "object", "objects"})
"""Words of labels that number objects, where others have classes."""
_OTHER_FORMS = (
    (frozenset({"fov"}), "the field of view"),
    (_PICTURE_WORDS, "pictures of labels"),
    (OBJECT_WORDS, "objects, where others have classes"),
)
_COPY_WORDS = frozenset({"aug", "augmented", "augmentation", "augmentations"})
"""Folders of images that were made from others of the data set."""
_MARKERS = (
    "masks?|labels?|segmentations?|segm?|gts?|ground ?truth|annos?|annotations?|annotated|truth|targets?|instances?|"
    "roi|msk|lbl|labelmap|manual|1st ?ho|2nd ?ho|1st ?manual|2nd ?manual|ah|vk|rater|observer|annotator|expert|"
    "gtfine|gtcoarse|label(?:train)?ids|instance(?:train)?ids"
).replace(" ?", "[ _.-]?")
_FORM_WORDS = "binary|inst|instance|semantic|colou?r|watershed|edge|boundary|contour|human|machine"
_MARKER = f"(?:(?:cp|{_FORM_WORDS})[ _.-])?(?:{_MARKERS})"
_AT_END = re.compile(
    rf"(.+?)((?:[ _.-]+|(?<=\d)(?!ah|vk)){_MARKER}(?:[ _.-]+(?:{_MARKER}|{_FORM_WORDS}))*)(?:[ _.-]*\(?(\d+)\)?)?", re.I
)
_AT_START = re.compile(rf"({_MARKER}(?:[ _.-]+|(?=\d)))(.+)", re.IGNORECASE)
_IMAGE_AT_END = re.compile(
    r"(.+?)(?:[ _.-]+|(?<=\d))(?:image|img|orig|original|input|volume|vol|stack|raw|leftimg8bit)", re.I
)
_IMAGE_AT_START = re.compile(r"(?:image|img|volume|vol)(?:[ _.-]+|(?=\d))(.+)", re.IGNORECASE)
_DERIVED = re.compile(r"(.+?)[ _.-](superpixels|predict|prediction|pred|overlay|flows|outlines|vis)", re.IGNORECASE)
_FIRST = re.compile(r"1st|(?:manual|rater|observer|annotator|expert)[ _.-]?0*1(?!\d)|(?<![a-z])ah(?![a-z])", re.I)
_OBSERVER = re.compile(
    r"\d(?:st|nd|rd|th)|(?:manual|rater|observer|annotator|expert)[ _.-]?\d|(?<![a-z])(ah|vk)(?![a-z])", re.I
)
_CACHED = 1 << 16
"""Names whose parts are remembered: each is compared in several forms."""
_LESION = re.compile(r"\d[ _-]lesions?$", re.IGNORECASE)
"""Of one image: `IMD002_lesion`."""
_GLUED = re.compile(
    r"(?<![a-z])(train|training|val|valid|validation|test|testing|default)"
    r"(annot|annotation|crop|img|image|mask|label|gt|set)(?=s?(?![a-z]))",
    re.IGNORECASE,
)
_WORD = re.compile(r"\d+|[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_]+")


@dataclass(frozen=True)
class MarkedName:
    """The stem of a label in parts: `benign (2)_mask_1` is `benign (2)`, `mask`, `1`."""

    name: str
    marker: str
    """In lower case without separators; "" if the name says nothing."""
    number: str = ""
    """A number after the marker."""


def to_nfc(text: str) -> str:
    """Write accents as one character with their letter: macOS unpacks archives with two."""
    return unicodedata.normalize("NFC", text)


def split_words(text: str) -> list[str]:
    """Split a name into words and numbers: `leftMask_01` is `left`, `Mask`, `01`."""
    return _WORD.findall(to_nfc(text))


@lru_cache(_CACHED)
def split_marker(stem: str) -> MarkedName:
    """Split off the ending or beginning that says label: `_mask`, `-labels`, `.seg`, `label_`, `_1stHO`."""
    if match := _AT_END.fullmatch(stem):
        return MarkedName(match[1], _plain(match[2]), match[3] or "")
    if match := _AT_START.fullmatch(stem):
        return MarkedName(match[2], _plain(match[1]))
    return MarkedName(stem, "")


def split_beginning(stem: str) -> str:
    """Split off the beginning that says label: `label_`, `mask_`."""
    match = _AT_START.fullmatch(stem)
    return match[2] if match else stem


def is_bare_label(stem: str) -> bool:
    """Tell whether a name says nothing but label: `mask`, `segmentation`."""
    return split_marker(f"name_{stem}").name == "name"


@lru_cache(_CACHED)
def strip_image_word(stem: str) -> str:
    """Remove the ending or beginning that says image: `image_001`, `001_img`."""
    for pattern in (_IMAGE_AT_END, _IMAGE_AT_START):
        if match := pattern.fullmatch(stem):
            return match[1]
    return stem


def strip_file_suffix(stem: str) -> str:
    """Remove the suffix of the image that a label is named after: `cell1.jpg` of `cell1.jpg.png`."""
    if "." not in stem:
        return stem
    path = Path(stem)
    return stem_of(path) if is_image(path) else stem


def find_origin(stem: str) -> str | None:
    """Return the image that a picture was made from (`a` of `a_superpixels`); None if the name does not say so."""
    match = _DERIVED.fullmatch(stem)
    return match[1] if match else None


def drop_other_forms(names: Mapping[str, set[str]]) -> tuple[list[str], list[str]]:
    """Leave out names of the same labels in another form: pictures of them, objects beside classes.

    Args:
        names: a name of labels -> its words in lower case.

    Returns:
        The names that are left, and notes on the others; all names if none would be left.
    """
    left, notes = list(names), []
    for words, what in _OTHER_FORMS:
        dropped = [name for name in left if names[name] & words]
        if dropped and len(dropped) < len(left) and (words is not OBJECT_WORDS or len(left) - len(dropped) == 1):
            left = [name for name in left if name not in dropped]
            notes.append(f"not used: {', '.join(dropped)} ({what}); used: {', '.join(left)}")
    return left, notes


def holds_copies(folder: str) -> bool:
    """Tell whether a folder is named like one of augmented copies."""
    return folder.lower() in _COPY_WORDS


def is_observer(name: str) -> bool:
    """Tell whether a name says which person drew the label: `1st_manual`, `labels-vk`, `2ndHO`."""
    return _OBSERVER.search(name) is not None


def is_first_observer(name: str) -> bool:
    """Tell whether a name says that the first of several persons drew the label."""
    return _FIRST.search(name) is not None


def read_role(folder: str) -> Role | None:
    """Read what a folder holds from its name: `Tissue images`, `Ground Truth`, `1st_manual`, `trainannot`."""
    words = _read_words(folder)
    joined = {first + second for first, second in itertools.pairwise(words)}
    alone = set(re.split(r"[\W_]+", _GLUED.sub(r"\1 \2", folder).lower()))
    if "fov" in words:
        return "field of view"
    if (
        _LESION.search(folder)
        or _LABEL_FOLDER_WORDS & {*words, *joined}
        or _LABEL_FOLDER_SYLLABLES & alone
        or folder.lower().endswith("masks")
    ):
        return "label"
    if _IMAGE_FOLDER_WORDS & set(words) or ({"jpeg", "leftimg"} & joined):
        return "image"
    return "image" if "data" in words and find_subset(folder) and len(words) > 2 else None


def name_rest(folder: str) -> str:
    """Return what the name of a folder says besides what it holds: `p1` of `p1_images` and of `p1_masks`."""
    said = _LABEL_FOLDER_WORDS | _IMAGE_FOLDER_WORDS | _LABEL_FOLDER_SYLLABLES
    return "".join(word for word in split_words(folder) if word.lower() not in said)


def find_subset(folder: str) -> Subset | None:
    """Read the subset from the name of a folder: `val`, `TrainDataset`, `imagesTr`, `ISIC-2017_Training_Data`."""
    words = _read_words(folder)
    found = [_SUBSET_WORDS[word] for word in words if word in _SUBSET_WORDS]
    if found:
        return found[-1]
    match = _ABBREVIATED.fullmatch(folder)
    return _SUBSETS_OF_INITIALS[(match[1] or match[2]).lower()] if match else None


def is_subset(folder: str) -> bool:
    """Tell whether the name of a folder says nothing but the subset: `val`, `TrainDataset`, not `testA`."""
    words = set(_read_words(folder))
    return bool(words & _SUBSET_WORDS.keys()) and words <= {*_SUBSET_WORDS, "data", "set", "dataset"}


def _read_words(folder: str) -> list[str]:
    """Split the name of a folder into words in lower case; `trainannot` is `train`, `annot`."""
    return [word.lower() for word in split_words(_GLUED.sub(r"\1 \2", folder))]


def _plain(marker: str) -> str:
    return re.sub(r"[ _.-]", "", marker).lower()
