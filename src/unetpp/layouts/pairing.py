"""Pairs of images and labels by their names: the common pattern of all names, and what stays unclear.

Names are stems. Each step compares the names that are left in a coarser form: as they are, in one Unicode form, without
the words that say image or label, without letter case and leading zeros. At last, any ending or beginning that nearly
all names have in common is left out. What fits several ways is reported, never guessed.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from unetpp.layouts.names import (
    SIDES,
    drop_other_forms,
    is_first_observer,
    is_observer,
    split_beginning,
    split_marker,
    split_words,
    strip_file_suffix,
    strip_image_word,
    to_nfc,
)

_NEARLY_ALL = 0.9
_DESCRIBED = 1000
"""Pairs that are looked at for the description of their pattern."""
_LOOSE = "letter case, leading zeros and separators in names do not count"
_PART_MARKERS = ("mask", "masks")
"""Numbers after these words count the parts of one mask: NAME_mask, NAME_mask_1."""
_VERSION = re.compile(r"(?:^|[ _.-])(v?\d+|old|new|final|copy|draft|auto|manual|corrected|refined)(?:$|[ _.-])", re.I)
"""Endings of the same label in several versions, not of classes."""
_RUNS = re.compile(r"\d+|[^\W\d_]+|[\W_]+")

Form = Callable[[str], str]
"""Brings a name into the form in which it is compared; "" fits nothing."""


@dataclass
class Pairs:
    """Names of images with those of their labels."""

    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Image -> its label; several are parts of one mask."""
    unlabeled: list[str] = field(default_factory=list)
    """Images without a label."""
    orphaned: list[str] = field(default_factory=list)
    """Labels without an image."""
    unclear: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Label -> the images that it fits alike."""
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Image -> the class of each of its labels, where their endings name classes: `a_liver`, `a_spleen`."""
    rival: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Image -> labels that contradict each other."""
    notes: list[str] = field(default_factory=list)
    """The patterns that were found, and the labels that were set aside."""


def pair_names(images: Collection[str], labels: Collection[str]) -> Pairs:
    """Pair the names of images and labels."""
    found: dict[str, list[str]] = {image: [] for image in images}
    unclear: dict[str, tuple[str, ...]] = {}
    left = list(labels)
    for image_form, label_forms in _STEPS:
        left = _match(found, left, image_form, label_forms, unclear)
    if len(left) >= max(2, _NEARLY_ALL * len(labels)):
        left = _match_common_affixes(found, left)
    if len(left) >= max(2, _NEARLY_ALL * len(labels)) or len(images) == len(left) == len(labels):
        left = _match_endings(found, left)
    pairs = Pairs(unclear={label: unclear[label] for label in left if label in unclear})
    pairs.orphaned = [label for label in left if label not in unclear]
    for image, own in found.items():
        _choose_labels(pairs, image, own)
    _complete_classes(pairs)
    pairs.notes = [*_describe_patterns(pairs.labels), *dict.fromkeys(pairs.notes)]
    return pairs


def describe_name(label: str, image: str) -> str:
    """Write a label's name with NAME for that of its image: `NAME_mask`; the label itself if it has no such part."""
    names = (_replace_name(to_nfc(label), form(image)) for form in (to_nfc, _unmark_image, _first_number))
    return next((name for name in names if name), label)


def _replace_name(label: str, name: str) -> str | None:
    """Write NAME for the name in a label; None if it is not there, or only as a part of a longer number."""
    start = label.find(name) if name else -1
    if start < 0:
        return None
    before, after = label[:start], label[start + len(name) :]
    cut = (name[0].isdecimal() and before[-1:].isdecimal()) or (name[-1].isdecimal() and after[:1].isdecimal())
    return None if cut else f"{before}NAME{after}"


def _match(
    found: dict[str, list[str]],
    left: Sequence[str],
    image_form: Form,
    label_forms: Sequence[Form],
    unclear: dict[str, tuple[str, ...]],
) -> list[str]:
    """Give each label to the only image of the same form; return the labels that are left."""
    by_form: dict[str, list[str]] = {}
    for image in found:
        by_form.setdefault(image_form(image), []).append(image)
    still_left = []
    for label in left:
        fitting = next((by_form[key] for form in label_forms if (key := form(label)) and key in by_form), [])
        if len(fitting) == 1:
            found[fitting[0]].append(label)
            unclear.pop(label, None)
        else:
            still_left.append(label)
            if fitting:
                unclear.setdefault(label, tuple(fitting))
    return still_left


def _keep(name: str) -> str:
    return name


def _unmark_image(name: str) -> str:
    return strip_image_word(to_nfc(name))


def _unmark_literally(name: str) -> str:
    return split_marker(to_nfc(name)).name


def _unmark(name: str) -> str:
    """Remove what says label, but keep a number after it: `cell_mask_1` is a label of `cell_1`."""
    parts = split_marker(to_nfc(name))
    return f"{_unmark_image(parts.name)}{'_' * bool(parts.number)}{parts.number}"


def _unmark_beginning(name: str) -> str:
    """Remove only the beginning that says label: `label_c01gt0` is a label of `c01gt0`."""
    return _unmark_image(split_beginning(to_nfc(name)))


