"""Names, groups and subsets of cases, from their files and the folders above them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from unetpp.layouts.dataset import Case, Subset
from unetpp.layouts.names import find_subset, split_words
from unetpp.layouts.tree import Place
from unetpp.words import count_noun, list_some

_MANY = 10
"""More folders than this are patients, whatever their names are."""
_SUBSET_NAMES: dict[Subset, str] = {"train": "train", "validation": "val", "test": "test"}
_SUBSET_PREFIX = re.compile(r"(train|training|val|valid|validation|test|testing)[A-Za-z]?[ _.-]", re.IGNORECASE)


def name_case(stem: str, place: Place) -> str:
    """Name a case after its image; an image that is just called `image` has the name of its folder."""
    words = [word.lower() for word in split_words(stem)]
    return "_".join(place.above) if place.above and words in (["image"], ["img"], ["imaging"]) else stem


def make_ids_unique(cases: Sequence[tuple[Place, Case]]) -> list[Case]:
    """Put the names of their folders before names that several cases have: `train_0`, `val_0`."""
    counts = Counter(case.id for _, case in cases)
    found = []
    for place, case in cases:
        named = place.subset and not any(map(find_subset, place.above))
        prefix = (*([_SUBSET_NAMES[place.subset]] if place.subset and named else []), *place.above)
        found.append(case if counts[case.id] == 1 else replace(case, id="_".join((*prefix, case.id))))
    return found


def group_by_folder(places: Sequence[Place]) -> tuple[dict[Place, str | None], list[str]]:
    """Take the folders of cases for groups (patients) if they are numbered or many; else for kinds of images.

    Returns:
        Group of each place, and a note that says which of the two was taken.
    """
    names = {place: "/".join(part for part in place.above if not find_subset(part)) or None for place in places}
    distinct = sorted({name for name in names.values() if name})
    if len(distinct) < 2:
        return dict.fromkeys(places), []
    if len(distinct) > _MANY or all(re.search(r"\d", name) for name in distinct):
        return dict(names), [f"cases of one folder stay together: {count_noun(len(distinct), 'group')}"]
    return dict.fromkeys(places), [f"the folders {list_some(distinct)} are taken for kinds of images, not for groups"]


def assign_subsets_by_prefix(cases: Sequence[Case]) -> list[Case]:
    """Assign subsets by the beginnings of the names, if all have one: `train_1`, `testA_1`."""
    prefixes = [_SUBSET_PREFIX.match(case.id) for case in cases]
    subsets = [find_subset(match[1]) if match else None for match in prefixes]
    if all(subsets) and "train" in subsets and len(set(subsets)) > 1 and not any(case.split for case in cases):
        return [replace(case, split=subset) for case, subset in zip(cases, subsets, strict=True)]
    return list(cases)
