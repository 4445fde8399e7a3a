"""BIDS data sets: `sub-01/anat/sub-01_T1w.nii.gz` with labels in `derivatives/*/sub-01/anat/`."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unetpp.errors import Problem
from unetpp.formats import stem_of
from unetpp.layouts.contents import list_content
from unetpp.layouts.dataset import Case, Dataset
from unetpp.layouts.label_names import is_label_name
from unetpp.words import count_noun, list_some

_PLACES = ("sub", "ses", "acq", "run", "echo", "part", "rec", "ce", "task", "dir")
_DATATYPES = ("anat", "dwi", "pet", "perf", "func", "fmap", "micr", "ct")
_NO_SCANS = ("derivatives", "sourcedata", "code", "stimuli")


@dataclass(frozen=True)
class _File:
    """A file of BIDS."""

    path: Path
    entities: Mapping[str, str]
    suffix: str
    """The last word: T1w, dseg, mask."""
    contrast: str | None
    """Of a label: a word that names its image, such as T1w."""

    @property
    def session(self) -> tuple[str, str]:
        return self.entities.get("sub", ""), self.entities.get("ses", "")

    @property
    def kind(self) -> str:
        """What a label is: its pipeline, its entities and its suffix."""
        parts = self.path.parts
        pipeline = parts[parts.index("derivatives") + 1] if "derivatives" in parts[:-2] else ""
        pipeline = "" if pipeline.startswith("sub-") else pipeline
        described = [f"{key}-{self.entities[key]}" for key in ("label", "desc", "seg") if key in self.entities]
        return "/".join(filter(None, [pipeline, "_".join([*described, self.suffix])]))


def read_bids(root: Path, name: str) -> Dataset | None:
    """Read a BIDS data set; None if there is none. Sessions of a subject form a group.

    All contrasts that every session has are channels, unless the names of the labels name one.
    """
    if not any(path.is_dir() for path in root.glob("sub-*")):
        return None
    files = list(_list_files(root))
    labels = [file for file in files if _is_label(file)]
    images = [
        file for file in files if not _is_label(file) and not set(_NO_SCANS) & set(file.path.relative_to(root).parts)
    ]
    if not labels or not images:
        return None
    by_kind: dict[str, list[_File]] = {}
    for label in labels:
        by_kind.setdefault(label.kind, []).append(label)
    if len(by_kind) > 1:
        got = f"labels of {len(by_kind)} kinds ({list_some(sorted(by_kind), 6)})"
        action = "Move the others elsewhere, or write a CSV table with the columns image and label."
        return Dataset(name, root, "bids", (), problems=(Problem(str(root), got, "one kind of labels", action),))
    return _pair(root, name, images, labels)


def _pair(root: Path, name: str, images: Sequence[_File], labels: Sequence[_File]) -> Dataset:
    by_session: dict[object, list[_File]] = {}
    for image in images:
        by_session.setdefault(image.session, []).append(image)
    candidates = {label.path: _find_images(label, by_session.get(label.session, [])) for label in labels}
    contrasts = Counter(contrast for found in candidates.values() for contrast in {image.suffix for image in found})
    common = sorted(contrast for contrast, count in contrasts.items() if count == max(contrasts.values()))
    cases, problems = [], []
    for label in labels:
        chosen = [[image for image in candidates[label.path] if image.suffix == contrast] for contrast in common]
        if not all(len(found) == 1 for found in chosen):
            problems.append(_describe_pairs(label.path, common, chosen))
            continue
        id = "_".join(filter(None, label.session)) if len(common) > 1 else stem_of(chosen[0][0].path)
        cases.append(Case(id, tuple(found[0].path for found in chosen), (label.path,), group=label.session[0]))
    used = {path for case in cases for path in case.images}
    left = sorted({image.session for image in images} - {label.session for label in labels})
    notes = [f"sessions without a label, left out: {list_some('_'.join(filter(None, each)) for each in left)}"]
    others = sorted(contrasts.keys() - set(common))
    more = [f"contrasts that not every labeled session has, left out: {', '.join(others)}"]
    return Dataset(
        name,
        root,
        "bids",
        tuple(cases),
        channels=tuple(common) if used else None,
        classes=_read_classes(root),
        problems=tuple(problems),
        notes=(*(notes if left else ()), *(more if others else ())),
    )


def _find_images(label: _File, images: Sequence[_File]) -> list[_File]:
    """Find the images of a label in its session: of its place, as far as its name says, of the contrast it names."""
    given = {key: value for key, value in label.entities.items() if key in _PLACES}
    return [
        image
        for image in images
        if all(image.entities.get(key) == value for key, value in given.items())
        and label.contrast in (None, image.suffix)
        and (label.path.parent.name not in _DATATYPES or label.path.parent.name == image.path.parent.name)
    ]


def _describe_pairs(label: Path, contrasts: Sequence[str], chosen: Sequence[Sequence[_File]]) -> Problem:
    counts = [f"{count_noun(len(found), 'image')} {name}" for name, found in zip(contrasts, chosen, strict=True)]
    action = "Leave one image of each contrast, or write a CSV table with the columns image and label."
    return Problem(str(label), f"a label with {', '.join(counts)}", "one image of each contrast", action)


def _list_files(root: Path) -> Iterator[_File]:
    for files in list_content(root).images.values():
        for path in files:
            *words, suffix = stem_of(path).split("_")
            pairs = (word.split("-", 1) for word in words if "-" in word)
            entities = {key: value for key, value in pairs}
            if "sub" in entities:
                contrast = next((word for word in words if "-" not in word), None)
                yield _File(path, entities, suffix, contrast)


def _is_label(file: _File) -> bool:
    return "label" in file.entities or "seg" in file.entities or is_label_name(Path(f"{file.suffix}.nii"))


def _read_classes(root: Path) -> dict[int, str] | None:
    """Read the names of the label values from a table `*dseg.tsv` with the columns index and name, if there is one."""
    tables = [path for place in ("", "derivatives/", "derivatives/*/") for path in root.glob(f"{place}*dseg.tsv")]
    if len(tables) != 1:
        return None
    try:
        rows = list(csv.DictReader(tables[0].read_text(encoding="utf-8-sig").splitlines(), delimiter="\t"))
        classes = {int(row["index"]): row["name"] for row in rows}
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return None
    classes = {0: "background", **classes}
    return dict(sorted(classes.items())) if len(classes) > 1 and min(classes) == 0 else None