def _unmark_number(name: str) -> str:
    """Remove what says label with the number after it: `cell_mask_1` is a label of `cell`."""
    return _unmark_image(split_marker(to_nfc(name)).name)


def _simplify(name: str) -> str:
    """Leave out letter case, leading zeros and separators: `IMG_007` is `img 7`."""
    parts: list[str] = []
    for word in split_words(name):
        number = word.isdecimal()
        if parts and not number and not parts[-1].isdecimal():
            parts[-1] += word.casefold()
        else:
            parts.append(str(int(word)) if number else word.casefold())
    return " ".join(parts)


def _first_number(name: str) -> str:
    return next((word for word in split_words(name) if word.isdecimal()), "")


def _then(first: Form, second: Form) -> Form:
    return lambda name: second(first(name))


_STEPS: tuple[tuple[Form, tuple[Form, ...]], ...] = (
    (_keep, (_keep,)),
    (to_nfc, (to_nfc,)),
    (to_nfc, (_then(strip_file_suffix, to_nfc),)),
    (to_nfc, (_then(strip_file_suffix, _unmark_literally),)),
    (_unmark_image, tuple(_then(strip_file_suffix, form) for form in (_unmark, _unmark_beginning, _unmark_number))),
    (
        _then(_unmark_image, _simplify),
        tuple(_then(_then(strip_file_suffix, form), _simplify) for form in (_keep, _unmark, _unmark_number)),
    ),
)


def _match_common_affixes(found: dict[str, list[str]], left: list[str]) -> list[str]:
    """Leave out endings and beginnings that nearly all names share, as few as pair nearly all; else pair nothing."""
    images = [image for image, own in found.items() if not own]
    best: tuple[float, dict[str, str]] = (_NEARLY_ALL * min(len(images), len(left)), {})
    image_keys = list(_list_keys(images, (_keep, _unmark_image)))
    for by_label in _list_keys(left, (_keep, _unmark_number)):
        for by_image in image_keys:
            matched = {by_label[key]: image for key, image in by_image.items() if key in by_label}
            if len(matched) >= 2 and (len(matched) > best[0] if best[1] else len(matched) >= best[0]):
                best = (len(matched), matched)
        if best[0] == len(left):
            break
    for label, image in best[1].items():
        found[image].append(label)
    return [label for label in left if label not in best[1]]


def _match_endings(found: dict[str, list[str]], left: list[str]) -> list[str]:
    """Give nearly all labels to the images they are named after, if a few endings explain them: `a_left`."""
    owners = {label: _find_owner(label, found) for label in left}
    endings = Counter(label[len(owner) :] for label, owner in owners.items() if owner)
    if sum(endings.values()) < _NEARLY_ALL * len(left) or min(endings.values(), default=0) < min(2, len(found)):
        return left
    for label, owner in owners.items():
        if owner:
            found[owner].append(label)
    return [label for label in left if not owners[label]]


def _find_owner(label: str, images: Collection[str]) -> str | None:
    """Find the longest image name that a label begins with, followed by a separator."""
    stops = (match.start() for match in re.finditer(r"[ _.-]", label))
    return max((label[:stop] for stop in stops if label[:stop] in images), key=len, default=None)


def _list_keys(names: Sequence[str], forms: Iterable[Form]) -> Iterator[dict[str, str]]:
    """Yield what is left of the names after each cut to try, in each form that differs from the names."""
    for form in forms:
        formed = list(map(form, names))
        if form is _keep or formed != list(names):
            yield from (_keys(names, formed, cut) for cut in _common_cuts(formed))


def _keys(names: Iterable[str], formed: Iterable[str], cut: tuple[str, str]) -> dict[str, str]:
    """Map what is left of each name without the beginning and ending to the name; without what is not unique."""
    keys: dict[str, list[str]] = {}
    for name, short in zip(names, formed, strict=True):
        if short.startswith(cut[0]) and short.endswith(cut[1]) and len(short) > len(cut[0]) + len(cut[1]):
            keys.setdefault(_simplify(short[len(cut[0]) : len(short) - len(cut[1])]), []).append(name)
    return {key: own[0] for key, own in keys.items() if key and len(own) == 1}


def _common_cuts(names: Sequence[str]) -> list[tuple[str, str]]:
    """List the cuts (beginning, ending) to try: none, the ending, the beginning, and both that nearly all share."""
    runs = [_RUNS.findall(name) for name in names]
    start = _longest_common(["".join(run[:count]) for count in range(1, len(run))] for run in runs)
    end = _longest_common(["".join(run[count:]) for count in range(1, len(run))] for run in runs)
    return list(dict.fromkeys([("", ""), ("", end), (start, ""), (start, end)]))


def _longest_common(affixes: Iterable[list[str]]) -> str:
    lists = list(affixes)
    counts = Counter(affix for own in lists for affix in own)
    common = [affix for affix, count in counts.items() if count >= max(2, _NEARLY_ALL * len(lists))]
    return max(common, key=len, default="")


def _choose_labels(pairs: Pairs, image: str, labels: list[str]) -> None:
    """Decide what several labels of one image are: parts, observers, a field of view, or rivals."""
    if len(labels) > 1:
        own = {word.lower() for word in split_words(image)}
        shown = {describe_name(label, image): label for label in labels}
        words = {name: {word.lower() for word in split_words(label)} - own for name, label in shown.items()}
        kept, notes = drop_other_forms(words)
        labels, pairs.notes = [shown[name] for name in kept], [*pairs.notes, *notes]
    if len(labels) > 1:
        observed = [label for label in labels if is_observer(label)]
        first = [label for label in observed if is_first_observer(label)]
        others = [label for label in labels if label not in observed]
        if len(first) == 1 and all(split_marker(strip_file_suffix(label)).marker in _PART_MARKERS for label in others):
            pairs.notes += _describe_unused(image, first[0], labels, others)
            labels = first
        elif _are_parts(image, labels):
            pairs.notes.append(f"several masks of one image are united: {_describe_all(image, labels)}")
        elif classes := _read_classes(image, labels):
            pairs.classes[image] = classes
            pairs.notes.append(f"one label file for each class: {_describe_all(image, labels)}")
        else:
            pairs.rival[image] = tuple(labels)
    if not labels:
        pairs.unlabeled.append(image)
    elif image not in pairs.rival:
        pairs.labels[image] = tuple(labels)


def _are_parts(image: str, labels: Sequence[str]) -> bool:
    """Tell whether labels are numbered masks, or those of the left and the right side."""
    marked = [split_marker(to_nfc(strip_file_suffix(label))) for label in labels]
    if all(parts.marker in _PART_MARKERS for parts in marked) and len({parts.number for parts in marked}) == len(
        labels
    ):
        return True
    sides = [{word.lower() for word in split_words(label)} & SIDES for label in labels]
    return all(sides) and len(set().union(*sides)) == len(labels)


def _complete_classes(pairs: Pairs) -> None:
    """Read the class of images that have one label file, where others have one for each class."""
    known = {name for names in pairs.classes.values() for name in names}
    for image, labels in pairs.labels.items():
        if known and image not in pairs.classes and set(own := _read_classes(image, labels)) <= known:
            pairs.classes[image] = own


def _read_classes(image: str, labels: Sequence[str]) -> tuple[str, ...]:
    """Read classes from the endings of labels; () where one says only label, is a number, or is not there."""
    endings = [label[len(image) :].strip(" _.-") if label.startswith(image) else "" for label in labels]
    if any(
        split_marker(label).marker or _VERSION.search(ending) or not any(map(str.isalpha, ending))
        for label, ending in zip(labels, endings, strict=True)
    ):
        return ()
    return tuple(endings)


def _describe_all(image: str, labels: Sequence[str]) -> str:
    return ", ".join(describe_name(label, image) for label in labels)


def _describe_unused(image: str, chosen: str, labels: Sequence[str], fields: Sequence[str]) -> list[str]:
    name = describe_name(chosen, image)
    rest = [describe_name(label, image) for label in labels if label != chosen and label not in fields]
    notes = [f"labels of several observers: {name} is used, {', '.join(rest)} is not"] if rest else []
    own = ", ".join(describe_name(label, image) for label in fields)
    return notes + ([f"{own} is taken for the field of view, which is no label: {name} is the label"] if own else [])


def _describe_patterns(pairs: Mapping[str, Sequence[str]]) -> list[str]:
    """Describe how the names of labels differ from those of their images; [] if they are equal."""
    found: dict[str, tuple[str, str]] = {}
    for image, labels in itertools.islice(pairs.items(), _DESCRIBED):
        if labels[0] != image and len(labels) == 1:
            found.setdefault(_describe_pair(image, labels[0]), (image, labels[0]))
    if _LOOSE in found:
        image, label = found.pop(_LOOSE)
        return [*list(found)[:2], f"{_LOOSE}: {label} is a label of {image}"]
    if len(found) <= 3:
        return list(found)
    image, label = next(iter(found.values()))
    return [f"images and labels are paired by the common part of their names: {image} with {label}"]


def _describe_pair(image: str, label: str) -> str:
    image, label = to_nfc(image), to_nfc(label)
    if image == label:
        return "names in two Unicode forms are compared as one"
    if named := _replace_name(label, image):
        return f"labels are named {named}"
    for common in (_unmark_image(image), _find_common(image, label)):
        names = _replace_name(image, common), _replace_name(label, common)
        if all(names):
            return f"images are named {names[0]}, labels {names[1]}"
    return _LOOSE


def _find_common(image: str, label: str) -> str:
    """Find the longest run of words and numbers that both names have and that distinguishes them (has a number)."""
    runs, others = _RUNS.findall(image), _RUNS.findall(label)
    pieces = ["".join(runs[i:j]).strip(" _.-") for i in range(len(runs)) for j in range(i + 1, len(runs) + 1)]
    own = {"".join(others[i:j]).strip(" _.-") for i in range(len(others)) for j in range(i + 1, len(others) + 1)}
    return max((piece for piece in pieces if piece in own and re.search(r"\d", piece)), key=len, default="")
